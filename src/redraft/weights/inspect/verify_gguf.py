"""Looks over a GGUF file: its header, where its tensors lie, and their values, dequantised piece by piece."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from redraft.errors import ModelError
from redraft.weights.gguf.quant import dequantize
from redraft.weights.gguf.reader import GGUFHeader, LongArray, Tensor, read_header
from redraft.weights.header import AGAIN
from redraft.weights.inspect.fits import gguf_adapter_faults, gguf_faults, gguf_tokenizer_faults
from redraft.weights.output import Progress

if TYPE_CHECKING:
    from redraft.weights.inspect.report import Report

PIECE = 2 << 20
"""Bytes that are dequantised at a time: up to eight times as many, and more while it is done."""

Raw = npt.NDArray[np.uint8]
_WHOLE = {"I8", "I16", "I32", "I64"}
_WITHIN = {"Q8_1", "Q8_K"}
"""Formats of llama.cpp's own arithmetic, which no file should have and gguf does not undo."""


def verify_gguf(path: Path, report: Report, progress: Progress) -> None:
    """Adds to the report what is wrong with a GGUF file.

    Raises:
        ModelError: The file cannot be read at all.
    """
    try:
        header = read_header(path, whole=True)
    except ModelError as error:
        report.findings.append(error.message)
        return
    report.files, report.tensors = 1, len(header.tensors)
    report.findings += _misplaced(header)
    if header.text("general.type") == "adapter":
        report.hold("the adapter", gguf_adapter_faults(path, header))
    else:
        report.hold("whether the tensors fit the metadata", gguf_faults(path, header))
        report.hold("the tokenizer", gguf_tokenizer_faults(header))
    known = {int(kind): kind for kind in GGMLQuantizationType}
    with path.open("rb") as file:
        for tensor in header.tensors.values():
            report.size += tensor.size or 0
            kind = known.get(tensor.kind)
            if tensor.size is None or kind is None or kind.name in _WITHIN:
                report.notes.append(f"{tensor.name!r:.80} has the type {tensor.kind}: it was not looked at")
                continue
            file.seek(header.start + tensor.offset)
            nans, infinite = _values(file, tensor, kind, progress)
            if nans or infinite:
                report.findings.append(
                    f"{tensor.name!r:.80} has {nans:,} NaN and {infinite:,} infinite values"
                )


def _misplaced(header: GGUFHeader) -> list[str]:
    """Tensors that share bytes, and a vocabulary that is not as long as its embedding."""
    found = []
    ordered = sorted(header.tensors.values(), key=lambda tensor: tensor.offset)
    for one, two in pairwise(ordered):
        if one.offset + (one.size or 0) > two.offset:
            found.append(f"{one.name!r:.80} and {two.name!r:.80} share bytes")
    table, tokens = header.tensors.get("token_embd.weight"), header.metadata.get("tokenizer.ggml.tokens")
    if table and isinstance(tokens, tuple | LongArray):
        count = tokens.length if isinstance(tokens, LongArray) else len(tokens)
        if table.shape[-1] != count:
            found.append(
                f"token_embd.weight has {table.shape[-1]:,} rows, and the vocabulary {count:,} tokens"
            )
    return found


def _values(
    file: BinaryIO, tensor: Tensor, kind: GGMLQuantizationType, progress: Progress
) -> tuple[int, int]:
    """How many values are NaN, and how many are infinite. The file stands where the tensor begins."""
    _, width = GGML_QUANT_SIZES[kind]
    nans = infinite = 0
    left = tensor.size or 0
    while left:
        raw = np.frombuffer(file.read(min(left, PIECE // width * width)), np.uint8)
        if not len(raw):
            raise ModelError(f"{file.name} became shorter while it was read.", hint=AGAIN)
        values = _floats(raw, kind)
        if not np.isfinite(values).all():
            nans, infinite = nans + int(np.isnan(values).sum()), infinite + int(np.isinf(values).sum())
        left -= len(raw)
        progress(len(raw))
    return nans, infinite


def _floats(raw: Raw, kind: GGMLQuantizationType) -> npt.NDArray[np.floating[Any]]:
    """The values of whole blocks; of whole numbers, none."""
    if kind.name == "F64":
        return raw.view(np.float64)
    if kind.name in _WHOLE:
        return np.empty(0, np.float32)
    return dequantize(raw, kind, GGML_QUANT_SIZES[kind][0])
