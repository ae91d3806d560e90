"""The dtypes of tensors by their names in safetensors files.

Names and sizes do not need torch, so that a file can be described without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Name in a safetensors header -> (name in torch, bytes). Source: the safetensors format, its `Dtype` list.
_DTYPES = {
    "F64": ("float64", 8),
    "F32": ("float32", 4),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "I64": ("int64", 8),
    "I32": ("int32", 4),
    "I16": ("int16", 2),
    "I8": ("int8", 1),
    "U64": ("uint64", 8),
    "U32": ("uint32", 4),
    "U16": ("uint16", 2),
    "U8": ("uint8", 1),
    "BOOL": ("bool", 1),
    "C64": ("complex64", 8),
}
_NAMES = {torch_name: name for name, (torch_name, _) in _DTYPES.items()}

FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
"""The dtypes of weights, on which arithmetic is done."""

FLAGS = {"fp32": "F32", "fp16": "F16", "bf16": "BF16"}
"""Values of `--dtype`."""


def is_known(name: str) -> bool:
    """Return whether a dtype can be read."""
    return name in _DTYPES


def dtype_size(name: str) -> int:
    """Return the bytes of one element."""
    return _DTYPES[name][1]


def torch_dtype(name: str) -> torch.dtype:
    """Return the torch dtype of a name."""
    import torch

    dtype: torch.dtype = getattr(torch, _DTYPES[name][0])
    return dtype


def dtype_name(dtype: torch.dtype) -> str | None:
    """Return the name of a torch dtype, or None if safetensors has none."""
    return _NAMES.get(str(dtype).removeprefix("torch."))
