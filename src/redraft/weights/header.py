"""Read and write the header of a safetensors file: names, shapes and offsets of tensors, but not values.

Files are untrusted. The safetensors library checks names, shapes and offsets. The library allows headers of
100 MB, but parsed JSON can take many times as much memory, so bytes and values are counted first. The largest
model, Kimi K2 with 140,000 tensors, would have a header of 20 MB in a single file.
"""

from __future__ import annotations

import json
import stat
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from redraft.errors import ModelError

if TYPE_CHECKING:
    import torch

MAX_HEADER = 64 << 20
MAX_TENSORS = 1 << 18  # tensors in a file, as for GGUF

MAX_VALUES = 1 << 22
"""The most JSON values in a header: sixteen per tensor. Parsing a header then takes up to 0.2 GB."""

MAX_DIMENSIONS = 64

COMPUTED = "rotary_emb.inv_freq"  # a buffer in old checkpoints. Models compute it from config.json.
DELTA = "redraft.delta"  # the metadata key that holds the recipe of a delta

AGAIN = "The file is damaged or incomplete: download it again."

_POINTER = b"version https://git-lfs.github.com/spec/v1"


def by(shape: Sequence[int]) -> str:
    """Return a shape as text: `6 × 8`."""
    return " × ".join(map(str, shape)) or "a single number"


def count_values(raw: bytes) -> int:
    """Return an upper bound of the number of values in JSON."""
    return 1 + sum(raw.count(mark) for mark in (b"[", b"{", b",", b":"))


def refuse_pointer(path: Path, head: bytes) -> None:
    """Raise if `head`, the first bytes of a file, is a git-lfs pointer."""
    if head.startswith(_POINTER):
        hint = f"git -C {path.parent} lfs pull"
        raise ModelError(f"{path} is a git-lfs pointer: the file itself was not fetched.", hint=hint)


@dataclass(frozen=True)
class TensorInfo:
    """The description of a tensor in a checkpoint."""

    name: str  # such as `model.layers.0.self_attn.q_proj.weight`
    dtype: str  # the name that safetensors uses: `F32`, `BF16`…
    shape: tuple[int, ...]  # in torch's order: the fastest-moving dimension last
    file: str = ""
    offset: int = 0  # bytes from the start of its file; 0 if the file is not safetensors

    @property
    def count(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self.count * dtype_size(self.dtype)

    @property
    def row(self) -> int:
        """The number of elements in a row; 1 for a vector."""
        return prod(self.shape[1:])

    def rounded(self, dtype: str | None) -> TensorInfo:
        """Return a copy with `dtype`, or `self` if `dtype` is None or `self.dtype` is not in `FLOATS`."""
        return replace(self, dtype=dtype) if dtype and self.dtype in FLOATS else self


def read_safetensors_header(path: Path) -> tuple[list[TensorInfo], Mapping[str, str]]:
    """Read the header of a safetensors file: the tensors in order of offset, and the metadata."""
    from safetensors import SafetensorError, safe_open

    try:
        size = size_of_file(path)
        with path.open("rb") as file:
            head = file.read(len(_POINTER))
            refuse_pointer(path, head)
            length = int.from_bytes(head[:8], "little")
            if len(head) < 8 or length > min(MAX_HEADER, size - 8):
                _odd(path, f"its header claims {length:,} bytes, but the file has {size:,}")
            file.seek(8)
            if count_values(file.read(length)) > MAX_VALUES:
                _odd(path, "it has more values than the header of any model")
        with safe_open(path, "numpy") as opened:
            tensors, at = [], 8 + length
            for name in opened.offset_keys():
                entry = opened.get_slice(name)
                tensor = TensorInfo(name, entry.get_dtype(), tuple(entry.get_shape()), path.name, at)
                if tensor.dtype not in _DTYPES:
                    _odd(path, f"the tensor {name!r:.80} has the unknown dtype {tensor.dtype}")
                if len(tensor.shape) > MAX_DIMENSIONS:
                    _odd(path, f"the tensor {name!r:.80} has {len(tensor.shape)} dimensions")
                tensors.append(tensor)
                at += tensor.size
            if len(tensors) > MAX_TENSORS:
                _odd(path, f"it has {len(tensors):,} tensors, more than any model")
            return tensors, opened.metadata() or {}
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from None
    except SafetensorError as error:
        cut = "not fully covered" in str(error)
        _odd(path, f"its tensors do not fill its {size:,} bytes exactly" if cut else str(error))


def size_of_file(path: Path) -> int:
    """Return the size of a file in bytes. Raise if the file is a device or a pipe."""
    info = path.stat()
    if not stat.S_ISREG(info.st_mode):
        raise ModelError(f"{path} is not a regular file.", hint=AGAIN)
    return info.st_size


def safetensors_header(tensors: Iterable[TensorInfo], metadata: Mapping[str, str]) -> bytes:
    """Return the header of a safetensors file with these tensors, padded to a multiple of eight bytes."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt", **metadata}}
    at = 0
    for tensor in tensors:
        offsets = [at, at + tensor.size]
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        at += tensor.size
    raw = json.dumps(entries, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw


def _odd(path: Path, what: str) -> NoReturn:
    raise ModelError(f"{path} is not a valid safetensors file: {what}.", hint=AGAIN)


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

FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
"""The dtypes of weights that can be rounded and added. Tensors of 8-bit floats are only copied."""

FLAGS = {"fp32": "F32", "fp16": "F16", "bf16": "BF16"}  # values of `--dtype`


def dtype_size(name: str) -> int:
    """Return the size of one element in bytes."""
    return _DTYPES[name][1]


def torch_dtype(name: str) -> torch.dtype:
    """Return the torch dtype for a safetensors dtype name."""
    import torch

    dtype: torch.dtype = getattr(torch, _DTYPES[name][0])
    return dtype


def dtype_name(dtype: torch.dtype) -> str | None:
    """Return the safetensors name of a torch dtype, or None if safetensors does not have the dtype."""
    return _NAMES.get(str(dtype).removeprefix("torch."))
