"""Rows of a vocabulary that a base lacks: what a delta takes them to be.

A tuned model often has a few tokens more than its base, such as `[PAD]`. Its delta then has rows to which
the base has no counterpart. Two conventions are in use (in the release scripts of the models named):

- `zero`: the base's row counts as zero, so that the delta holds the new row itself (Vicuna 0, StableVicuna)
- `mean`: it counts as the mean of all rows of the base (Alpaca, SelFee)

With `none` both have the same rows (Vicuna 1.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from redraft.errors import ModelError
from redraft.weights.checkpoint import Checkpoint

Convention = Literal["none", "zero", "mean"]
CONVENTIONS: tuple[Convention, ...] = get_args(Convention)

_TABLES = (
    "embed_tokens.weight",
    "lm_head.weight",
    "lm_head.bias",
    "wte.weight",
    "embed_in.weight",
    "embed_out.weight",
)
_LOOKED_AT = 512
_UPDATES = 3.0


def is_table(name: str) -> bool:
    """Whether a tensor has a row for each token of the vocabulary."""
    return name.endswith(_TABLES)


def added_rows(base: Checkpoint, other: Checkpoint) -> dict[str, int]:
    """The tables with more rows than the base's, and how many more. Other shapes are not looked at."""
    return {
        name: other.tensors[name].shape[0] - base.tensors[name].shape[0]
        for name in other.tensors
        if is_table(name)
        and name in base.tensors
        and len(other.tensors[name].shape) == len(base.tensors[name].shape) > 0
        and other.tensors[name].shape[1:] == base.tensors[name].shape[1:]
        and other.tensors[name].shape[0] > base.tensors[name].shape[0]
    }


def mean_row(base: Checkpoint, name: str) -> torch.Tensor:
    """The mean of a table's rows, summed in 64 bits. Shape: (row,), in 32 bits, or the table's 64.

    It is not rounded to the table's dtype, because Alpaca's weight_diff.py computes in 32 bits.
    """
    tensor = base.tensors[name]
    total = torch.zeros(tensor.row, dtype=torch.float64)
    for start, stop in base.chunks(name):
        total += base.read(name, start, stop).view(-1, tensor.row).sum(0, dtype=torch.float64)
    mean = total / tensor.shape[0]
    return mean if tensor.dtype == "F64" else mean.float()


def settle(base: Checkpoint, delta: Checkpoint, asked: Convention | None) -> tuple[Convention, str]:
    """The convention of a delta, and the reason in words.

    Args:
        base: The base.
        delta: The delta.
        asked: What the user says it is; it then has to fit the shapes.

    Raises:
        ModelError: The shapes fit no convention, or not the one that was asked for.
    """
    added = added_rows(base, delta)
    rows = {name: (base.tensors[name].shape[0], delta.tensors[name].shape[0]) for name in added}
    if len(set(rows.values())) > 1:
        found = ", ".join(f"{name} {ours:,} → {theirs:,}" for name, (ours, theirs) in rows.items())
        raise ModelError(
            f"{delta.path} fits no convention for added tokens: its tables grow differently ({found}).",
            hint="The base or the delta is not the one you mean.",
        )
    if not added:
        if asked not in (None, "none"):
            raise ModelError(f"--vocab {asked} does not fit: {delta.path} adds no rows to the base's.")
        return "none", "as many rows as the base"
    ours, theirs = next(iter(rows.values()))
    if asked == "none":
        raise ModelError(
            f"--vocab none does not fit: {delta.path} has {theirs:,} rows and the base {ours:,}.",
            hint="--vocab zero or --vocab mean",
        )
    if asked:
        return asked, f"{theirs - ours:,} rows more than the base; --vocab says {asked}"
    return _detect(base, delta, list(added), theirs - ours)


@dataclass(frozen=True)
class _Look:
    """Root mean squares: of a table's new rows, of those less the base's mean, of the change of others."""

    new: float
    new_less_mean: float
    change: float

    @property
    def says(self) -> Convention:
        # Nearer to zero than to the mean, and of the size of what training changes.
        near_mean = self.new < self.new_less_mean and self.new <= _UPDATES * max(self.change, 1e-12)
        return "mean" if near_mean or self.new == 0 else "zero"


def _detect(base: Checkpoint, delta: Checkpoint, names: list[str], count: int) -> tuple[Convention, str]:
    looks = [_look(base, delta, name) for name in names if len(base.tensors[name].shape) == 2]
    if not looks:
        raise ModelError(
            f"{delta.path} adds rows, and nothing tells by which convention.", hint="--vocab zero or mean"
        )
    # The clearest table decides: input rows of tokens that never occurred say little.
    clearest = max(looks, key=lambda look: abs(look.new - look.new_less_mean))
    meant = "differences from the base's mean row" if clearest.says == "mean" else "whole rows, over zeros"
    return clearest.says, (
        f"{count:,} rows more than the base, and they look like {meant} "
        f"(size {clearest.new:.2g}; less the mean {clearest.new_less_mean:.2g}; "
        f"other rows change by {clearest.change:.2g})"
    )


def _look(base: Checkpoint, delta: Checkpoint, name: str) -> _Look:
    tensor, row = base.tensors[name], base.tensors[name].row
    end = min(delta.tensors[name].count, tensor.count + _LOOKED_AT * row)
    new = delta.read(name, tensor.count, end).to(torch.float64).view(-1, row)
    old = delta.read(name, 0, min(tensor.count, _LOOKED_AT * row)).to(torch.float64)
    mean = mean_row(base, name).to(torch.float64)
    return _Look(_rms(new), _rms(new - mean), _rms(old))


def _rms(values: torch.Tensor) -> float:
    return float(values.square().mean().sqrt())
