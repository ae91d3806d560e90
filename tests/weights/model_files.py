"""Write and read small checkpoints with safetensors and torch, not with the tested code."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

Tensors = Mapping[str, torch.Tensor]

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
EIGHT_BITS = (torch.float8_e4m3fn, torch.float8_e5m2)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)

WIDTH, VOCABULARY, LAYERS = 16, 48, 2
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama", "hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": LAYERS,
    "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": VOCABULARY,
    "max_position_embeddings": 64, "torch_dtype": "bfloat16",
}  # fmt: skip


def save(folder: Path, tensors: Tensors, *, files: int = 1, config: Mapping[str, Any] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    files = max(min(files, len(tensors)), 1)
    groups = [list(tensors)[i::files] for i in range(files)]
    if len(groups) == 1:
        save_file(dict(tensors), folder / "model.safetensors")
    else:
        names = [f"model-{i:05}-of-{len(groups):05}.safetensors" for i in range(1, len(groups) + 1)]
        for name, group in zip(names, groups, strict=True):
            save_file({key: tensors[key] for key in group}, folder / name)
        weight_map = {key: name for name, group in zip(names, groups, strict=True) for key in group}
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def save_bin(folder: Path, tensors: Tensors) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(dict(tensors), folder / "pytorch_model.bin")
    return folder


def saved(value: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def load(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= load_file(file)
    return found


def bits(shape: Sequence[int], dtype: torch.dtype, seed: int) -> torch.Tensor:
    drawn = torch.Generator().manual_seed(seed)
    if dtype == torch.bool:
        return torch.randint(0, 2, tuple(shape), generator=drawn, dtype=torch.uint8).to(torch.bool)
    size = torch.empty((), dtype=dtype).element_size()
    raw = torch.randint(0, 256, (torch.Size(shape).numel() * size,), generator=drawn, dtype=torch.uint8)
    return raw.view(dtype).reshape(tuple(shape))


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))


def same_model(one: Tensors, other: Tensors) -> bool:
    return set(one) == set(other) and all(same_bits(one[name], other[name]) for name in one)


def llama(
    seed: int = 0, dtype: torch.dtype = torch.bfloat16, rows: int = VOCABULARY
) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    made = LlamaForCausalLM(LlamaConfig(**CONFIG | {"vocab_size": rows}))
    for values in made.parameters():
        torch.nn.init.normal_(values, std=0.02)
    return dict(made.to(dtype).state_dict())


def tuned(base: Tensors, by: float = 0.001) -> dict[str, torch.Tensor]:
    drawn = torch.Generator().manual_seed(1)
    return {
        name: (values.float() + torch.randn(values.shape, generator=drawn) * by).to(values.dtype)
        for name, values in base.items()
    }
