from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file

from redraft.engines.base import Sampling
from redraft.engines.llamacpp.engine import LlamaCppEngine
from redraft.errors import ModelError, UsageError
from redraft.options import MachineOptions
from redraft.weights.checkpoint import read_json
from redraft.weights.gguf.families import sizes_from_config
from redraft.weights.gguf.from_folder import export_gguf
from redraft.weights.gguf.reader import check_adapter, read_header
from redraft.weights.lora.adapter import read_adapter
from redraft.weights.lora.gguf import Half, lora_gguf, lora_weights, parts_of
from redraft.weights.lora.merge import merge_lora
from redraft.weights.output import Run
from tests.engines.talking import continued, tokens_of
from tests.weights.tiny_folders import ARCHITECTURES, LINEAR, load, lora, tiny_folder, with_adapter

EVERYTHING = [*LINEAR, "lm_head"]
SCALES: dict[str, dict[str, Any]] = {
    "plain": {},
    "output": {"target_modules": EVERYTHING},
    "rank-stabilised": {"use_rslora": True},
}
PROMPTS = [tuple((7 * i + j * (5 + i)) % 90 + 5 for j in range(12)) for i in range(6)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("base") / "llama")


@pytest.fixture(scope="module")
def plain(base: Path) -> Path:
    return lora(base, base.parent / "plain")


def tensors(file: Path) -> dict[str, torch.Tensor]:
    return {each.name: torch.tensor(each.data) for each in gguf.GGUFReader(file).tensors}


def matrix(file: Path, name: str) -> torch.Tensor:
    found = tensors(file)
    a, b = found[f"{name}.lora_a"], found[f"{name}.lora_b"]
    alpha = read_header(file).metadata["adapter.lora.alpha"]
    assert isinstance(alpha, float)
    return alpha / b.shape[1] * (b @ a)


def refusal(adapter: Path, **options: Any) -> str:
    dst = adapter.parent / "refused.gguf"
    with pytest.raises(ModelError) as caught:
        lora_gguf(adapter, dst, **options)
    assert list(dst.parent.glob("refused*")) == []
    return str(caught.value).replace(str(adapter), "ADAPTER")


# What llama.cpp makes of it


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [*(("Llama", kind) for kind in SCALES), *((each, "plain") for each in ARCHITECTURES[1:])],
)
def test_what_is_added_is_what_merging_adds(architecture: str, kind: str, tmp_path: Path) -> None:
    base = tiny_folder(tmp_path / "base", architecture)
    adapter = lora(base, tmp_path / "adapter", **SCALES[kind])
    lora_gguf(adapter, tmp_path / "adapter.gguf")
    merge_lora(base, adapter, tmp_path / "merged", dtype="F32")
    for folder in ("base", "merged"):
        export_gguf(tmp_path / folder, tmp_path / f"{folder}.gguf", quant="bf16")
    before, after = tensors(tmp_path / "base.gguf"), tensors(tmp_path / "merged.gguf")
    names = tensors(tmp_path / "adapter.gguf")
    changed = [name.removesuffix(".lora_a") for name in names if ".lora_a" in name]
    assert len(changed) == 2 * len(LINEAR) + (kind == "output")
    for name in changed:
        added = plain_numbers(after[name]) - plain_numbers(before[name])
        torch.testing.assert_close(matrix(tmp_path / "adapter.gguf", name), added, rtol=0.02, atol=0.02)


def plain_numbers(raw: torch.Tensor) -> torch.Tensor:
    return raw.contiguous().view(torch.bfloat16).float()


async def greedy(model: Path, *adapters: Path) -> list[tuple[int, ...]]:
    machine, how = MachineOptions(threads=1, ctx=64), Sampling(temperature=0, max_tokens=8)
    async with aclosing(await LlamaCppEngine.start(model, adapters, machine=machine)) as engine:
        return [tuple(tokens_of(await continued(engine, prompt, how))) for prompt in PROMPTS]


