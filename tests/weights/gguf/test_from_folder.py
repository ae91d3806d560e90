from __future__ import annotations

import asyncio
import json
import os
import random
from contextlib import aclosing
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from redraft.engines.base import Sampling
from redraft.engines.llamacpp.engine import LlamaCppEngine
from redraft.errors import ModelError, UsageError
from redraft.options import MachineOptions
from redraft.weights import checkpoint
from redraft.weights.gguf.families import gguf_name, permute
from redraft.weights.gguf.from_folder import export_gguf
from redraft.weights.gguf.quant import QUANTS
from redraft.weights.gguf.reader import GGUFHeader, read_header
from redraft.weights.gguf.to_folder import import_gguf
from redraft.weights.output import Run
from tests.engines.talking import continued
from tests.weights.tiny_folders import ARCHITECTURES, SPECIAL, VOCABULARY, load, tiny_folder

LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "rope_theta": 5e5, "factor": 2.0}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name.lower(): (name, {}) for name in ARCHITECTURES},
    "llama tied": ("Llama", {"tie_word_embeddings": True}),
    "qwen3 tied": ("Qwen3", {"tie_word_embeddings": True}),
    "all biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "wide heads": ("Qwen3", {"head_dim": 32}),
    "one kv head": ("Llama", {"num_key_value_heads": 1}),
    "llama3 scaling": ("Llama", {"rope_parameters": LLAMA3}),
    "linear scaling": ("Qwen2", {"rope_parameters": LINEAR}),
}


def prompts() -> list[list[int]]:
    drawn = random.Random(5)
    lengths = (1, 4, 9, 30, 70, 130)
    return [[drawn.randrange(SPECIAL, VOCABULARY) for _ in range(length)] for length in lengths]


