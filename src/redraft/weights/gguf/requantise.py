"""Rewrites a GGUF file: its matrices become Q8_0, and LoRA adapters are merged.

An engine that reads few formats exactly, or takes no adapters, reads the result. Metadata and
vectors are copied byte for byte. Needs the package gguf, which computes in numpy; torch is not needed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

from redraft.errors import ModelError
from redraft.weights.gguf.reader import DEFAULT_ALIGNMENT, GGUFHeader, Tensor, read_header

Kind = GGMLQuantizationType
Floats = np.ndarray[Any, np.dtype[np.float32]]

_BLOCK = 32
_FILE_TYPE = struct.pack("<Q", 17) + b"general.file_type" + struct.pack("<I", 4)  # a key, and the type u32
_MOSTLY_Q8_0 = 7  # its value (LlamaFileType of the gguf package)
_PART = 1 << 22  # elements that are rewritten at once


def rewrite(source: Path, target: BinaryIO, adapters: Sequence[Path] = ()) -> None:
    """Write a model with its adapters, and all matrices as Q8_0; as F16 where a row is no multiple of 32.

    The adapters fit the model (`reader.check_adapter`), and do not change the embedding, whose change is
    stored in another way.

    Raises:
        ModelError: A tensor has a type that cannot be read.
    """
    header, changes = read_header(source), list(map(_Adapter, adapters))
    kinds = {tensor.name: _kind(tensor) for tensor in header.tensors.values()}
    alignment = header.number("general.alignment") or DEFAULT_ALIGNMENT
    with source.open("rb") as file:
        target.write(_as_q8_0(file.read(header.infos)))
    offset, entries = 0, b""
    for tensor in header.tensors.values():
        kind = kinds[tensor.name]
        entries += _entry(tensor, kind, offset)
        offset += -(-_size(tensor, kind) // alignment) * alignment
    target.write(entries)
    values = _Values(source, header)
    for tensor in header.tensors.values():
        target.write(bytes(-target.tell() % alignment))
        for part in values.parts(tensor, kinds[tensor.name], changes):
            target.write(part)
    target.write(bytes(-target.tell() % alignment))


def _as_q8_0(metadata: bytes) -> bytes:
    """Return metadata that call the file's type Q8_0, if they call it anything: OpenVINO believes them."""
    before, key, after = metadata.partition(_FILE_TYPE)
    return before + key + struct.pack("<I", _MOSTLY_Q8_0) + after[4:] if key else metadata


def _kind(tensor: Tensor) -> Kind:
    if len(tensor.shape) < 2:
        return Kind(tensor.kind)
    return Kind.F16 if tensor.shape[0] % _BLOCK else Kind.Q8_0


def _entry(tensor: Tensor, kind: Kind, offset: int) -> bytes:
    name, count = tensor.name.encode(), len(tensor.shape)
    named = struct.pack("<Q", len(name)) + name
    return named + struct.pack(f"<I{count}QIQ", count, *tensor.shape, kind, offset)


def _size(tensor: Tensor, kind: Kind) -> int:
    elements, size = GGML_QUANT_SIZES[kind]
    return prod(tensor.shape) // elements * size


class _Values:
    """The values of a file's tensors."""

    def __init__(self, path: Path, header: GGUFHeader) -> None:
        self._path, self._header = path, header
        self._data = np.memmap(path, np.uint8, "r")

    def parts(self, tensor: Tensor, kind: Kind, changes: Sequence[_Adapter]) -> Iterator[Any]:
        """Yield the bytes of a tensor as this type, some rows at a time."""
        row, step = tensor.shape[0], max(_PART // tensor.shape[0], 1)
        for start in range(0, prod(tensor.shape[1:]), step):
            stop = min(start + step, prod(tensor.shape[1:]))
            raw = self._raw(tensor, start, stop)
            changed = any(tensor.name in each.names for each in changes)
            if kind == tensor.kind and not changed:
                yield raw.data
                continue
            rows = _floats(self._path, tensor, raw, row)
            for each in changes:
                rows = each.added(tensor.name, rows, start, stop)
            yield np.ascontiguousarray(quants.quantize(rows, kind)).view(np.uint8).data

    def rows(self, tensor: Tensor) -> Floats:
        """Return all values of a matrix, shape (rows, elements)."""
        return _floats(self._path, tensor, self._raw(tensor, 0, prod(tensor.shape[1:])), tensor.shape[0])

    def _raw(self, tensor: Tensor, start: int, stop: int) -> Any:
        width = (tensor.size or 0) // prod(tensor.shape[1:])
        at = self._header.start + tensor.offset
        return self._data[at + start * width : at + stop * width]


def _floats(path: Path, tensor: Tensor, raw: Any, row: int) -> Floats:
    try:
        kind = Kind(tensor.kind)
        values: Floats = quants.dequantize(np.asarray(raw).reshape(-1, raw.size), kind)
    except (ValueError, NotImplementedError):
        raise ModelError(
            f"{path}: {tensor.name!r:.80} has the ggml type {tensor.kind}, which is not read."
        ) from None
    return values.reshape(-1, row)


class _Adapter:
    """A LoRA adapter in a GGUF file: what it adds to matrices, by their names."""

    def __init__(self, path: Path) -> None:
        header = read_header(path)
        values = _Values(path, header)
        alpha = header.metadata.get("adapter.lora.alpha", 0.0)
        self._halves: Mapping[str, tuple[Floats, Floats]] = {
            name.removesuffix(".lora_a"): (
                values.rows(tensor),
                values.rows(header.tensors[name.removesuffix("a") + "b"]),
            )
            for name, tensor in header.tensors.items()
            if name.endswith(".lora_a")
        }
        self._alpha = float(alpha) if isinstance(alpha, int | float) else 0.0
        self.names = self._halves.keys()

    def added(self, name: str, rows: Floats, start: int, stop: int) -> Floats:
        """Return some rows of a matrix with what the adapter adds, as llama.cpp does."""
        if name not in self._halves:
            return rows
        a, b = self._halves[name]
        scale = self._alpha / a.shape[0] if self._alpha else 1.0
        return rows + np.float32(scale) * (b[start:stop] @ a)
