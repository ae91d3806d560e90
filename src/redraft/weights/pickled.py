"""Writes a `.bin` file, the pickled form of a checkpoint, where that is asked for. `checkpoint` reads it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from redraft.weights.dtypes import torch_dtype
from redraft.weights.header import TensorInfo, read_safetensors_header

if TYPE_CHECKING:
    import torch


def pickled(path: Path) -> Path:
    """Turns a safetensors file into a `.bin` beside it, and removes it.

    The tensors are mapped, not read: torch writes them from the file's own pages.

    Returns:
        The new file: the same name with `.bin` at its end.
    """
    import torch

    tensors = {each.name: _mapped(path, each) for each in read_safetensors_header(path).tensors}
    new = path.with_name(path.name + ".bin")
    torch.save(tensors, new)
    path.unlink()
    return new


def _mapped(path: Path, tensor: TensorInfo) -> torch.Tensor:
    import numpy as np
    import torch

    if not tensor.count:
        return torch.empty(tensor.shape, dtype=torch_dtype(tensor.dtype))
    raw = np.memmap(path, dtype=np.uint8, mode="c", offset=tensor.offset, shape=(tensor.size,))
    return torch.from_numpy(raw).view(torch_dtype(tensor.dtype)).reshape(tensor.shape)
