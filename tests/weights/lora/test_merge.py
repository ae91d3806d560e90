from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from redraft.errors import ModelError
from redraft.weights.checkpoint import open_checkpoint
from redraft.weights.lora.adapter import read_adapter
from redraft.weights.lora.merge import merge_lora, merged, plan_merge
from redraft.weights.output import Run
from tests.weights.model_files import load as weights
from tests.weights.tiny_folders import (
    ARCHITECTURES,
    LINEAR,
    VOCABULARY,
    load,
    logits,
    lora,
    tiny_folder,
    with_adapter,
)

tiny = partial(tiny_folder, dtype=torch.float32)
MORE = VOCABULARY + 1

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rank-stabilised": {"use_rslora": True},
    "output": {"target_modules": [*LINEAR, "lm_head"]},
    "modules saved whole": {"modules_to_save": ["embed_tokens", "lm_head", "norm"]},
    "biases": {"bias": "all"},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("base") / "llama")


@pytest.fixture(scope="module")
def plain(base: Path) -> Path:
    return lora(base, base.parent / "plain")


def refusal(base: Path, adapter: Path, **options: Any) -> str:
    dst = adapter.parent / "refused"
    with pytest.raises(ModelError) as caught:
        merge_lora(base, adapter, dst, **options)
    assert not dst.exists()
    assert not dst.with_name("refused.partial").exists()
    return str(caught.value).replace(str(base), "BASE").replace(str(adapter), "ADAPTER")


# The sum


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        *(("Llama", kind) for kind in KINDS),
        *((each, kind) for each in ARCHITECTURES[1:] for kind in ("output", "biases")),
    ],
)
def test_merged_weights_are_those_of_peft(architecture: str, kind: str, tmp_path: Path) -> None:
    base = tiny(tmp_path / "base", architecture)
    adapter = lora(base, tmp_path / "adapter", **KINDS[kind])
    merge_lora(base, adapter, tmp_path / "merged")
    ours, theirs = weights(tmp_path / "merged"), with_adapter(base, adapter).merge_and_unload().state_dict()
    assert ours.keys() == theirs.keys()
    for name, each in theirs.items():
        torch.testing.assert_close(ours[name], each, rtol=1e-6, atol=1e-6)
    says = logits(load(tmp_path / "merged"))
    torch.testing.assert_close(says, logits(with_adapter(base, adapter)), rtol=1e-3, atol=1e-3)
    assert (says - logits(load(base))).abs().max() > 1


@pytest.mark.slow
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(sorted(KINDS)), size=st.integers(1, 40_000))
def test_in_parts_it_is_as_in_one(base: Path, kind: str, size: int) -> None:
    folder = base.parent / kind
    adapter = read_adapter(folder if folder.exists() else lora(base, folder, **KINDS[kind]))
    every = plan_merge(open_checkpoint(base), adapter, None).targets.values()
    changed = [each for each in every if each.change or each.source is adapter.weights]
    for target in (changed[0], changed[-1]):
        parts = list(merged(target, adapter, size))
        assert max(part.nbytes for part in parts) <= max(size, 4 * target.info.row)
        whole = torch.cat(list(merged(target, adapter)))
        torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_it_is_rounded_once(base: Path, plain: Path, dtype: str, tmp_path: Path) -> None:
    coarse = tmp_path / "coarse"
    coarse.mkdir()
    halves = {name: (each * 16).round() / 16 for name, each in weights(plain).items()}
    save_file(halves, coarse / "adapter_model.safetensors")
    settings = json.loads((plain / "adapter_config.json").read_text()) | {"lora_alpha": 8}
    (coarse / "adapter_config.json").write_text(json.dumps(settings))
    small = tiny_folder(tmp_path / "base", dtype=getattr(torch, "bfloat16" if dtype == "BF16" else "float16"))
    merge_lora(small, coarse, tmp_path / "merged")
    name = "model.layers.1.mlp.up_proj"
    a, b = (halves[f"base_model.model.{name}.lora_{half}.weight"].double() for half in "AB")
    old, new = (weights(folder)[f"{name}.weight"] for folder in (small, tmp_path / "merged"))
    assert new.dtype == old.dtype
    assert torch.equal(new, (old.double() + 2 * b @ a).float().to(old.dtype))


