from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import regex
import torch
from safetensors.torch import save_file

from redraft.errors import ModelError, UsageError
from redraft.weights.lora import adapter as module
from redraft.weights.lora.adapter import check_finite, read_adapter

Q = "base_model.model.model.layers.0.self_attn.q_proj"
TOKENS = "token_adapter.trainable_tokens_delta"
PLAIN = {f"{Q}.lora_A.weight": torch.ones(2, 8), f"{Q}.lora_B.weight": torch.ones(6, 2)}


def adapter(folder: Path, tensors: dict[str, torch.Tensor] | None = None, **settings: Any) -> Path:
    """Write an adapter by hand: one module of rank 2 by default."""
    folder.mkdir(exist_ok=True)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, **settings}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(PLAIN if tensors is None else tensors, folder / "adapter_model.safetensors")
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read_adapter(folder)
    return str(caught.value).replace(f"{folder}", "ADAPTER")


def scale(folder: Path, **settings: Any) -> float:
    return read_adapter(adapter(folder, **settings)).changes["model.layers.0.self_attn.q_proj"].scale


def test_a_change_says_what_it_changes_and_how_much(tmp_path: Path) -> None:
    change = read_adapter(adapter(tmp_path)).changes["model.layers.0.self_attn.q_proj"]
    assert (change.rank, change.scale, change.product) == (2, 2.0, (6, 8))


