"""Identifies a checkpoint by a fingerprint, which reads samples of its tensors only.

The fingerprint covers tensors, not files: another dtype changes it, other shards do not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from redraft.weights.header import TensorInfo

if TYPE_CHECKING:
    import torch

    from redraft.weights.checkpoint import Checkpoint

SAMPLES, SAMPLE = 4, 1024
"""Places sampled in each tensor, and elements read at each place."""


def fingerprint(checkpoint: Checkpoint) -> str:
    """Return the SHA-256 of names, dtypes and shapes of all tensors, and of samples of each.

    Training changes it. A change of a few rows or bytes may go unnoticed; checksums detect that.

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
    """Return the manifest's entry for an input: path, contents, fingerprint and files."""
    files = {file: (checkpoint.folder / file).stat() for file in checkpoint.files}
    return {
        "path": str(checkpoint.path),
        "tensors": len(checkpoint.tensors),
        "bytes": checkpoint.size,
        "dtypes": dtypes_of(checkpoint),
        "fingerprint": fingerprint(checkpoint),
        # With the time of modification, in nanoseconds, a replaced file counts as another.
        "files": {file: [info.st_size, info.st_mtime_ns] for file, info in files.items()},
    }


def dtypes_of(checkpoint: Checkpoint) -> str:
    """Return the dtypes of all tensors, separated by spaces."""
    return " ".join(sorted({tensor.dtype for tensor in checkpoint.tensors.values()}))


def places(tensor: TensorInfo) -> Iterator[int]:
    """Yield the first element of each sample, spread evenly over a tensor."""
    last = max(tensor.count - SAMPLE, 0)
    yield from sorted({last * i // (SAMPLES - 1) for i in range(SAMPLES)})


def raw_bytes(tensor: torch.Tensor) -> memoryview:
    """Return the bytes of a tensor, without a copy if it is contiguous."""
    import torch

    return memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
