"""Makes a GGUF adapter smaller: each change B·A becomes the nearest one of a lower rank.

The nearest is that of the largest singular values. What is lost is said as a share of the squares of all.
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
from redraft.weights.gguf.reader import adapter_faults, describe_file, read_header
from redraft.weights.output import BY_DEFAULT, Run, new_file

_OWN = ("general.architecture", "adapter.lora.alpha")


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
        ModelError: The file is damaged, or changes embeddings.
    """
    header = read_header(adapter, whole=True)
    for fault in adapter_faults(header):
        raise ModelError(f"{adapter} is no whole adapter: {fault}.")
    cuts = list(_cuts(TensorReader(adapter, header), rank))
    halves = [half for cut in cuts for half in ((f"{cut.name}.lora_a", cut.a), (f"{cut.name}.lora_b", cut.b))]
    old = next(iter(header.tensors.values())).shape
    keys: dict[str, Any] = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in header.metadata.items()
        if name not in _OWN
    }
    keys["adapter.lora.alpha"] = float(str(header.metadata["adapter.lora.alpha"])) * rank / old[1]
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
    return sum(cut.kept for cut in cuts) / sum(cut.whole for cut in cuts)


def _cuts(reader: TensorReader, rank: int) -> Iterator[_Cut]:
    tensors = reader.header.tensors
    for name in (name[:-7] for name in tensors if name.endswith(".lora_a")):
        a, b = (torch.from_numpy(reader.rows(tensors[f"{name}.lora_{half}"])) for half in "ab")
        if not name.startswith("blk."):
            raise ModelError(f"{reader.path} changes {name!r:.80}; only linear layers get a lower rank.")
        if a.shape[0] <= rank:
            raise UsageError(f"{reader.path} has rank {a.shape[0]}, which is not higher than {rank}.")
        yield _cut(name, a, b, rank)


def _cut(name: str, a: torch.Tensor, b: torch.Tensor, rank: int) -> _Cut:
    left, left_small = torch.linalg.qr(b)
    right, right_small = torch.linalg.qr(a.T)
    u, values, v = torch.linalg.svd(left_small @ right_small.T)
    root = values[:rank].sqrt()
    squares = values.square()
    new_a = root[:, None] * (v[:rank] @ right.T)
    return _Cut(name, new_a, left @ u[:, :rank] * root, float(squares[:rank].sum()), float(squares.sum()))
