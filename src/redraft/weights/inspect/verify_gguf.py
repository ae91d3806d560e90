"""Verifies a GGUF file: its header, metadata and tokenizer, and all values, dequantised piece by piece."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from redraft.errors import ModelError
from redraft.weights.gguf.quant import dequantize
from redraft.weights.gguf.reader import Tensor, adapter_faults, read_header
from redraft.weights.header import AGAIN
from redraft.weights.inspect.fits import gguf_faults, gguf_tokenizer_faults
from redraft.weights.output import Progress

if TYPE_CHECKING:
    from redraft.weights.inspect.verify import Verdict

PIECE = 2 << 20  # bytes to dequantise at a time. The result is up to eight times as large.

Raw = npt.NDArray[np.uint8]
_WHOLE = {"I8", "I16", "I32", "I64"}
_WITHIN = {"Q8_1", "Q8_K"}
"""Types for llama.cpp's internal use, which no file should have and gguf does not dequantise."""


def verify_gguf(path: Path, report: Verdict, progress: Progress) -> None:
    """Add the faults of a GGUF file to the report."""
    try:
        header = read_header(path, whole=True)
    except ModelError as error:
        report.findings.append(error.message)
        return
    report.files, report.tensors = 1, len(header.tensors)
    if header.text("general.type") == "adapter":
        report.add([f"{path} is damaged: {fault}" for fault in adapter_faults(header)], "of that kind")
    else:
        with report.check("whether the tensors fit the metadata") as found:
            found.extend(gguf_faults(path, header))
        with report.check("the tokenizer") as found:
            found.extend(gguf_tokenizer_faults(header))
    known = {int(kind): kind for kind in GGMLQuantizationType}
    with path.open("rb") as file:
        for tensor in header.tensors.values():
            report.size += tensor.size or 0
            kind = known.get(tensor.kind)
            if tensor.size is None or kind is None or kind.name in _WITHIN:
                report.notes.append(f"{tensor.name!r:.80} has the type {tensor.kind} and was not checked")
                continue
            file.seek(header.start + tensor.offset)
            nans, infinite = _values(file, tensor, kind, progress)
            if nans or infinite:
                report.findings.append(
                    f"{tensor.name!r:.80} has {nans:,} NaN and {infinite:,} infinite values"
                )


def _values(
    file: BinaryIO, tensor: Tensor, kind: GGMLQuantizationType, progress: Progress
) -> tuple[int, int]:
    """Return how many values are NaN, and how many are infinite. The file is at the tensor's start."""
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
    """Return the values of whole blocks; none for integers, which are always finite."""
    if kind.name == "F64":
        return raw.view(np.float64)
    if kind.name in _WHOLE:
        return np.empty(0, np.float32)
    return dequantize(raw, kind, GGML_QUANT_SIZES[kind][0])
