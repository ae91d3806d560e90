"""Makes a GGUF adapter smaller, or mixes two: each change B·A becomes the nearest one of a lower rank.

The nearest is that of the largest singular values. The loss is a share of the squares of all. A
mix is the weighted mean of the changes of two adapters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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

_ALPHA = "adapter.lora.alpha"


@dataclass(frozen=True)
class _Cut:
    """A change of a lower rank, with the squares of the singular values that are kept, and of all."""

    name: str
    a: torch.Tensor  # (rank, in)
    b: torch.Tensor  # (out, rank)
    kept: float
    whole: float


def lower_rank(
    adapter: Path,
    dst: Path,
    rank: int,
    run: Run = BY_DEFAULT,
    *,
    mixed: Path | None = None,
    share: float = 0.5,
) -> float:
    """Write a GGUF adapter with a lower rank in float16, and return the share of its squares that is kept.

    Args:
        adapter: The adapter. The result has its metadata.
        mixed: An adapter of the same layers to mix with it.
        share: Its share of the mix.

    Raises:
        UsageError: It has no higher rank, or the two change other layers.
        ModelError: A file is no adapter or damaged, or changes embeddings.
    """
    header = adapter_header(adapter)
    readers = [TensorReader(adapter, header)]
    readers += [TensorReader(mixed, adapter_header(mixed))] if mixed else []
    cuts = list(_cuts(readers, [1 - share, share] if mixed else [1.0], rank))
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
    inputs = {"adapter": describe_file(adapter), **({"mixed": describe_file(mixed)} if mixed else {})}
    with new_file(dst, run, manifest={"inputs": inputs}, size=size) as file:
        file.write(head)
        for _, values in halves:
            pad(file)
            file.write(values.to(torch.float16).contiguous())
        pad(file)
    whole = sum(cut.whole for cut in cuts)
    return sum(cut.kept for cut in cuts) / whole if whole else 1.0


def _cuts(readers: Sequence[TensorReader], shares: Sequence[float], rank: int) -> Iterator[_Cut]:
    first, *others = readers
    for name in (name[:-7] for name in first.header.tensors if name.endswith(".lora_a")):
        if not name.startswith("blk."):
            raise ModelError(f"{first.path} changes {name!r:.80}; only linear layers get a lower rank.")
        halves = [_halves(reader, name, share) for reader, share in zip(readers, shares, strict=True)]
        if len({(a.shape[1], b.shape[0]) for a, b in halves}) > 1:
            raise UsageError(f"the adapters were made for other sizes of {name!r:.80}.")
        a, b = torch.cat([each for each, _ in halves]), torch.cat([each for _, each in halves], dim=1)
        if a.shape[0] <= rank:
            raise UsageError(f"{first.path} has rank {a.shape[0]}, which is not higher than {rank}.")
        # Who reads it divides alpha, if it has one, by the rank.
        alpha: Any = first.header.metadata.get(_ALPHA)
        yield _cut(name, a, b * (rank / alpha) if alpha else b, rank)
    for other in others:
        for name in sorted(other.header.tensors.keys() - first.header.tensors.keys()):
            raise UsageError(f"{other.path} changes {name!r:.80}, and {first.path} does not.")


def _halves(reader: TensorReader, name: str, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return A (rank, in), and B (out, rank) times its scale and a share."""
    tensors = reader.header.tensors
    if f"{name}.lora_a" not in tensors:
        raise UsageError(f"{reader.path} does not change {name!r:.80}.", hint="Mix adapters of one model.")
    a, b = (torch.from_numpy(reader.rows(tensors[f"{name}.lora_{half}"])) for half in "ab")
    if not (a.isfinite().all() and b.isfinite().all()):
        raise ModelError(f"{reader.path} has numbers in {name!r:.80} that are not finite.")
    alpha: Any = reader.header.metadata.get(_ALPHA)
    return a, b * (share * alpha / a.shape[0] if alpha else share)


def _cut(name: str, a: torch.Tensor, b: torch.Tensor, rank: int) -> _Cut:
    left, left_small = torch.linalg.qr(b)
    right, right_small = torch.linalg.qr(a.T)
    u, values, v = torch.linalg.svd(left_small @ right_small.T)
    root = values[:rank].sqrt()
    squares = values.square()
    new_a = root[:, None] * (v[:rank] @ right.T)
    return _Cut(name, new_a, left @ u[:, :rank] * root, float(squares[:rank].sum()), float(squares.sum()))