def test_another_dtype_and_what_does_not_fit_it(base: Path, plain: Path, tmp_path: Path) -> None:
    told: list[str] = []
    say = Run(warn=told.append, tell=pytest.fail)
    merge_lora(base, plain, tmp_path / "half", say, dtype="F16")
    assert {each.dtype for each in weights(tmp_path / "half").values()} == {torch.float16}
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "float16"
    assert told == []
    large = tmp_path / "large.safetensors"
    norms = {name: torch.full_like(each, 9e4) for name, each in weights(base).items() if "norm" in name}
    save_file(weights(base) | norms, large)
    merge_lora(large, plain, tmp_path / "lost", say, dtype="F16")
    worst = "64 of them in 'model.layers.0.input_layernorm.weight'"
    assert told == [f"320 numbers in 5 tensors became infinite, {worst}: --dtype bf16 allows larger numbers."]


# Embeddings


@pytest.mark.parametrize(
    ("named", "tied"),
    [
        ({}, True),
        ({"target_modules": ["lm_head"]}, False),
        ({"modules_to_save": ["embed_tokens"]}, False),
        ({"modules_to_save": ["embed_tokens", "lm_head"]}, False),
        ({"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}, True),
    ],
    ids=str,
)
def test_tied_embeddings_part_only_where_the_adapter_parts_them(
    named: dict[str, Any], tied: bool, tmp_path: Path
) -> None:
    base = tiny(tmp_path / "base", tie_word_embeddings=True)
    adapter = lora(base, tmp_path / "adapter", **named)
    merge_lora(base, adapter, tmp_path / "merged")
    assert ("lm_head.weight" not in weights(tmp_path / "merged")) == tied
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["tie_word_embeddings"] == tied
    said = logits(load(tmp_path / "merged"))
    torch.testing.assert_close(said, logits(with_adapter(base, adapter)), rtol=1e-3, atol=1e-3)


def grown(plain: Path, folder: Path, **rows: int) -> Path:
    folder.mkdir()
    named = {"embed": "model.embed_tokens", "head": "lm_head"}
    more = {f"base_model.model.{named[key]}.weight": torch.ones(count, 64) for key, count in rows.items()}
    save_file(weights(plain) | more, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text((plain / "adapter_config.json").read_text())
    return folder


def test_added_tokens_make_the_vocabulary_larger(base: Path, plain: Path, tmp_path: Path) -> None:
    adapter = grown(plain, tmp_path / "grown", embed=MORE, head=MORE)
    (adapter / "tokenizer.json").write_text('{"version": "with added tokens"}')
    merge_lora(base, adapter, tmp_path / "merged")
    assert load(tmp_path / "merged").config.vocab_size == MORE
    assert "with added tokens" in (tmp_path / "merged" / "tokenizer.json").read_text()
    assert not (tmp_path / "merged" / "adapter_config.json").exists()


def test_embeddings_of_different_sizes_are_refused(base: Path, plain: Path, tmp_path: Path) -> None:
    message = refusal(base, grown(plain, tmp_path / "grown", embed=MORE))
    assert "embeddings of different sizes (" in message
    assert f"model.embed_tokens.weight: {MORE}" in message


def test_equal_embeddings_stay_tied(tmp_path: Path) -> None:
    base = tiny(tmp_path / "base", tie_word_embeddings=True)
    adapter = grown(lora(base, tmp_path / "adapter"), tmp_path / "grown", embed=MORE, head=MORE)
    merge_lora(base, adapter, tmp_path / "merged")
    assert "lm_head.weight" not in weights(tmp_path / "merged")
    assert load(tmp_path / "merged").config.vocab_size == MORE


# Files


def test_what_lies_beside_the_weights(base: Path, plain: Path, tmp_path: Path) -> None:
    settings = json.loads((plain / "adapter_config.json").read_text())
    (plain / "adapter_config.json").write_text(json.dumps(settings | {"redraft_format": "selfee-1"}))
    merge_lora(base, plain, tmp_path / "merged", Run(command="redraft weights merge-lora"))
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert (config["redraft_format"], config["hidden_size"]) == ("selfee-1", 64)
    manifest = json.loads((tmp_path / "merged" / "redraft.json").read_text())
    assert manifest["command"] == "redraft weights merge-lora"
    assert manifest["inputs"]["base"]["path"] == str(base)
    assert manifest["inputs"]["adapter"]["path"] == str(plain)
    assert set(manifest["files"]) >= {"model.safetensors", "config.json"}


def copied(folder: Path, to: Path, **more: str) -> Path:
    shutil.copytree(folder, to)
    for name, text in more.items():
        (to / name.replace("__", ".")).write_text(text)
    return to


def test_tokenizers_are_not_mixed(base: Path, plain: Path, tmp_path: Path) -> None:
    model = copied(base, tmp_path / "base", added_tokens__json="{}", generation_config__json='{"a": 1}')
    adapter = copied(plain, tmp_path / "adapter", tokenizer__model="other", chat_template__jinja="hello")
    merge_lora(model, plain, tmp_path / "bases")
    merge_lora(model, adapter, tmp_path / "adapters")
    files = {path.name for path in (tmp_path / "bases").iterdir()}
    assert {"tokenizer.json", "tokenizer_config.json", "added_tokens.json"} <= files
    files = {path.name for path in (tmp_path / "adapters").iterdir()}
    tokenizer = {"tokenizer.model", "chat_template.jinja"}
    others = {"config.json", "generation_config.json", "model.safetensors", "redraft.json", "README.md"}
    assert files == tokenizer | others
    assert (tmp_path / "adapters" / "generation_config.json").read_text() == '{"a": 1}'


def test_cards_and_licences_of_both_go_along(base: Path, plain: Path, tmp_path: Path) -> None:
    model = copied(base, tmp_path / "base", README__md="license: llama2")
    adapter = copied(plain, tmp_path / "adapter", README__md="peft", LICENSE="terms")
    (model / "LICENSES").mkdir()
    merge_lora(model, adapter, tmp_path / "merged")
    assert (tmp_path / "merged" / "README.md").read_text() == "license: llama2"
    assert (tmp_path / "merged" / "LICENSE").read_text() == "terms"


def test_the_licence_of_an_adapter_is_not_replaced(base: Path, plain: Path, tmp_path: Path) -> None:
    model = copied(base, tmp_path / "base", README__md="---\nlicense: apache-2.0\n---\n")
    merged: list[str] = []
    said: list[str] = []
    for licence in ("apache-2.0", "cc-by-nc-4.0", "unknown"):
        adapter = copied(plain, tmp_path / licence, README__md=f"---\nlicense: {licence}\n---\n")
        merge_lora(model, adapter, tmp_path / f"of {licence}", Run(tell=said.append))
        merged.append((tmp_path / f"of {licence}" / "README.md").read_text().split("\n")[1])
    assert merged == ["license: apache-2.0", "license: other", "license: other"]
    assert ["apache-2.0 (base base); " in text for text in said] == [True, True]
    assert "(adapter cc-by-nc-4.0). So the result's licence is 'other'. Commercial use is" in said[0]


# What does not fit


def test_a_weight_that_is_changed_under_two_names(base: Path, plain: Path, tmp_path: Path) -> None:
    (tmp_path / "twice").mkdir()
    halves = weights(plain)
    up = {name: each.clone() for name, each in halves.items() if "0.mlp.up" in name}
    again = {name.replace("model.model.", "model."): each for name, each in up.items()}
    save_file(halves | again, tmp_path / "twice" / "adapter_model.safetensors")
    (tmp_path / "twice" / "adapter_config.json").write_bytes((plain / "adapter_config.json").read_bytes())
    message = refusal(base, tmp_path / "twice")
    assert "two of its modules change 'model.layers.0.mlp.up_proj.weight'" in message


def test_an_adapter_of_another_model(plain: Path, tmp_path: Path) -> None:
    message = refusal(tiny(tmp_path / "narrow", hidden_size=32), plain)
    assert message.startswith("the adapter ADAPTER does not fit the model BASE: 'model.layers.")
    assert "in the adapter and " in message
    assert "\n  Use the model that the adapter was trained on: '" in message
    message = refusal(tiny(tmp_path / "short", num_hidden_layers=1), plain)
    assert "the model has no 'model.layers.1.mlp.down_proj.weight'." in message


def test_pickled_weights(base: Path, plain: Path, tmp_path: Path) -> None:
    for old, name in ((base, "pytorch_model"), (plain, "adapter_model")):
        folder = Path(shutil.copytree(old, tmp_path / name))
        torch.save(weights(old), folder / f"{name}.bin")
        next(folder.glob("*.safetensors")).unlink()
    merge_lora(tmp_path / "pytorch_model", tmp_path / "adapter_model", tmp_path / "m", Run(allow_pickle=True))
    merge_lora(base, plain, tmp_path / "n")
    assert weights(tmp_path / "m").keys() == weights(tmp_path / "n").keys()


def test_a_quantised_base(base: Path, plain: Path, tmp_path: Path) -> None:
    (tmp_path / "bytes").mkdir()
    raw = {name: each.to(torch.int8) for name, each in weights(base).items()}
    save_file(raw, tmp_path / "bytes" / "model.safetensors")
    assert "as I8, which cannot be merged." in refusal(tmp_path / "bytes", plain)


def test_an_adapter_is_no_base(plain: Path) -> None:
    assert refusal(plain, plain).startswith("BASE is an adapter, but a model is needed.")
