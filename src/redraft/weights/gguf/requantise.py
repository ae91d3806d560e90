"""Rewrite a GGUF file: convert matrices to Q8_0, and merge LoRA adapters.

The new file is for engines that round the values of most formats, or that support no adapters. Metadata and
vectors are copied byte for byte. The gguf package quantises in numpy, so torch is not needed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np

from redraft.weights.gguf.quant import BLOCK, Kind, Rows, TensorReader, quantize, size_of
from redraft.weights.gguf.reader import DEFAULT_ALIGNMENT, Tensor, read_header

_FILE_TYPE = struct.pack("<Q", 17) + b"general.file_type" + struct.pack("<I", 4)  # the key, and the type u32
_MOSTLY_Q8_0 = 7  # the value for Q8_0 (LlamaFileType of the gguf package)
_PART = 1 << 22  # elements that are rewritten at once

_Change = tuple[Rows, Rows, np.float32]  # A, B and the scale of an adapter's change of a matrix, scale · B·A


def rewrite(source: Path, target: BinaryIO, adapters: Sequence[Path] = ()) -> None:
    """Merge adapters into a model. Write matrices as Q8_0, or as F16 if 32 does not divide the row length.

    The caller must have checked that the adapters fit (`reader.check_adapter`). Adapters of the embedding are
    not supported.

    Raises:
        ModelError: A tensor has a type that cannot be read.
    """
    header, changes = read_header(source), list(map(_changes, adapters))
    kinds = {tensor.name: _kind(tensor) for tensor in header.tensors.values()}
    alignment = header.number("general.alignment") or DEFAULT_ALIGNMENT
    with source.open("rb") as file:
        before, key, after = file.read(header.infos).partition(_FILE_TYPE)
    # If the metadata state a file type, it becomes Q8_0, because OpenVINO relies on that key.
    target.write(before + key + struct.pack("<I", _MOSTLY_Q8_0) + after[4:] if key else before)
    offset, entries = 0, b""
    for tensor in header.tensors.values():
        kind = kinds[tensor.name]
        name, count = tensor.name.encode(), len(tensor.shape)
        entries += struct.pack("<Q", len(name)) + name
        entries += struct.pack(f"<I{count}QIQ", count, *tensor.shape, kind, offset)
        offset += -(-size_of(tensor.shape[::-1], kind) // alignment) * alignment
    target.write(entries)
    reader = TensorReader(source, header)
    for tensor in header.tensors.values():
        target.write(bytes(-target.tell() % alignment))
        for part in _parts(reader, tensor, kinds[tensor.name], changes):
            target.write(part)
    target.write(bytes(-target.tell() % alignment))


def _kind(tensor: Tensor) -> Kind:
    if len(tensor.shape) < 2:
        return Kind(tensor.kind)
    return Kind.F16 if tensor.shape[0] % BLOCK else Kind.Q8_0


def _parts(
    reader: TensorReader, tensor: Tensor, kind: Kind, adapters: Sequence[Mapping[str, _Change]]
) -> Iterator[memoryview]:
    count, step = prod(tensor.shape[1:]), max(_PART // tensor.shape[0], 1)
    changes = [adapter[tensor.name] for adapter in adapters if tensor.name in adapter]
    for start in range(0, count, step):
        stop = min(start + step, count)
        if kind == tensor.kind and not changes:
            yield reader.raw(tensor, start, stop).data
            continue
        rows = reader.rows(tensor, start, stop)
        for a, b, scale in changes:  # as llama.cpp adds them
            rows = rows + scale * (b[start:stop] @ a)
        yield quantize(rows, kind).data


def _changes(adapter: Path) -> dict[str, _Change]:
    header, found = read_header(adapter), {}
    reader, alpha = TensorReader(adapter, header), header.metadata.get("adapter.lora.alpha")
    for name in (name[:-7] for name in header.tensors if name.endswith(".lora_a")):
        a, b = (reader.rows(header.tensors[f"{name}.lora_{half}"]) for half in "ab")
        found[name] = a, b, np.float32(alpha / len(a) if isinstance(alpha, int | float) and alpha else 1.0)
    return found