@pytest.mark.parametrize(("architecture", "f16"), [("Llama", False), ("Qwen3", True)])
def test_llama_cpp_says_what_transformers_says(architecture: str, f16: bool, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    base = tiny_folder(tmp_path / "base", architecture)
    adapter = lora(base, tmp_path / "adapter", target_modules=EVERYTHING, use_rslora=True)
    export_gguf(base, tmp_path / "base.gguf", quant="f16")
    lora_gguf(adapter, tmp_path / "adapter.gguf", base=tmp_path / "base.gguf", f16=f16)
    said = asyncio.run(greedy(tmp_path / "base.gguf", tmp_path / "adapter.gguf"))
    model = with_adapter(base, adapter)
    # llama.cpp rounds activations to 16 bits, so a close call may fall otherwise, and what follows with it.
    assert agreement(said, [spoken(model, prompt) for prompt in PROMPTS]) >= len(PROMPTS) - 2
    assert agreement(said, [spoken(load(base), prompt) for prompt in PROMPTS]) <= 1


def agreement(one: Sequence[tuple[int, ...]], other: Sequence[tuple[int, ...]]) -> int:
    return sum(here == there for here, there in zip(one, other, strict=True))


def spoken(model: Any, prompt: tuple[int, ...]) -> tuple[int, ...]:
    with torch.no_grad():
        text = model.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False)
    return tuple(text[0, len(prompt) :].tolist())


# The file


def test_the_file_says_what_it_is(base: Path, plain: Path, tmp_path: Path) -> None:
    settings = json.loads((plain / "adapter_config.json").read_text())
    (plain / "adapter_config.json").write_text(
        json.dumps(settings | {"redraft_format": "selfee-1", "redraft_certain": 0.5})
    )
    told: list[int] = []
    lora_gguf(plain, tmp_path / "a.gguf", Run(command="redraft weights lora-gguf", progress=told.append))
    export_gguf(base, tmp_path / "base.gguf")
    header = read_header(tmp_path / "a.gguf")
    check_adapter(tmp_path / "a.gguf", header, tmp_path / "base.gguf", read_header(tmp_path / "base.gguf"))
    assert header.metadata == {
        "general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora",
        "adapter.lora.alpha": 6.0, "redraft.format": "selfee-1", "redraft.certain": 0.5,
        "redraft.base": str(base),
    }  # fmt: skip
    assert sum(told) == sum(each.size or 0 for each in header.tensors.values())
    manifest = json.loads((tmp_path / "a.gguf.redraft.json").read_text())
    assert manifest["command"] == "redraft weights lora-gguf"
    assert manifest["inputs"]["adapter"]["path"] == str(plain)
    assert manifest["inputs"]["base"] == {"path": str(base)}


def test_the_base_is_a_gguf_file_or_a_folder_or_named(base: Path, plain: Path, tmp_path: Path) -> None:
    export_gguf(base, tmp_path / "base.gguf", quant="q8_0")
    for number, named in enumerate((None, base, tmp_path / "base.gguf")):
        lora_gguf(plain, tmp_path / f"{number}.gguf", base=named)
    files = [(tmp_path / f"{number}.gguf").read_bytes() for number in range(3)]
    assert files[0] == files[1] == files[2]
    said = json.loads((tmp_path / "2.gguf.redraft.json").read_text())["inputs"]["base"]
    file = tmp_path / "base.gguf"
    assert (said["path"], said["bytes"]) == (str(file), file.stat().st_size)


@pytest.mark.parametrize("heads", [0, 4])
def test_in_parts_it_is_as_in_one(plain: Path, heads: int) -> None:
    adapter = read_adapter(plain)
    half = Half("b", (64, 4), adapter.changes["model.layers.0.self_attn.q_proj"].b, factor=0.5, heads=heads)
    whole = torch.cat(list(parts_of(adapter, half)))
    for size in (1, 100, 300, 500):
        parts = list(parts_of(adapter, half, size))
        assert len(parts) > 1
        assert torch.equal(torch.cat(parts), whole)


# What has no place in it


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"modules_to_save": ["lm_head", "model.norm"]}, "has a full copy of 'lm_head.weight' and 1 more, "),
        (
            {"bias": "lora_only", "target_modules": ["q_proj"]},
            "has a full copy of 'model.layers.0.self_attn.q_proj.bias' and 1 more, ",
        ),
    ],
)
def test_what_has_no_place_is_to_be_merged(tmp_path: Path, named: dict[str, Any], said: str) -> None:
    base = tiny_folder(tmp_path / "base", "Qwen2" if "bias" in named else "Llama")
    message = refusal(lora(base, tmp_path / "adapter", **named))
    assert message.startswith(f"ADAPTER {said}which a GGUF adapter cannot store.")
    assert "redraft weights merge-lora BASE ADAPTER -o DIR" in message


