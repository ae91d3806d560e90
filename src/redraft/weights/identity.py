"""Tells one checkpoint from another: by a fingerprint in a moment, by checksums of all its bytes on the way.

Both are of the tensors alone, in whatever files they lie: sharding a model anew leaves them as they are, and
another dtype does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redraft.weights.header import TensorInfo

if TYPE_CHECKING:
    import torch

    from redraft.weights.checkpoint import Checkpoint

SAMPLES, SAMPLE = 4, 1024
"""How many places of a tensor a fingerprint looks at, and how many elements it reads at each."""


def fingerprint(checkpoint: Checkpoint) -> str:
    """SHA-256 over the names, dtypes and shapes of all tensors, and over samples of each.

    Training changes it. What changes a few rows or bytes alone may not: that is what checksums are for.

    Raises:
        ModelError: A file cannot be read.
    """
    digest = hashlib.sha256()
    for name in sorted(checkpoint.tensors):
        tensor = checkpoint.tensors[name]
        digest.update(f"{name}\0{tensor.dtype}\0{tensor.shape}\0".encode())
        for start in places(tensor):
            digest.update(raw_bytes(checkpoint.read(name, start, min(start + SAMPLE, tensor.count))))
    return digest.hexdigest()


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a manifest says of an input: path, contents, fingerprint, and its files as they are."""
    return {
        "path": str(checkpoint.path),
        "tensors": len(checkpoint.tensors),
        "bytes": checkpoint.size,
        "dtypes": dtypes_of(checkpoint),
        "fingerprint": fingerprint(checkpoint),
        "files": {name: _as_it_is(checkpoint.folder / name) for name in checkpoint.files},
    }


def _as_it_is(path: Path) -> list[int]:
    """Size and time of change in nanoseconds: a file that was got again since is not the same."""
    info = path.stat()
    return [info.st_size, info.st_mtime_ns]


def dtypes_of(checkpoint: Checkpoint) -> str:
    """The dtypes that its tensors have, in one line."""
    return " ".join(sorted({tensor.dtype for tensor in checkpoint.tensors.values()}))


def places(tensor: TensorInfo) -> Iterator[int]:
    """Where samples of a tensor begin, in elements: spread evenly from its first to its last."""
    last = max(tensor.count - SAMPLE, 0)
    yield from sorted({last * i // (SAMPLES - 1) for i in range(SAMPLES)})


def raw_bytes(tensor: torch.Tensor) -> memoryview:
    """The bytes of a tensor, in place where it is contiguous."""
    import torch

    return memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
