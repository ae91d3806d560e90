"""Writes the header of a GGUF file, and the padding between its tensors.

The gguf package makes the header. The caller writes the tensors in parts, because the package's writer needs
whole tensors in memory.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from gguf import GGUFValueType, GGUFWriter
from gguf.gguf_writer import WriterState

from redraft.weights.gguf.quant import Kind, size_of
from redraft.weights.gguf.reader import DEFAULT_ALIGNMENT
from redraft.weights.writer import FileWriter


def header_bytes(
    architecture: str, metadata: Mapping[str, Any], tensors: Iterable[tuple[str, tuple[int, ...], Kind]]
) -> bytes:
    """Return the bytes before the tensors: keys, then names, shapes and offsets.

    Values of `metadata` are of type bool, int (u32), float (f32), str, or a list of one of the last three (i32
    for ints). Empty texts and lists are left out: an empty list has no type. Shapes are rows first.
    """
    writer = GGUFWriter(None, architecture)
    for key, value in metadata.items():
        if value not in ("", []):
            writer.add_key_value(key, value, _type_of(value))
    for name, shape, kind in tensors:
        writer.add_tensor_info(name, shape, np.dtype(np.float32), size_of(shape, kind), raw_dtype=kind)
    made = io.BytesIO()
    # The writer can only open files by name, so it gets an open one.
    writer.fout, writer.state = [made], WriterState.EMPTY  # type: ignore[list-item]
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    return made.getvalue()


def pad(file: FileWriter) -> None:
    """Write zeros up to the start of the next tensor."""
    file.write(bytes(-file.size % DEFAULT_ALIGNMENT))


def _type_of(value: Any) -> GGUFValueType:
    match value:
        case bool():
            return GGUFValueType.BOOL
        case int():
            return GGUFValueType.UINT32
        case float():
            return GGUFValueType.FLOAT32
        case str():
            return GGUFValueType.STRING
    return GGUFValueType.ARRAY
