"""Convert a peft LoRA adapter to a GGUF adapter, which llama.cpp applies without merging, and back.

The matrices A and B of each module are written in float32, which rounds no value, or in float16. llama.cpp
scales each product B·A by one alpha for all modules, divided by the product's rank. If a module needs another
scale, B is multiplied by (needed scale / llama.cpp's scale). For q and k, the rows of B are permuted.

Biases, and modules saved whole, cannot be stored. The error then recommends `merge-lora`.
Format: llama.cpp, src/llama-adapter.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from gguf import GGMLQuantizationType as Kind

from redraft.errors import ModelError, UsageError
from redraft.weights.card import card_metadata, say_licences, sources_of
from redraft.weights.checkpoint import CHUNK, describe, portions, read_json
from redraft.weights.gguf import families
from redraft.weights.gguf.quant import TensorReader, header_bytes, pad
from redraft.weights.gguf.reader import adapter_header, check_model, describe_file, read_header
from redraft.weights.header import TensorInfo, dtype_size
from redraft.weights.lora.adapter import Change, LoraAdapter, check_finite, other_model, read_adapter, sizes
from redraft.weights.output import BY_DEFAULT, Run, new_file

_OUTPUT = "output.weight"


@dataclass(frozen=True)
class Base:
    """The model that an adapter was trained on."""

    path: Path
    facts: Mapping[str, Any]
    family: families.Family
    heads: int
    kv_heads: int
    shapes: Mapping[str, tuple[int, ...]]  # by name in GGUF, rows first


@dataclass(frozen=True)
class Half:
    """The matrix A or B of a module, as a tensor of the GGUF file."""

    name: str  # such as `blk.0.attn_q.weight.lora_b`
    shape: tuple[int, ...]  # rows first
    source: TensorInfo
    factor: float = 1.0  # multiplies the values
    heads: int = 0  # the number of heads if the rows are permuted within each head, otherwise 0


def lora_gguf(
    adapter: Path, dst: Path, run: Run = BY_DEFAULT, *, base: Path | None = None, f16: bool = False
) -> None:
    """Convert a peft adapter to a GGUF adapter.

    `base` is the model that the adapter was trained on: a folder with config.json, or a GGUF file. By
    default, `base` is the model named in the adapter's settings. With `f16`, values are rounded to float16.
    """
    lora = read_adapter(adapter, allow_pickle=run.allow_pickle)
    model = _base(lora, base)
    alpha = next((change.scale * change.rank for change in lora.changes.values() if change.scale), 1.0)
    halves = [half for change in lora.changes.values() for half in _halves(lora, model, change, alpha)]
    _check_plain(lora, model)
    check_finite(lora)
    inputs = {"adapter": describe(lora.weights), "base": model.facts}
    keys: dict[str, Any] = {
        "general.type": "adapter",
        **card_metadata(lora.folder),
        "adapter.type": "lora",
        "adapter.lora.alpha": float(alpha),
        "redraft.format": lora.format or "",
        "redraft.base": str(lora.config.get("base_model_name_or_path") or ""),
    }
    if lora.certain is not None:
        keys["redraft.certain"] = lora.certain
    kind, dtype = (Kind.F16, torch.float16) if f16 else (Kind.F32, torch.float32)
    head = header_bytes(model.family.gguf, keys, ((half.name, half.shape, kind) for half in halves))
    size = len(head) + sum(dtype.itemsize * prod(half.shape) for half in halves)
    with new_file(dst, run, manifest={"inputs": inputs}, size=size) as file:
        say_licences(sources_of(lora.folder, "adapter"), run)
        file.write(head)
        for half in halves:
            pad(file)
            for part in parts_of(lora, half):
                file.write(part.to(dtype))
                run.progress(part.numel() * dtype_size(half.source.dtype))
        pad(file)


def _check_plain(adapter: LoraAdapter, base: Base) -> None:
    found = []
    for name, info in adapter.replaced.items():
        # peft saves the output matrix of the base with its LoRA.
        frozen = info.name.endswith(".base_layer.weight")
        if not frozen or base.shapes.get(families.gguf_name(name) or "") != info.shape:
            found.append(f"a full copy of {name!r:.80}")
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        message = f"{adapter.folder} has {found[0]}{more}, which a GGUF adapter cannot store."
        hint = f"Merge it first: redraft weights merge-lora BASE {adapter.folder} -o DIR"
        raise ModelError(message, hint=hint)


def _base(adapter: LoraAdapter, given: Path | None) -> Base:
    named = adapter.config.get("base_model_name_or_path")
    path = given or (Path(named) if isinstance(named, str) and named else None)
    if path is None or not path.exists():
        sought = f"there is no path {path!s:.120}" if path else "adapter_config.json does not name it"
        raise UsageError(
            f"the base model of {adapter.folder} was not found: {sought}.",
            hint="Give the base model, as a GGUF file or a folder with config.json: --base PATH",
        )
    if path.is_dir():
        if not (config := read_json(path / "config.json")):
            hint = "Give the folder of the base model: --base PATH"
            raise ModelError(f"{path} has no config.json.", hint=hint)
        sizes = families.sizes_from_config(config)
        # Only the changed layers: a configuration may claim a billion.
        changed = (*(f"{module}.weight" for module in adapter.changes), *adapter.replaced)
        layers = families.layers_of(families.gguf_name(name) or "" for name in changed)
        shapes = dict(sizes.tensors(layer for layer in sorted(layers) if layer < sizes.layers))
        return Base(path, {"path": str(path)}, sizes.family, sizes.heads, sizes.kv_heads, shapes)
    header = read_header(path)
    check_model(path, header)
    family = families.family_in_gguf(header.text("general.architecture"))
    heads = header.number(f"{family.gguf}.attention.head_count")
    kv_heads = header.number(f"{family.gguf}.attention.head_count_kv") or heads
    if not heads or not kv_heads or heads < 0 or kv_heads < 0:
        raise ModelError(f"{path} does not state how many attention heads it has.")
    shapes = {name: tensor.shape[::-1] for name, tensor in header.tensors.items()}
    return Base(path, describe_file(path), family, heads, kv_heads, shapes)


def _halves(adapter: LoraAdapter, base: Base, change: Change, alpha: float) -> Iterator[Half]:
    name = families.gguf_name(f"{change.module}.weight") or ""
    shape = base.shapes.get(name)
    if name == _OUTPUT and shape is None:
        shared = f"{base.path} uses one matrix for the input and output embeddings"
        why = f"{shared}, and llama.cpp cannot change only one of them"
        hint = f"Merge it: redraft weights merge-lora {base.path} {adapter.folder} -o DIR"
        raise ModelError(f"{adapter.folder} changes {change.module!r:.80}, but {why}.", hint=hint)
    if shape is None:
        why = f"the model has no {change.module!r:.120}"
        raise other_model(adapter, base.path, why)
    if change.product != shape:
        raise other_model(adapter, base.path, sizes(change.module, change.product, shape))
    heads = families.permuted_heads(base.family, name, base.heads, base.kv_heads)
    if heads and shape[0] % (2 * heads):
        why = f"{shape[0]} rows of {change.module!r:.80} are not a multiple of {heads} heads"
        raise other_model(adapter, base.path, why)
    a, b, factor = change.a, change.b, change.scale * change.rank / alpha
    yield Half(f"{name}.lora_a", a.shape, a)
    yield Half(f"{name}.lora_b", b.shape, b, factor=factor, heads=heads)


def parts_of(adapter: LoraAdapter, half: Half, size: int = CHUNK) -> Iterator[torch.Tensor]:
    """Yield the values of A or B in float32, some rows at a time. Permuted rows come in whole heads."""
    rows, width = half.shape
    for start, stop in portions(rows, width, half.heads, size):
        part = adapter.rows(half.source, start, stop).float() * half.factor
        yield families.permute(part, half.heads * (stop - start) // rows) if half.heads else part


_HALVES = {".lora_a": "lora_A", ".lora_b": "lora_B"}


def lora_weights(file: Path, sizes: families.Sizes) -> tuple[dict[str, torch.Tensor], float]:
    """Return the tensors of a GGUF adapter in float32, and alpha (0 if B·A is not scaled).

    Names and shapes are as in peft: A (rank, in), B (out, rank). `sizes` describes the base model.

    Raises:
        ModelError: The file is damaged, or changes more than linear layers.
    """
    header = adapter_header(file)
    reader, found = TensorReader(file, header), {}
    for name, tensor in header.tensors.items():
        weight, half = name[:-7], _HALVES.get(name[-7:])
        module = families.hf_name(weight)
        if half is None or module is None or not weight.startswith("blk."):
            raise ModelError(f"{file} cannot be trained further, because it changes {name!r:.80}.")
        rows = torch.from_numpy(reader.rows(tensor))
        heads = 0
        if half == "lora_B":
            heads = families.permuted_heads(sizes.family, weight, sizes.heads, sizes.kv_heads)
        key = f"base_model.model.{module.removesuffix('.weight')}.{half}.weight"
        found[key] = families.unpermute(rows, heads) if heads else rows
    alpha: Any = header.metadata.get("adapter.lora.alpha")
    return found, float(alpha or 0)
