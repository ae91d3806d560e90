"""Choose the GGML type of each tensor, quantise and dequantise rows, and make the header of a file.

The gguf package quantises and dequantises. The package's writer needs whole tensors in memory, so callers of
this module write the tensors. Blocks of 32 elements lie within a row, so any number of rows can be processed
at a time. The gguf package can read K-quants, but only llama-quantize makes K-quants.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType, GGUFWriter, quants
from gguf.gguf_writer import WriterState

from redraft.errors import ModelError, UsageError
from redraft.weights.gguf.reader import DEFAULT_ALIGNMENT, GGUFHeader, Tensor

if TYPE_CHECKING:
    from redraft.weights.output import FileWriter

Kind = GGMLQuantizationType
Rows = np.ndarray[Any, np.dtype[np.float32]]
Raw = np.ndarray[Any, np.dtype[np.uint8]]

BLOCK = 32
# The number of scales at the start of a block; 1 for other types. Unquantised, each value is a block.
_SCALES = {Kind.Q4_1: 2, Kind.Q5_1: 2}
_EXPONENTS = {Kind.F32: ("<u4", 0x7F800000), Kind.BF16: ("<u2", 0x7F80)}  # other types have float16 scales
_TYPES = {
    bool: GGUFValueType.BOOL,
    int: GGUFValueType.UINT32,
    float: GGUFValueType.FLOAT32,
    str: GGUFValueType.STRING,
}

_MADE = (Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q5_1, Kind.Q5_0, Kind.Q4_1, Kind.Q4_0)
QUANTS = {kind.name.lower(): kind for kind in _MADE}  # the GGML type of matrices by value of `--quant`


def quant_named(name: str) -> Kind:
    """Return the GGML type for a value of `--quant`. For K- and IQ-quants, the error names llama-quantize."""
    if found := QUANTS.get(name.lower()):
        return found
    if "_k" in name.lower() or name.lower().startswith(("iq", "tq", "mxfp")):
        hint = f"Make a file with --quant f16, then: llama-quantize F16.gguf OUT.gguf {name.upper()}"
        raise UsageError(f"--quant {name} is not supported; llama.cpp's llama-quantize makes it.", hint=hint)
    raise UsageError(f"--quant {name} is not known.", hint="Choose one of: " + " ".join(QUANTS))


def kind_for(name: str, shape: tuple[int, ...], quant: Kind, *, tied: bool) -> Kind:
    """Choose the GGML type of the tensor with this GGUF name and this shape (rows first).

    Vectors (norms, biases) are F32, as llama.cpp requires. A matrix whose row length is not a multiple of 32
    is F16. The output matrix (the embedding, if `tied`) is at least Q8_0.
    """
    if len(shape) < 2:
        return Kind.F32
    if quant in (Kind.F16, Kind.BF16):
        return quant
    if shape[-1] % BLOCK:
        return Kind.F16
    # Rounding errors in the output matrix directly affect the probabilities.
    return Kind.Q8_0 if name == ("token_embd.weight" if tied else "output.weight") else quant


def size_of(shape: tuple[int, ...], kind: Kind) -> int:
    """Return the size of a tensor in bytes."""
    elements, size = GGML_QUANT_SIZES[kind]
    return prod(shape) // elements * size


def quantize(rows: Rows, kind: Kind) -> Raw:
    """Quantise rows of shape (rows, elements), and return the bytes to write to a file."""
    # The caller counts NaN and values out of range, so numpy need not warn.
    with np.errstate(all="ignore"):
        return np.ascontiguousarray(quants.quantize(rows, kind)).view(np.uint8)


def lost(raw: Raw, kind: Kind) -> int:
    """Count values that are not finite. If a block's scale is not finite, count all values of the block."""
    elements, size = GGML_QUANT_SIZES[kind]
    integer, exponent = _EXPONENTS.get(kind, ("<u2", 0x7C00))
    width = _SCALES.get(kind, 1) * np.dtype(integer).itemsize
    scales = np.ascontiguousarray(raw.reshape(-1, size)[:, :width]).view(integer)
    return elements * int(((scales & exponent) == exponent).any(axis=1).sum())


def dequantize(raw: Raw, kind: Kind, row: int) -> Rows:
    """Dequantise the bytes of whole rows, and return float32 values of shape (rows, `row`)."""
    elements, size = GGML_QUANT_SIZES[kind]
    try:
        with np.errstate(all="ignore"):
            values = quants.dequantize(raw.reshape(-1, row // elements * size), kind)
    except NotImplementedError:
        raise ModelError(f"the GGML type {kind.name} cannot be dequantised.") from None
    return values.reshape(-1, row)


@dataclass(frozen=True)
class TensorReader:
    """Read the tensors of a GGUF file, some rows at a time."""

    path: Path
    header: GGUFHeader

    def kind(self, tensor: Tensor) -> Kind:
        """Return the GGML type of a tensor."""
        if tensor.size is None or tensor.kind not in list(Kind):
            message = f"{self.path}: {tensor.name!r:.80} has the unknown type {tensor.kind}."
            hint = "llama.cpp may convert the file: llama-quantize --allow-requantize FILE.gguf OUT.gguf F16"
            raise ModelError(message, hint=hint)
        return Kind(tensor.kind)

    def raw(self, tensor: Tensor, start: int, stop: int) -> Raw:
        """Read the bytes of rows `start` to `stop`. A vector is one row."""
        width = size_of((tensor.shape[0] if tensor.shape else 1,), self.kind(tensor))
        at = self.header.start + tensor.offset + start * width
        try:
            raw = np.fromfile(self.path, np.uint8, (stop - start) * width, offset=at)
        except OSError as error:
            raise ModelError(f"{self.path} cannot be read: {error.strerror or error}.") from None
        if raw.size < (stop - start) * width:
            raise ModelError(f"{self.path} became shorter while it was read.")
        return raw

    def rows(self, tensor: Tensor, start: int = 0, stop: int | None = None) -> Rows:
        """Read rows `start` to `stop` as float32, shape (rows, elements). A vector is one row."""
        raw = self.raw(tensor, start, prod(tensor.shape[1:]) if stop is None else stop)
        return dequantize(raw, self.kind(tensor), tensor.shape[0] if tensor.shape else 1)


def header_bytes(
    architecture: str, metadata: Mapping[str, Any], tensors: Iterable[tuple[str, tuple[int, ...], Kind]]
) -> bytes:
    """Return a file's header: metadata, then names, shapes and offsets of tensors. Shapes are rows first.

    Values of `metadata` are of type bool, int (u32), float (f32), str, or a list of ints (i32), floats or
    strings. Empty strings and lists are left out.
    """
    writer = GGUFWriter(None, architecture)
    for key, value in metadata.items():
        if value not in ("", []):  # an empty list has no element type
            kinds = (kind for plain, kind in _TYPES.items() if isinstance(value, plain))
            writer.add_key_value(key, value, next(kinds, GGUFValueType.ARRAY))
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
    """Write zeros up to the aligned offset at which the next tensor starts."""
    file.write(bytes(-file.size % DEFAULT_ALIGNMENT))
