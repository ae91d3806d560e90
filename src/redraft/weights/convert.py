"""Converts a checkpoint to another dtype, and `.bin` to safetensors. The layout of its files is kept.

Values that become infinite or zero in the new dtype are counted and reported. Integers and booleans stay
unchanged. For GGUF see `gguf`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from redraft.weights.checkpoint import Checkpoint, describe, open_checkpoint
from redraft.weights.folder import copy_side_files, refuse_delta, refuse_quantised, same_layout, set_dtype
from redraft.weights.lora.adapter import refuse_adapter
from redraft.weights.output import BY_DEFAULT, Run, new_folder


def convert(src: Path, dst: Path, run: Run = BY_DEFAULT, *, dtype: str | None = None) -> None:
    """Write a converted checkpoint as a folder, with its configuration and tokenizer.

    Args:
        src: A folder or file.
        dst: The output folder.
        run: What all jobs share.
        dtype: `F32`, `F16` or `BF16`. None keeps the dtype of each tensor.
    """
    source = open_checkpoint(src, allow_pickle=run.allow_pickle)
    refuse_adapter(source)
    refuse_delta(source)
    if dtype:
        refuse_quantised(source)
    tensors = [tensor.rounded(dtype) for tensor in source.tensors.values()]
    facts = {"inputs": {"source": describe(source)}, "dtype": dtype}
    with new_folder(dst, run, manifest=facts) as out:
        copy_side_files(source, out.aside)
        set_dtype(out.aside, tensors)
        out.write_rounded(
            same_layout(source, tensors),
            lambda tensor: _parts(source, tensor.name, widen=dtype is not None),
            size=lambda tensor: source.tensors[tensor.name].size,
            count=dtype is not None,
        )


def _parts(source: Checkpoint, name: str, *, widen: bool) -> Iterator[torch.Tensor]:
    """Yield the values of a tensor. Torch cannot compare floats of 8 bits, so they may become float32."""
    for start, stop in source.chunks(name):
        part = source.read(name, start, stop)
        yield part.float() if widen and part.is_floating_point() and part.element_size() == 1 else part