def test_an_embedding_that_is_the_output_too(tmp_path: Path) -> None:
    base = tiny_folder(tmp_path / "base", tie_word_embeddings=True)
    message = refusal(lora(base, tmp_path / "adapter", target_modules=["q_proj", "lm_head"]))
    assert "uses one matrix for the input and output embeddings" in message
    assert f"redraft weights merge-lora {base} ADAPTER -o DIR" in message


def test_the_base_has_to_be_known(plain: Path, tmp_path: Path) -> None:
    settings = json.loads((plain / "adapter_config.json").read_text())
    (tmp_path / "lost").mkdir()
    save_file(load_file(plain / "adapter_model.safetensors"), tmp_path / "lost" / "adapter_model.safetensors")
    for named, said in (("org/name", "no path org/name"), (None, "config.json does not name it")):
        config = json.dumps(settings | {"base_model_name_or_path": named})
        (tmp_path / "lost" / "adapter_config.json").write_text(config)
        with pytest.raises(UsageError) as caught:
            lora_gguf(tmp_path / "lost", tmp_path / "a.gguf")
        assert f"{said}." in caught.value.message
        assert caught.value.hint is not None
        assert "--base PATH" in caught.value.hint
    with pytest.raises(UsageError, match=r"was not found: there is no path .*none"):
        lora_gguf(plain, tmp_path / "a.gguf", base=tmp_path / "none")
    assert "has no config.json" in refusal(plain, base=tmp_path)


def test_an_adapter_for_another_model(base: Path, plain: Path, tmp_path: Path) -> None:
    message = refusal(plain, base=tiny_folder(tmp_path / "other", intermediate_size=192))
    assert "does not fit the model" in message
    assert "'model.layers.0.mlp.down_proj' is 64 × 128 in the adapter and 64 × 192 in the model" in message
    export_gguf(tiny_folder(tmp_path / "short", num_hidden_layers=1), tmp_path / "short.gguf")
    message = refusal(plain, base=tmp_path / "short.gguf")
    assert "the model has no 'model.layers.1.mlp.down_proj'" in message
    (tmp_path / "config.json").write_text('{"architectures": ["MambaForCausalLM"], "model_type": "mamba"}')
    assert "'MambaForCausalLM' cannot be converted to GGUF" in refusal(plain, base=tmp_path)


def test_only_what_the_adapter_changes_is_looked_at(base: Path, plain: Path, tmp_path: Path) -> None:
    claim = {"num_hidden_layers": 10**9, "rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}
    (tmp_path / "config.json").write_text(json.dumps(json.loads((base / "config.json").read_text()) | claim))
    lora_gguf(plain, tmp_path / "a.gguf", base=tmp_path)
    assert len(tensors(tmp_path / "a.gguf")) == 2 * 2 * len(LINEAR)


# Adapters that training goes on from


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_weights_are_those_that_peft_saved(architecture: str, tmp_path: Path) -> None:
    base = tiny_folder(tmp_path / "base", architecture)
    adapter = lora(base, tmp_path / "adapter")
    lora_gguf(adapter, tmp_path / "adapter.gguf")
    found, _ = lora_weights(tmp_path / "adapter.gguf", sizes_from_config(read_json(base / "config.json")))
    saved = load_file(adapter / "adapter_model.safetensors")
    assert found.keys() == saved.keys()
    assert all(torch.equal(found[name], values.float()) for name, values in saved.items())


def test_what_changes_embeddings_is_refused(tmp_path: Path) -> None:
    base = tiny_folder(tmp_path / "base", tie_word_embeddings=False)
    lora_gguf(lora(base, tmp_path / "adapter", target_modules=["lm_head"]), tmp_path / "adapter.gguf")
    with pytest.raises(ModelError, match="changes 'output"):
        lora_weights(tmp_path / "adapter.gguf", sizes_from_config(read_json(base / "config.json")))
