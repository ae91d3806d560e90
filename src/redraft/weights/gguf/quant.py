"""Number formats of GGUF: what each tensor becomes, and the arithmetic, some rows at a time.

The arithmetic is the gguf package's own. Blocks of 32 lie within a row, so rows can be dealt with in any
portions. K-quants are read (gguf undoes them), and not made (it cannot): llama-quantize makes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType, quants

from redraft.errors import ModelError, UsageError
from redraft.weights.checkpoint import CHUNK
from redraft.weights.losses import not_finite

if TYPE_CHECKING:
    from pathlib import Path

    from redraft.weights.gguf.reader import GGUFHeader, Tensor

Kind = GGMLQuantizationType
Rows = np.ndarray[Any, np.dtype[np.float32]]
Raw = np.ndarray[Any, np.dtype[np.uint8]]

BLOCK = 32
# What a block begins with: one scale of 16 bits, or as here. A plain number is a block of one.
_SCALES = {
    Kind.F32: (torch.float32, 1),
    Kind.BF16: (torch.bfloat16, 1),
    Kind.Q4_1: (torch.float16, 2),
    Kind.Q5_1: (torch.float16, 2),
}


@dataclass(frozen=True)
class Quant:
    """What a user asks for.

    Attributes:
        name: As it is typed: `q8_0`.
        kind: The format of the matrices.
        file_type: What the file calls itself in `general.file_type`.
    """

    name: str
    kind: Kind
    file_type: LlamaFileType


QUANTS = {
    each.name: each
    for each in (
        Quant("f16", Kind.F16, LlamaFileType.MOSTLY_F16),
        Quant("bf16", Kind.BF16, LlamaFileType.MOSTLY_BF16),
        Quant("q8_0", Kind.Q8_0, LlamaFileType.MOSTLY_Q8_0),
        Quant("q5_1", Kind.Q5_1, LlamaFileType.MOSTLY_Q5_1),
        Quant("q5_0", Kind.Q5_0, LlamaFileType.MOSTLY_Q5_0),
        Quant("q4_1", Kind.Q4_1, LlamaFileType.MOSTLY_Q4_1),
        Quant("q4_0", Kind.Q4_0, LlamaFileType.MOSTLY_Q4_0),
    )
}


def quant_named(name: str) -> Quant:
    """What `--quant NAME` asks for.

    Raises:
        UsageError: It is a K- or IQ-quant, which llama.cpp's own tool makes, or nothing known.
    """
    if found := QUANTS.get(name.lower()):
        return found
    if "_k" in name.lower() or name.lower().startswith(("iq", "tq", "mxfp")):
        raise UsageError(
            f"--quant {name} is made by llama.cpp's llama-quantize, not here.",
            hint=f"Make a file with --quant f16, then: llama-quantize F16.gguf OUT.gguf {name.upper()}",
        )
    raise UsageError(f"--quant {name} is not known.", hint="Those are: " + " ".join(QUANTS))


def kind_for(name: str, shape: tuple[int, ...], quant: Quant, *, tied: bool) -> Kind:
    """The format of one tensor.

    Vectors (norms, biases) are F32, as llama.cpp needs them. A matrix whose rows do not divide into blocks of
    32 is F16. The matrix that makes the output is Q8_0 at least: llama-quantize spends more bits on it too,
    as its errors go straight into the probabilities.

    Args:
        name: In GGUF.
        shape: Rows first.
        quant: What was asked for.
        tied: Whether the embedding makes the output.
    """
    if len(shape) < 2:
        return Kind.F32
    if quant.kind in (Kind.F16, Kind.BF16):
        return quant.kind
    if shape[-1] % BLOCK:
        return Kind.F16
    makes_output = name == ("token_embd.weight" if tied else "output.weight")
    return Kind.Q8_0 if makes_output else quant.kind


def portions(rows: int, row: int, heads: int = 0) -> Iterator[tuple[int, int]]:
    """Where to cut a tensor into about `CHUNK` bytes of 32-bit values: first and last row of each portion.

    Args:
        rows: How many rows it has.
        row: Elements of a row.
        heads: In how many heads the rows are permuted: cuts are between heads then. 0 if they are not.
    """
    unit = rows // heads if heads else 1
    step = max(CHUNK // (4 * row * unit), 1) * unit
    yield from pairwise([*range(0, rows, step), rows])


def size_of(shape: tuple[int, ...], kind: Kind) -> int:
    """Bytes of a tensor."""
    elements, size = GGML_QUANT_SIZES[kind]
    return prod(shape) // elements * size


def quantize(rows: Rows, kind: Kind) -> Raw:
    """Values in a number format, as the bytes of a file.

    Args:
        rows: Shape (rows, elements).
        kind: One that a `Quant` or `kind_for` names.
    """
    # Values out of range and NaN are counted by the caller, and are no reason for numpy to print.
    with np.errstate(all="ignore"):
        return np.ascontiguousarray(quants.quantize(rows, kind)).view(np.uint8)


def lost(raw: Raw, kind: Kind) -> int:
    """How many values in the bytes of whole blocks are no numbers: all of a block whose scale is none."""
    elements, size = GGML_QUANT_SIZES[kind]
    dtype, count = _SCALES.get(kind, (torch.float16, 1))
    scales = torch.from_numpy(raw.reshape(-1, size)[:, : count * dtype.itemsize]).contiguous().view(dtype)
    if not sum(not_finite(scales)):
        return 0
    return elements * int((~scales.isfinite()).any(dim=1).sum())


def dequantize(raw: Raw, kind: Kind, row: int) -> Rows:
    """The bytes of whole rows as values of 32 bits, shape (rows, `row`).

    Raises:
        ModelError: gguf cannot undo the format.
    """
    elements, size = GGML_QUANT_SIZES[kind]
    try:
        with np.errstate(all="ignore"):
            values = quants.dequantize(raw.reshape(-1, row // elements * size), kind)
    except NotImplementedError:
        raise ModelError(
            f"the number format {kind.name} cannot be turned back into plain numbers here."
        ) from None
    return values.reshape(-1, row)


@dataclass(frozen=True)
class TensorReader:
    """Reads the tensors of a GGUF file, some rows at a time."""

    path: Path
    header: GGUFHeader

    def kind(self, tensor: Tensor) -> Kind:
        """The number format of a tensor.

        Raises:
            ModelError: It is not known.
        """
        if tensor.size is None or tensor.kind not in list(Kind):
            raise ModelError(
                f"{self.path}: {tensor.name!r:.80} is of the type {tensor.kind}, which is not known here.",
                hint="llama.cpp may know it: llama-quantize --allow-requantize FILE.gguf OUT.gguf F16",
            )
        return Kind(tensor.kind)

    def rows(self, tensor: Tensor, start: int = 0, stop: int | None = None) -> Rows:
        """Rows `start` to `stop` as values of 32 bits, shape (rows, elements); a vector is one row.

        Raises:
            ModelError: The file became shorter, or the number format is not known.
        """
        kind, row = self.kind(tensor), tensor.shape[0] if tensor.shape else 1
        return dequantize(self._raw(tensor, kind, row, start, stop), kind, row)

    def _raw(self, tensor: Tensor, kind: Kind, row: int, start: int, stop: int | None) -> Raw:
        width = size_of((row,), kind)
        count = prod(tensor.shape[1:]) if stop is None else stop
        at = self.header.start + tensor.offset + start * width
        try:
            raw = np.fromfile(self.path, np.uint8, (count - start) * width, offset=at)
        except OSError as error:
            raise ModelError(f"{self.path} cannot be read: {error.strerror or error}.") from None
        if raw.size < (count - start) * width:
            raise ModelError(f"{self.path} became shorter while it was read.")
        return raw
