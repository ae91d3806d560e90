"""Make checkpoints to measure on: folders in Llama's shapes with random weights, in bounded memory.

A larger model has more and wider tensors, as real ones have. The target is the base with a small noise, like
the result of training. The models cannot answer. Their tokenizer is that of the default model, because
`redraft weights gguf` needs one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GIB = 1 << 30
VOCABULARY = 49_152  # the default model's
BLOCK = 4 << 20  # elements that are made and written at a time

_WIDTHS = ((GIB // 16, 64), (GIB // 2, 512), (GIB, 2048), (2 * GIB, 3072))
_LARGEST_WIDTH = 4096


@dataclass(frozen=True)
class Scale:
    rounds: int  # pairs that are measured
    speed: int  # bytes of the checkpoint for measuring speed
    memory: tuple[int, ...]  # bytes of the checkpoints for measuring memory, ascending
    whole: int  # bytes of the checkpoint that a peer loads whole
    prompts: int  # prompts of the greedy texts
    tokens: int  # tokens of a greedy text
    quants: tuple[str, ...]  # quantisations that are compared with gguf's own
    work: Path  # a folder with room for six times the largest checkpoint


@dataclass(frozen=True)
class Pair:
    base: Path
    target: Path
    size: int


def make_pair(folder: Path, size: int) -> Pair:
    config = config_of(size)
    shapes = shapes_of(config)
    for name in ("base", "target"):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(config), "utf-8")
    total = sum(_bytes(shape) for shape in shapes.values())
    shards = list(_shards(shapes, total // 4))
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        _write_shard(folder, file, {name: shapes[name] for name in names}, seed=number)
        weight_map |= dict.fromkeys(names, file)
    index = json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map})
    for name in ("base", "target"):
        (folder / name / "model.safetensors.index.json").write_text(index, "utf-8")
    return Pair(folder / "base", folder / "target", total)


def config_of(size: int) -> dict[str, Any]:
    width = next((width for most, width in _WIDTHS if size <= most), _LARGEST_WIDTH)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama", "hidden_size": width, "intermediate_size": 3 * width,
        "num_attention_heads": width // min(128, width // 4),
        "num_key_value_heads": width // min(512, width),
        "num_hidden_layers": 1, "vocab_size": VOCABULARY, "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False,
        "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "bfloat16",
    }  # fmt: skip
    one = sum(map(_bytes, shapes_of(config).values()))
    layer = sum(map(_bytes, _layer(config, 0).values()))
    return config | {"num_hidden_layers": 1 + max(round((size - one) / layer), 0)}


def shapes_of(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    width, vocabulary = config["hidden_size"], config["vocab_size"]
    shapes: dict[str, tuple[int, ...]] = {"lm_head.weight": (vocabulary, width)}
    shapes["model.embed_tokens.weight"] = (vocabulary, width)
    for number in range(config["num_hidden_layers"]):
        shapes |= _layer(config, number)
    return shapes | {"model.norm.weight": (width,)}


def _layer(config: dict[str, Any], number: int) -> dict[str, tuple[int, ...]]:
    width, inner = config["hidden_size"], config["intermediate_size"]
    keys = width * config["num_key_value_heads"] // config["num_attention_heads"]
    shapes = {
        "input_layernorm": (width,), "mlp.down_proj": (width, inner), "mlp.gate_proj": (inner, width),
        "mlp.up_proj": (inner, width),
        "post_attention_layernorm": (width,),
        "self_attn.k_proj": (keys, width), "self_attn.o_proj": (width, width),
        "self_attn.q_proj": (width, width), "self_attn.v_proj": (keys, width),
    }  # fmt: skip
    return {f"model.layers.{number}.{name}.weight": shape for name, shape in shapes.items()}


def _bytes(shape: tuple[int, ...]) -> int:
    return 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)


def _shards(shapes: dict[str, tuple[int, ...]], limit: int) -> Iterator[list[str]]:
    names: list[str] = []
    filled = 0
    for name, shape in shapes.items():
        if names and filled + _bytes(shape) > limit:
            yield names
            names, filled = [], 0
        names.append(name)
        filled += _bytes(shape)
    yield names


def _write_shard(folder: Path, file: str, shapes: dict[str, tuple[int, ...]], seed: int) -> None:
    import torch

    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + _bytes(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "base" / file).open("wb") as base, (folder / "target" / file).open("wb") as target:
        for out in (base, target):
            out.write(len(text).to_bytes(8, "little") + text)
        random = torch.Generator().manual_seed(seed)
        for start in range(0, end // 2, BLOCK):
            block = (min(BLOCK, end // 2 - start),)
            values = (torch.randn(block, generator=random) * 0.02).bfloat16()
            noise = torch.randn(block, generator=random) * 0.002
            for out, part in ((base, values), (target, (values.float() + noise).bfloat16())):
                out.write(part.view(torch.int16).numpy().data)
        for out in (base, target):
            out.flush()
            os.fsync(out.fileno())


def add_tokenizer(folder: Path, tokenizer: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
        if (tokenizer / name).exists():
            shutil.copy(tokenizer / name, folder / name)


def make_adapter(folder: Path, config: dict[str, Any], rank: int = 16) -> Path:
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    random = torch.Generator().manual_seed(7)
    tensors = {}
    for name, shape in shapes_of(config).items():
        if "_proj" in name:
            key = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{key}.lora_A.weight"] = torch.randn((rank, shape[1]), generator=random) * 0.02
            tensors[f"{key}.lora_B.weight"] = torch.randn((shape[0], rank), generator=random) * 0.02
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    described = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted({name.split(".")[-2] for name in shapes_of(config) if "_proj" in name}),
        "base_model_name_or_path": None,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(described), "utf-8")
    return folder