def greedy(model: Any, prompt: list[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        with torch.no_grad():
            best = model(torch.tensor([tokens])).logits[0, -1].topk(2)
        if best.values[0] - best.values[1] < 0.03:
            break
        tokens.append(int(best.indices[0]))
    return tokens[len(prompt) :]


def said_by_llamacpp(file: Path, count: int) -> list[str]:
    async def texts() -> list[str]:
        machine, how = MachineOptions(threads=1, speculate=False), Sampling(temperature=0.0, max_tokens=count)
        async with aclosing(await LlamaCppEngine.start(file, machine=machine)) as engine:
            written = [await continued(engine, each, how) for each in prompts()]
        return ["".join(delta.text for delta in deltas) for deltas in written]

    return asyncio.run(texts())


@pytest.mark.parametrize("model", MODELS)
def test_llamacpp_says_what_transformers_says(model: str, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    architecture, changes = MODELS[model]
    folder = tiny_folder(tmp_path / "hf", architecture, **changes)
    export_gguf(folder, tmp_path / "m.gguf", quant="f16")
    loaded, tokenizer = load(folder), AutoTokenizer.from_pretrained(folder)
    sure = [greedy(loaded, prompt, 8) for prompt in prompts()]
    assert sum(map(len, sure)) >= 12
    for expected, said in zip(sure, said_by_llamacpp(tmp_path / "m.gguf", 8), strict=True):
        assert said.startswith(tokenizer.decode(expected))


def header_and_bytes(file: Path) -> tuple[GGUFHeader, dict[str, bytes]]:
    header, raw = read_header(file, whole=True), file.read_bytes()
    begin = header.start
    return header, {
        tensor.name: raw[begin + tensor.offset : begin + tensor.offset + (tensor.size or 0)]
        for tensor in header.tensors.values()
    }


def in_gguf(folder: Path) -> dict[str, torch.Tensor]:
    made = {}
    for name, values in load_file(folder / "model.safetensors").items():
        theirs, heads = gguf_name(name), 4 if "q_proj" in name else 2 if "k_proj" in name else 0
        assert theirs
        made[theirs] = permute(values.float(), heads) if heads else values.float()
    return made


@pytest.mark.parametrize(
    ("quant", "dtype"),
    [*((quant, torch.bfloat16) for quant in QUANTS), ("f16", torch.float32), ("q8_0", torch.float16)],
)
def test_each_byte_is_what_ggufs_own_functions_make(quant: str, dtype: torch.dtype, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "hf", dtype=dtype)
    export_gguf(folder, tmp_path / "m.gguf", quant=quant)
    header, found = header_and_bytes(tmp_path / "m.gguf")
    expected = in_gguf(folder)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        kind = gguf.GGMLQuantizationType(header.tensors[name].kind)
        assert kind is expected_kind(name, values, quant)
        assert found[name] == gguf.quants.quantize(values.numpy(), kind).tobytes(), name
    assert header.number("general.file_type") == gguf.LlamaFileType[f"MOSTLY_{quant.upper()}"]


def expected_kind(name: str, values: torch.Tensor, quant: str) -> gguf.GGMLQuantizationType:
    if values.dim() == 1:
        return gguf.GGMLQuantizationType.F32
    if name == "output.weight" and quant.startswith("q"):
        return gguf.GGMLQuantizationType.Q8_0
    return gguf.GGMLQuantizationType[quant.upper()]


@pytest.mark.parametrize(("quant", "chunk"), [("f16", 1), ("q4_0", 5000), ("q5_1", 20000)])
def test_the_size_of_portions_changes_nothing(
    quant: str, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_folder(tmp_path / "hf", attention_bias=True)
    export_gguf(folder, tmp_path / "whole.gguf", quant=quant)
    monkeypatch.setattr(checkpoint, "CHUNK", chunk)
    export_gguf(folder, tmp_path / "portions.gguf", quant=quant)
    assert (tmp_path / "portions.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()


def test_llamacpps_own_reader_finds_the_same(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "hf", rope_parameters=LLAMA3, tie_word_embeddings=True)
    export_gguf(folder, tmp_path / "m.gguf", quant="q8_0")
    theirs = gguf.GGUFReader(tmp_path / "m.gguf")
    ours, found = header_and_bytes(tmp_path / "m.gguf")
    assert {tensor.name: tensor.data.tobytes() for tensor in theirs.tensors} == found
    assert [tensor.name for tensor in theirs.tensors] == list(ours.tensors)
    assert {key: field.contents() for key, field in theirs.fields.items() if not key.startswith("GGUF.")} == {
        key: list(value) if isinstance(value, tuple) else value for key, value in ours.metadata.items()
    }
    assert "output.weight" not in found
    factors = np.frombuffer(found["rope_freqs.weight"], np.float32)
    assert (factors[0], factors[-1]) == (1, 8)
    assert (np.diff(factors) >= 0).all()


def test_the_keys_of_a_model(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "some-model", "Qwen3")
    change(folder, redraft_format="selfee-1")
    told: list[int] = []
    run = Run(command="redraft weights gguf", progress=told.append)
    export_gguf(folder, tmp_path / "m.gguf", run, quant="q4_1")
    assert sum(told) == sum(each.nbytes for each in load_file(folder / "model.safetensors").values())
    metadata = read_header(tmp_path / "m.gguf").metadata
    general = {"architecture": "qwen3", "type": "model", "name": "some-model", "file_type": 3}
    attention = {"head_count": 4, "head_count_kv": 2, "key_length": 16, "value_length": 16}
    attention["layer_norm_rms_epsilon"] = pytest.approx(1e-6)
    sizes = {"block_count": 2, "context_length": 256, "embedding_length": 64, "feed_forward_length": 128}
    sizes |= {"rope.freq_base": 10000.0, "rope.dimension_count": 16, "vocab_size": VOCABULARY}
    said = {
        **{f"general.{key}": value for key, value in general.items()},
        **{f"qwen3.{key}": value for key, value in sizes.items()},
        **{f"qwen3.attention.{key}": value for key, value in attention.items()},
        "general.quantization_version": 2,
        "redraft.format": "selfee-1",
        "tokenizer.ggml.model": "gpt2",
    }
    assert {key: metadata.get(key) for key in said} == said
    manifest = json.loads((tmp_path / "m.gguf.redraft.json").read_bytes())
    assert (manifest["command"], manifest["quant"]) == ("redraft weights gguf", "q4_1")


def test_recommended_sampling_size_and_all_end_tokens_are_kept_there_and_back(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "some-model", "Qwen3")
    advised = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "repetition_penalty": 1.05}
    generation = advised | {"eos_token_id": [3, 5, 7], "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(generation | {"min_p": None}))
    change(folder, eos_token_id=3)
    config = json.loads((folder / "tokenizer_config.json").read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": None}))
    export_gguf(folder, tmp_path / "m.gguf")
    metadata = read_header(tmp_path / "m.gguf").metadata
    sampling = {key: value for key, value in metadata.items() if key.startswith("general.sampling.")}
    assert {key.rsplit(".")[-1]: value for key, value in sampling.items()} == pytest.approx(
        {"temp": 0.6, "top_p": 0.95, "top_k": 20, "penalty_repeat": 1.05}
    )
    count = sum(each.numel() for each in load_file(folder / "model.safetensors").values())
    assert metadata["general.size_label"] == gguf.size_label(count, 0, 0, 0)
    assert [metadata[f"tokenizer.ggml.{name}_token_id"] for name in ("eos", "eot", "eom")] == [3, 5, 7]
    import_gguf(tmp_path / "m.gguf", tmp_path / "back")
    back = json.loads((tmp_path / "back" / "generation_config.json").read_bytes())
    assert {key: back.get(key) for key in generation} == generation


# What is told, and what is refused


def change(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    config = {**json.loads(path.read_bytes()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def change_weight(folder: Path, name: str, new: torch.Tensor | None) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights[name]
    save_file(weights | ({name: new} if new is not None else {}), folder / "model.safetensors")


def said(folder: Path, file: Path, quant: str) -> tuple[list[str], list[str]]:
    told: list[str] = []
    warned: list[str] = []
    export_gguf(folder, file, Run(tell=told.append, warn=warned.append), quant=quant)
    return told, warned


def test_rows_that_are_no_blocks_stay_f16_and_that_is_told(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "hf", intermediate_size=100)
    (told,), _ = said(folder, tmp_path / "m.gguf", "q4_0")
    assert "2 of the matrices become F16. Their row length is not a multiple of 32: " in told
    assert told.endswith("blk.0.ffn_down.weight has rows of 100 values.")
    header, found = header_and_bytes(tmp_path / "m.gguf")
    assert header.tensors["blk.0.ffn_down.weight"].kind == gguf.GGMLQuantizationType.F16
    assert header.tensors["blk.0.ffn_up.weight"].kind == gguf.GGMLQuantizationType.Q4_0
    assert found["blk.1.ffn_down.weight"] == in_gguf(folder)["blk.1.ffn_down.weight"].half().numpy().tobytes()


NAME = "model.layers.0.mlp.up_proj.weight"
DAMAGED = f"2 numbers in {NAME!r} had an infinite or NaN value: the source is damaged."


def test_what_overflows_and_what_was_broken_is_a_warning(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "hf", dtype=torch.bfloat16)
    new = torch.zeros(128, 64, dtype=torch.bfloat16)
    new[0, :5] = torch.tensor([1e5, -1e6, torch.inf, torch.nan, 65000])
    change_weight(folder, NAME, new)
    lost = f"2 numbers in {NAME!r} became infinite: --quant bf16 allows larger numbers."
    assert said(folder, tmp_path / "m.gguf", "f16") == ([], [DAMAGED, lost])
    assert said(folder, tmp_path / "b.gguf", "bf16")[1] == [DAMAGED]


@pytest.mark.parametrize(("quant", "room"), [("q8_0", 127), ("q5_1", 1), ("q4_0", 8)])
def test_a_block_without_a_scale_is_lost_whole(quant: str, room: int, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "hf", dtype=torch.bfloat16)
    new = torch.zeros(128, 64, dtype=torch.bfloat16)
    new[0, 3], new[2, 40] = -60000 * room, -70000 * room
    change_weight(folder, NAME, new)
    assert said(folder, tmp_path / "m.gguf", quant)[1] == [
        f"32 numbers in {NAME!r} became infinite: --quant bf16 allows larger numbers."
    ]
    values = {each.name: each for each in gguf.GGUFReader(tmp_path / "m.gguf").tensors}["blk.0.ffn_up.weight"]
    with np.errstate(all="ignore"):
        plain = gguf.quants.dequantize(values.data, values.tensor_type)
    assert (~np.isfinite(plain)).any(axis=1).nonzero()[0].tolist() == [2]


@pytest.mark.parametrize("quant", ["q4_k_m", "Q6_K", "iq4_xs"])
def test_other_quantisations_name_their_tool(quant: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        export_gguf(tmp_path, tmp_path / "m.gguf", quant=quant)
    assert caught.value.message == f"--quant {quant} is not supported; llama.cpp's llama-quantize makes it."
    assert f"llama-quantize F16.gguf OUT.gguf {quant.upper()}" in str(caught.value.hint)
    with pytest.raises(UsageError) as caught:
        export_gguf(tmp_path, tmp_path / "m.gguf", quant="q9")
    assert "f16 bf16 q8_0 q5_1 q5_0 q4_1 q4_0" in str(caught.value.hint)


LAYER = "model.layers.1.self_attn.k_proj.weight"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architectures": ["GPTNeoXForCausalLM"]}, "architecture 'GPTNeoXForCausalLM' cannot be converted"),
        ({"architectures": "LlamaForCausalLM", "model_type": None}, "the architecture None"),
        ({"vision_config": {"x": 1}}, "a model of several parts (config.json has vision_config)"),
        ({"num_local_experts": 8}, "a mixture of experts"),
        ({"quantization_config": {"quant_method": "awq"}}, "is quantised ('awq'): it contains codes, not"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"num_hidden_layers": None}, "config.json does not set num_hidden_layers."),
        ({"num_hidden_layers": 2**31 - 1}, "but the weights have 2 (the highest index is 1)"),
        ({"num_hidden_layers": 1}, "layers 0 to 0, but the weights have 2 (the highest index is 1)"),
        ({"num_hidden_layers": 2**31}, "num_hidden_layers 2147483648, which is not a positive whole number"),
        ({"num_attention_heads": True}, "num_attention_heads True"),
        ({"num_key_value_heads": 3}, "key-value head count 3. The head size must be even"),
        ({"num_key_value_heads": 1}, "k_proj.weight is 32 × 64, but the configuration says 16 × 64"),
        ({"head_dim": 15}, "head count 4, head size 15"),
        ({"vocab_size": 300}, "model.embed_tokens.weight is 260 × 64"),
        ({"rms_norm_eps": 10**400}, "rms_norm_eps of config.json is 1000"),
        ({"rms_norm_eps": -1e-5}, "not a positive number"),
        ({"attention_bias": True}, "model.layers.0.self_attn.q_proj.bias is missing"),
        (
            {"architectures": ["Qwen3ForCausalLM"], "attention_bias": True},
            "attention_bias, which llama.cpp does not support",
        ),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "scaling of the kind 'dynamic'"),
        ({"rope_parameters": {"rope_type": ["yarn"]}}, "rotary scaling of the kind ['yarn']"),
        ({"rope_parameters": {"rope_type": "linear"}}, "factor of the rotary embedding is None"),
        ({"rope_parameters": {**LLAMA3, "low_freq_factor": 4.0}}, "4, which is not below high_freq_factor 4"),
        ({"architectures": ["Qwen2ForCausalLM"], "rope_parameters": LLAMA3}, "'llama3' for Qwen2ForCausalLM"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "a partial rotary embedding"),
        ({"rope_parameters": {"rope_theta": -1}}, "rope_theta of the rotary embedding is -1"),
        ({"rope_parameters": 7}, "rope_parameters 7, which is not an object"),
    ],
)
def test_configurations_that_are_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "hf")
    change(folder, **changes)
    refused(folder, said)


def refused(folder: Path, said: str) -> str:
    with pytest.raises(ModelError) as caught:
        export_gguf(folder, folder.parent / "m.gguf")
    assert said in caught.value.message
    assert not list(folder.parent.glob("m.gguf*")), "nothing is left behind"
    return str(caught.value.hint)


def test_old_configurations_are_read(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "hf", rope_parameters=LLAMA3)
    export_gguf(folder, tmp_path / "new.gguf")
    old = {key: value for key, value in LLAMA3.items() if key != "rope_theta"}
    change(folder, rope_parameters=None, rope_scaling=old, rope_theta=10000.0, head_dim=None)
    export_gguf(folder, tmp_path / "old.gguf")
    assert (tmp_path / "old.gguf").read_bytes() == (tmp_path / "new.gguf").read_bytes()


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "hf")
    change_weight(folder, LAYER, torch.zeros(32, 64, dtype=torch.int8))
    refused(folder, f"{LAYER!r} has the dtype I8, which cannot be converted.")
    change_weight(folder, LAYER, torch.zeros(32, 64).to(torch.float8_e4m3fn))
    refused(folder, f"{LAYER!r} has the dtype F8_E4M3, which cannot be converted.")
    change_weight(folder, LAYER, torch.zeros(32, 32, dtype=torch.float16))
    refused(folder, f"{LAYER} is 32 × 32, but the configuration says 32 × 64.")
    change_weight(folder, LAYER, None)
    refused(folder, f"{LAYER} is missing.")
    (folder / "config.json").unlink()
    refused(folder, "has no config.json")
    export_gguf(tiny_folder(tmp_path / "other"), tmp_path / "other.gguf")
    with pytest.raises(UsageError, match="is already a GGUF file"):
        export_gguf(tmp_path / "other.gguf", tmp_path / "n.gguf")


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "hf")
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    hint = refused(folder, f"{folder} is an adapter, but a model is needed.")
    assert f"redraft weights merge-lora BASE {folder} -o DIR" in hint


def test_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "hf").rename(os.fsdecode(os.fsencode(tmp_path) + b"/m\xff"))
    export_gguf(folder, tmp_path / "m.gguf")
    assert read_header(tmp_path / "m.gguf").text("general.name") == "m?"


def test_computed_tensors_of_old_checkpoints_are_left_out(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "hf")
    export_gguf(folder, tmp_path / "new.gguf")
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    save_file(weights, folder / "model.safetensors")
    export_gguf(folder, tmp_path / "old.gguf")
    assert (tmp_path / "old.gguf").read_bytes() == (tmp_path / "new.gguf").read_bytes()
