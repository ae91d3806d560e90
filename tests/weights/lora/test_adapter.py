from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from redraft.errors import ModelError, UsageError
from redraft.weights.lora.adapter import check_finite, read_adapter

Q = "base_model.model.model.layers.0.self_attn.q_proj"
PLAIN = {f"{Q}.lora_A.weight": torch.ones(2, 8), f"{Q}.lora_B.weight": torch.ones(6, 2)}


def adapter(folder: Path, tensors: dict[str, torch.Tensor] | None = None, **settings: Any) -> Path:
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


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"peft_type": "LOHA"}, "its peft_type is 'LOHA'"),
        ({"use_dora": True}, "its use_dora asks for DoRA"),
        ({"rank_pattern": {"q_proj": 2}}, "its rank_pattern asks for ranks by pattern"),
        ({"trainable_token_indices": [3]}, "its trainable_token_indices asks for trained tokens"),
        ({"alora_invocation_tokens": [1]}, "its alora_invocation_tokens asks for activated LoRA"),
        ({"init_lora_weights": "pissa_niter_4"}, "it was initialised by 'pissa_niter_4' and changes"),
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
        (PLAIN, {"r": 4}, "lora_B [6, 2], which do not fit the rank 4 in adapter_config.json"),
        (PLAIN, {"r": "2"}, "the rank '2'"),
        (PLAIN, {"r": 0}, "the rank 0"),
        (PLAIN, {"lora_alpha": None}, "the alpha None"),
        (PLAIN, {"lora_alpha": float("inf")}, "the alpha inf"),
        (PLAIN, {"lora_alpha": 10**400}, "the alpha 1000"),
        (PLAIN, {"r": 10**400}, "the rank 1000"),
        (PLAIN | {"a.base_layer.b": torch.ones(1), "a.b": torch.ones(1)}, {}, "it contains 'a.b' twice"),
        (PLAIN | {f"{Q}.lora_A.weight": torch.ones(2, 8).char()}, {}, "contains I8, not floats"),
    ],
)
def test_an_adapter_that_contradicts_itself_is_refused(
    tmp_path: Path, tensors: dict[str, torch.Tensor], settings: dict[str, Any], said: str
) -> None:
    message = refusal(adapter(tmp_path, tensors, **settings))
    assert message.startswith("ADAPTER is damaged: ")
    assert said in message


def test_tensors_of_unknown_kind_are_not_left_out_in_silence(tmp_path: Path) -> None:
    message = refusal(adapter(tmp_path, PLAIN | {f"{Q}.lora_diag": torch.ones(2)}))
    assert message.startswith(f"ADAPTER: it contains the tensor '{Q}.lora_diag', which redraft does not")
    embedding = {"e.lora_embedding_A": torch.ones(2, 8), "e.lora_embedding_B": torch.ones(6, 2)}
    assert "it contains the tensor 'e.lora_embedding_A'" in refusal(adapter(tmp_path, embedding))
    convolution = {f"{Q}.lora_A.weight": torch.ones(2, 8, 3), f"{Q}.lora_B.weight": torch.ones(6, 2, 1)}
    assert "has a lora_A of shape [2, 8, 3]" in refusal(adapter(tmp_path, convolution))


def test_a_folder_that_is_no_adapter(tmp_path: Path) -> None:
    assert refusal(tmp_path) == (
        "ADAPTER is not an adapter: it has no adapter_config.json.\n"
        "  Name the folder that peft's save_pretrained wrote."
    )
    assert refusal(adapter(tmp_path, {})) == "ADAPTER changes nothing: it contains no tensors."


def test_values_that_are_not_finite_are_found(tmp_path: Path) -> None:
    bad = torch.ones(6, 2)
    bad[0, 0], bad[1, 1] = torch.nan, torch.inf
    found = read_adapter(adapter(tmp_path, PLAIN | {f"{Q}.lora_B.weight": bad}))
    with pytest.raises(ModelError, match=rf"'{Q}.lora_B.weight' contains infinite or NaN values \(2\)"):
        check_finite(found)


def test_a_pickle_is_read_only_when_allowed(tmp_path: Path) -> None:
    adapter(tmp_path)
    (tmp_path / "adapter_model.safetensors").unlink()
    torch.save(PLAIN, tmp_path / "adapter_model.bin")
    with pytest.raises(UsageError, match="is a pickle"):
        read_adapter(tmp_path)
    assert len(read_adapter(tmp_path, allow_pickle=True).changes) == 1
