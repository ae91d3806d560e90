"""Makes a GGUF adapter smaller: each change B·A becomes the nearest one of a lower rank.

The nearest is that of the largest singular values. The loss is a share of the squares of all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch

from redraft.errors import ModelError, UsageError
from redraft.weights.gguf.families import family_in_gguf
from redraft.weights.gguf.quant import Kind, TensorReader, header_bytes, pad
from redraft.weights.gguf.reader import adapter_header, describe_file
from redraft.weights.output import BY_DEFAULT, Run, new_file


@dataclass(frozen=True)
class _Cut:
    """A change of a lower rank, with the squares of the singular values that are kept, and of all."""

    name: str
    a: torch.Tensor  # (rank, in)
    b: torch.Tensor  # (out, rank)
    kept: float
    whole: float


def lower_rank(adapter: Path, dst: Path, rank: int, run: Run = BY_DEFAULT) -> float:
    """Write a GGUF adapter with a lower rank in float16, and return the share of its squares that is kept.

    Raises:
        UsageError: It has no higher rank.
        ModelError: The file is no adapter or damaged, or changes embeddings.
    """
    header = adapter_header(adapter)
    cuts = list(_cuts(TensorReader(adapter, header), rank))
    halves = [half for cut in cuts for half in ((f"{cut.name}.lora_a", cut.a), (f"{cut.name}.lora_b", cut.b))]
    keys: dict[str, Any] = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in header.metadata.items()
        if name != "general.architecture"
    }
    family = family_in_gguf(header.text("general.architecture"))
    shapes = [(name, tuple(values.shape), Kind.F16) for name, values in halves]
    head = header_bytes(family.gguf, keys, shapes)
    size = len(head) + sum(2 * prod(shape) for _, shape, _ in shapes)
    with new_file(dst, run, manifest={"inputs": {"adapter": describe_file(adapter)}}, size=size) as file:
        file.write(head)
        for _, values in halves:
            pad(file)
            file.write(values.to(torch.float16).contiguous())
        pad(file)
    whole = sum(cut.whole for cut in cuts)
    return sum(cut.kept for cut in cuts) / whole if whole else 1.0


def _cuts(reader: TensorReader, rank: int) -> Iterator[_Cut]:
    tensors = reader.header.tensors
    alpha: Any = reader.header.metadata.get("adapter.lora.alpha")
    for name in (name.removesuffix(".lora_a") for name in tensors if name.endswith(".lora_a")):
        if not name.startswith("blk."):
            raise ModelError(f"{reader.path} changes {name!r:.80}; only linear layers get a lower rank.")
        a, b = (torch.from_numpy(reader.rows(tensors[f"{name}.lora_{half}"])) for half in "ab")
        if not (a.isfinite().all() and b.isfinite().all()):
            raise ModelError(f"{reader.path} has numbers in {name!r:.80} that are not finite.")
        if a.shape[0] <= rank:
            raise UsageError(f"{reader.path} has rank {a.shape[0]}, which is not higher than {rank}.")
        # Readers divide alpha by the rank, which changes.
        yield _cut(name, a, b * (rank / a.shape[0]) if alpha else b, rank)


def _cut(name: str, a: torch.Tensor, b: torch.Tensor, rank: int) -> _Cut:
    left, left_small = torch.linalg.qr(b)
    right, right_small = torch.linalg.qr(a.T)
    u, values, v = torch.linalg.svd(left_small @ right_small.T)
    root = values[:rank].sqrt()
    squares = values.square()
    new_a = root[:, None] * (v[:rank] @ right.T)
    return _Cut(name, new_a, left @ u[:, :rank] * root, float(squares[:rank].sum()), float(squares.sum()))