def test_the_scale_follows_the_settings(tmp_path: Path) -> None:
    assert scale(tmp_path, use_rslora=True) == pytest.approx(4 / 2**0.5)
    assert scale(tmp_path, alpha_pattern={"q_proj": 1}) == 0.5
    assert scale(tmp_path, alpha_pattern={"layers.1.self_attn.q_proj": 1}) == 2.0
    assert scale(tmp_path, alpha_pattern={r"model\.layers\.\d\.self_attn\..*": 6, "q_proj": 1}) == 3.0
    assert scale(tmp_path, alpha_pattern={"proj": 1}) == 2.0  # the end of a name, but not of a word
    assert scale(tmp_path, r=8, rank_pattern={"q_proj": 2}) == 2.0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"peft_type": "LOHA"}, "its peft_type is 'LOHA'"),
        ({"peft_type": None}, "its peft_type is None"),
        ({"lora_bias": True}, "its lora_bias asks for a bias on lora_B"),
        ({"alora_invocation_tokens": [1]}, "its alora_invocation_tokens asks for activated LoRA"),
        ({"init_lora_weights": "pissa_niter_4"}, "it was initialised by 'pissa_niter_4', which changes"),
    ],
)
def test_other_kinds_are_refused(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    message = refusal(adapter(tmp_path, **settings))
    assert message.startswith(f"ADAPTER: {said}")
    assert "which redraft does not merge.\n  Use peft: " in message
    assert "merge_and_unload()" in message


def test_ways_to_begin_that_leave_the_base_alone_are_taken(tmp_path: Path) -> None:
    for start in (True, False, "gaussian", "eva", "orthogonal"):
        assert scale(tmp_path, init_lora_weights=start) == 2.0


@pytest.mark.parametrize(
    ("tensors", "settings", "said"),
    [
        ({f"{Q}.lora_A.weight": torch.ones(2, 8)}, {}, "has no lora_B"),
        ({f"{Q}.lora_B.weight": torch.ones(6, 2)}, {}, "has no lora_A"),
        (PLAIN, {"r": 4}, "has lora_A [2, 8] and lora_B [6, 2], and adapter_config.json says rank 4"),
        (PLAIN, {"r": "2"}, "the rank '2'"),
        (PLAIN, {"r": 0}, "the rank 0"),
        (PLAIN, {"lora_alpha": None}, "the alpha None"),
        (PLAIN, {"lora_alpha": float("inf")}, "the alpha inf"),
        (PLAIN, {"lora_alpha": 10**400}, "the alpha 1000"),
        (PLAIN, {"r": 10**400}, "the rank 1000"),
        (PLAIN | {"a.base_layer.b": torch.ones(1), "a.b": torch.ones(1)}, {}, "it holds 'a.b' twice"),
        (PLAIN, {"rank_pattern": [1]}, "rank_pattern of adapter_config.json is not an object"),
        (PLAIN, {"rank_pattern": {"(": 2}}, "has the pattern '(', which is invalid"),
        (PLAIN, {"use_dora": True}, "use_dora and the tensors of"),
        (PLAIN | {f"{Q}.lora_magnitude_vector": torch.ones(6)}, {}, "use_dora and the tensors of"),
        (PLAIN | {f"{Q}.lora_magnitude_vector": torch.ones(5)}, {"use_dora": True}, "q_proj' has 5 values"),
        (PLAIN | {f"{Q}.lora_A.weight": torch.ones(2, 8).char()}, {}, "holds I8, not floats"),
        ({f"e.{TOKENS}": torch.ones(2, 8)}, {"trainable_token_indices": [5]}, "names 1 rows of 'e': [2, 8]"),
    ],
)
def test_an_adapter_that_contradicts_itself_is_refused(
    tmp_path: Path, tensors: dict[str, torch.Tensor], settings: dict[str, Any], said: str
) -> None:
    message = refusal(adapter(tmp_path, tensors, **settings))
    assert message.startswith("ADAPTER is damaged: ")
    assert said in message


def test_a_pattern_that_takes_for_ever_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATTERN_SECONDS", 0.05)
    long = "a" * 60 + "c"
    tensors = {f"{long}.lora_A.weight": torch.ones(2, 8), f"{long}.lora_B.weight": torch.ones(6, 2)}
    message = refusal(adapter(tmp_path, tensors, rank_pattern={"(a|aa)+$b": 2}))
    assert "has the pattern '(a|aa)+$b', which is invalid or takes too long" in message


def test_each_pattern_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some initialisations, such as peft's EVA, give every module its own rank: a million compilations."""
    compiled: list[str] = []
    original = regex.compile

    def counting(pattern: str, **options: Any) -> Any:
        compiled.append(pattern)
        return original(pattern, **options)

    monkeypatch.setattr(regex, "compile", counting)
    tensors = {f"m{i}.lora_{half}.weight": torch.ones(1, 1) for i in range(100) for half in "AB"}
    found = read_adapter(adapter(tmp_path, tensors, r=2, rank_pattern={f"m{i}": 1 for i in range(100)}))
    assert len(found.changes) == len(compiled) == 100


def test_patterns_without_number_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ALL_SECONDS", 0.05)
    tensors = {f"m{i}.lora_{half}.weight": torch.ones(1, 1) for i in range(100) for half in "AB"}
    message = refusal(adapter(tmp_path, tensors, rank_pattern={f"x{i}": 1 for i in range(10_000)}))
    assert "its rank_pattern has 10,000 patterns for 100 modules, too many to match in 0.05 s" in message
    assert "damaged" not in message


def test_tensors_of_unknown_kind_are_not_left_out_in_silence(tmp_path: Path) -> None:
    message = refusal(adapter(tmp_path, PLAIN | {f"{Q}.lora_diag": torch.ones(2)}))
    assert message.startswith(f"ADAPTER: it holds the tensor '{Q}.lora_diag', which redraft does not merge.")
    convolution = {f"{Q}.lora_A.weight": torch.ones(2, 8, 3), f"{Q}.lora_B.weight": torch.ones(6, 2, 1)}
    assert "has a lora_A of shape [2, 8, 3]" in refusal(adapter(tmp_path, convolution))


def test_a_folder_that_is_no_adapter(tmp_path: Path) -> None:
    assert refusal(tmp_path) == (
        "ADAPTER is not an adapter: it has no adapter_config.json.\n"
        "  Name the folder that peft's save_pretrained wrote."
    )
    assert refusal(adapter(tmp_path, {})) == "ADAPTER changes nothing: it holds no tensors."


def test_values_that_are_not_finite_are_found(tmp_path: Path) -> None:
    bad = torch.ones(6, 2)
    bad[0, 0], bad[1, 1] = torch.nan, torch.inf
    found = read_adapter(adapter(tmp_path, PLAIN | {f"{Q}.lora_B.weight": bad}))
    with pytest.raises(ModelError, match=rf"2 values of '{Q}.lora_B.weight' are infinite or NaN"):
        check_finite(found)


def test_a_pickle_is_read_only_when_allowed(tmp_path: Path) -> None:
    adapter(tmp_path)
    (tmp_path / "adapter_model.safetensors").unlink()
    torch.save(PLAIN, tmp_path / "adapter_model.bin")
    with pytest.raises(UsageError, match="is a pickle"):
        read_adapter(tmp_path)
    assert len(read_adapter(tmp_path, allow_pickle=True).changes) == 1


def test_rows_and_columns_of_a_matrix(tmp_path: Path) -> None:
    b = torch.arange(12.0).reshape(6, 2)
    found = read_adapter(adapter(tmp_path, PLAIN | {f"{Q}.lora_B.weight": b}))
    info = found.changes["model.layers.0.self_attn.q_proj"].b
    assert torch.equal(found.rows(info, 1, 4), b[1:4])
    assert torch.equal(found.rows(info, 0, 2, turned=True), b.T)
    assert torch.equal(found.rows(info, 1, 2, turned=True), b.T[1:2])
