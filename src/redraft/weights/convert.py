"""Convert a checkpoint to another dtype, or `.bin` files to safetensors. The number of files stays the same.

Values that become infinite or zero in the new dtype are counted and reported. Integers, booleans and 8-bit
floats are not converted. For GGUF, see `gguf`.
"""

from __future__ import annotations

from pathlib import Path

from redraft.weights.checkpoint import describe, open_checkpoint
from redraft.weights.folder import copy_side_files, refuse_delta, refuse_quantised, same_layout, set_dtype
from redraft.weights.lora.adapter import refuse_adapter
from redraft.weights.output import BY_DEFAULT, Run, new_folder


def convert(src: Path, dst: Path, run: Run = BY_DEFAULT, *, dtype: str | None = None) -> None:
    """Write a model's folder, or a single file of weights, as a folder of safetensors files.

    `dtype` is F32, F16, BF16, or None to keep the dtype of each tensor.
    """
    source = open_checkpoint(src, allow_pickle=run.allow_pickle)
    refuse_adapter(source)
    refuse_delta(source)
    if dtype:
        refuse_quantised(source)
    tensors = [tensor.rounded(dtype) for tensor in source.tensors.values()]
    with new_folder(dst, run, manifest={"inputs": {"source": describe(source)}, "dtype": dtype}) as out:
        copy_side_files(source, out.aside)
        set_dtype(out.aside, tensors)
        out.write_rounded(
            same_layout(source, tensors),
            lambda tensor: (source.read(tensor.name, *part) for part in source.chunks(tensor.name)),
            size=lambda tensor: source.tensors[tensor.name].size,
            count=dtype is not None,
        )
