"""Convert a Hugging Face folder to a GGUF file in bounded memory, for the architectures of `families`.

The checkpoint's headers determine the GGUF file's header and size, so the file is written from front to back.
Tensors are read, reordered and quantised some rows at a time while earlier rows are written.

`quant.kind_for` decides which tensors are quantised. K-quants, split files and other architectures are not
supported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGML_QUANT_VERSION, LlamaFileType, size_label

from redraft.errors import ModelError, UsageError
from redraft.weights.card import card_metadata, say_licences, sources_of
from redraft.weights.checkpoint import Checkpoint, ahead, describe, open_checkpoint, portions
from redraft.weights.folder import refuse_delta, refuse_quantised
from redraft.weights.gguf import config as keys
from redraft.weights.gguf import families
from redraft.weights.gguf import quant as ggml
from redraft.weights.gguf.quant import Kind
from redraft.weights.gguf.reader import is_gguf, read_header
from redraft.weights.header import COMPUTED, FLOATS, TensorInfo
from redraft.weights.lora.adapter import refuse_adapter
from redraft.weights.losses import Losses, not_finite
from redraft.weights.output import BY_DEFAULT, FileWriter, Progress, Run, new_file
from redraft.weights.tokenizers.to_gguf import tokenizer_metadata

ROPE_FACTORS = "rope_freqs.weight"


@dataclass(frozen=True)
class Part:
    """A tensor of the GGUF file to write."""

    name: str  # the name in GGUF
    shape: tuple[int, ...]  # rows first
    kind: Kind
    source: TensorInfo
    heads: int  # the number of heads if the rows are permuted within each head, otherwise 0

    @property
    def row(self) -> int:
        """The number of elements in a row. A vector is one row or, if permuted, one row per element."""
        return self.shape[-1] if len(self.shape) > 1 or not self.heads else 1


def export_gguf(src: Path, dst: Path, run: Run = BY_DEFAULT, *, quant: str = "f16") -> None:
    """Write a model's folder as a GGUF file with tokenizer and chat template. Write a manifest of the file.

    `quant` is f16, bf16, q8_0, q5_1, q5_0, q4_1 or q4_0. Vectors become F32. Matrices whose row length is not
    a multiple of 32 become F16, and are reported.
    """
    chosen = ggml.quant_named(quant)
    if is_gguf(src):
        read_header(src)
        hint = f"To quantise it again: llama-quantize {src} OUT.gguf Q4_K_M (llama.cpp)"
        raise UsageError(f"{src} is already a GGUF file.", hint=hint)
    checkpoint = open_checkpoint(src, allow_pickle=run.allow_pickle)
    refuse_adapter(checkpoint)
    if not (config := checkpoint.json("config.json")):
        raise ModelError(f"{checkpoint.folder} has no config.json.", hint="Name the folder that has it.")
    refuse_delta(checkpoint)
    refuse_quantised(checkpoint)
    numbers = keys.numbers_from_config(config)
    parts = _plan(checkpoint, numbers, chosen)
    metadata = {
        **_general(checkpoint, config, chosen, parts),
        **keys.sampling_metadata(checkpoint.json("generation_config.json")),
        **keys.metadata_of(numbers),
        **tokenizer_metadata(checkpoint.folder, numbers.sizes.vocabulary),
    }
    if isinstance(native := config.get("redraft_format"), str):
        metadata["redraft.format"] = native
    if odd := [part for part in parts if part.kind is Kind.F16 is not chosen]:
        run.tell(
            f"{len(odd)} of the matrices become F16. Their row length is not a multiple of {ggml.BLOCK}: "
            f"{odd[0].name} has rows of {odd[0].shape[-1]} values."
        )
    say_licences(sources_of(checkpoint.folder, "model"), run)
    divisors = b""
    entries = [(part.name, part.shape, part.kind) for part in parts]
    if numbers.rope.kind == "llama3":
        divisors = np.array(keys.rope_factors(numbers.rope, numbers.sizes.head), np.float32).tobytes()
        entries.insert(0, (ROPE_FACTORS, (numbers.sizes.head // 2,), Kind.F32))
    losses = Losses()
    facts = {"inputs": {"source": describe(checkpoint)}, "quant": chosen.name.lower()}
    head = ggml.header_bytes(numbers.sizes.family.gguf, metadata, entries)
    size = len(head) + sum(ggml.size_of(part.shape, part.kind) for part in parts)
    with new_file(dst, run, manifest=facts, size=size) as file:
        file.write(head)
        if divisors:
            ggml.pad(file)
            file.write(divisors)
        _write(file, checkpoint, parts, losses, run.progress)
    losses.say(warn=run.warn, tell=run.tell, wider="--quant bf16")


def values_of(checkpoint: Checkpoint, part: Part) -> Iterator[torch.Tensor]:
    """Yield a tensor's values in GGUF's row order and the checkpoint's dtype, shape (rows, elements)."""
    count = part.source.count // part.row
    for start, stop in portions(count, part.row, part.heads):
        rows = checkpoint.read(part.source.name, start * part.row, stop * part.row).reshape(-1, part.row)
        yield families.permute(rows, part.heads * len(rows) // count) if part.heads else rows


def _plan(checkpoint: Checkpoint, numbers: keys.ModelNumbers, quant: Kind) -> list[Part]:
    found: dict[str, TensorInfo] = {}
    for name, tensor in checkpoint.tensors.items():
        if name.endswith(COMPUTED) or (numbers.sizes.tied and name == "lm_head.weight"):
            continue
        if tensor.dtype not in FLOATS:
            raise ModelError(
                f"{checkpoint.path}: {name!r:.80} has the dtype {tensor.dtype}, which cannot be converted.",
                hint="Start from the unquantised checkpoint. " + families.OTHER_TOOL,
            )
        found[families.gguf_name(name) or name] = tensor
    sizes = numbers.sizes
    shapes = {name: tensor.shape for name, tensor in found.items()}
    families.check_tensors(sizes, shapes, str(checkpoint.path), in_hf=True)
    parts = []
    for name, shape in sizes.tensors():
        heads = families.permuted_heads(sizes.family, name, sizes.heads, sizes.kv_heads)
        kind = ggml.kind_for(name, shape, quant, tied=sizes.tied)
        parts.append(Part(name, shape, kind, found[name], heads))
    return parts


def _general(
    checkpoint: Checkpoint, config: Mapping[str, Any], quant: Kind, parts: Sequence[Part]
) -> dict[str, Any]:
    called = config.get("_name_or_path")
    # A folder's name need not be UTF-8.
    folder = checkpoint.folder.resolve().name.encode("utf-8", "replace").decode()
    return {
        "general.type": "model",
        "general.name": Path(called if isinstance(called, str) else "").name or folder,
        "general.size_label": size_label(sum(prod(part.shape) for part in parts), 0, 0, 0),
        **card_metadata(checkpoint.folder),
        "general.file_type": int(LlamaFileType[f"MOSTLY_{quant.name}"]),
        "general.quantization_version": GGML_QUANT_VERSION,
    }


def _write(
    file: FileWriter, checkpoint: Checkpoint, parts: list[Part], losses: Losses, progress: Progress
) -> None:
    written: Part | None = None
    for part, values in ahead((each, values) for each in parts for values in values_of(checkpoint, each)):
        if part is not written:
            ggml.pad(file)
        written = part
        if part.source.dtype == part.kind.name:
            losses.count(part.source.name, values, values)
            file.write(values)
        else:
            raw = ggml.quantize(values.float().numpy(), part.kind)
            odd = sum(not_finite(values))
            losses.add(part.source.name, odd=odd, infinite=ggml.lost(raw, part.kind) - odd)
            file.write(raw.reshape(-1).data)
        progress(values.nbytes)
    ggml.pad(file)
