"""Deltas that redraft did not make: what rows of added tokens mean.

A tuned model often has a few tokens more than its base, such as `[PAD]`. Its delta then has rows that the
base lacks. Two conventions are in use (in the release scripts of the models named):

- `zero`: the missing row counts as zero, so that the delta holds the new row itself (Vicuna 0, StableVicuna)
- `mean`: the missing row counts as the mean of all rows of the base (Alpaca, SelFee)

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
    """Return whether a tensor has a row for each token."""
    return name.endswith(_TABLES)


def added_rows(base: Checkpoint, other: Checkpoint) -> dict[str, int]:
    """Return the number of added rows of each table that has more rows than the base's and the same width."""
    added = {}
    for name in filter(is_table, other.tensors):
        if name not in base.tensors:
            continue
        ours, theirs = base.tensors[name].shape, other.tensors[name].shape
        if len(theirs) == len(ours) > 0 and theirs[1:] == ours[1:] and theirs[0] > ours[0]:
            added[name] = theirs[0] - ours[0]
    return added


def mean_row(base: Checkpoint, name: str) -> torch.Tensor:
    """Return the mean of a table's rows. Shape: (row,); float32, or float64 if the table is.

    It is summed in float64, and not rounded to the table's dtype: Alpaca's weight_diff.py uses float32.
    """
    tensor = base.tensors[name]
    total = torch.zeros(tensor.row, dtype=torch.float64)
    for start, stop in base.chunks(name):
        total += base.read(name, start, stop).view(-1, tensor.row).sum(0, dtype=torch.float64)
    mean = total / tensor.shape[0]
    return mean if tensor.dtype == "F64" else mean.float()


def settle(base: Checkpoint, delta: Checkpoint, asked: Convention | None) -> tuple[Convention, str]:
    """Return the convention of a delta, and the reason as a phrase.

    `asked` is the user's choice, which must fit the shapes. None detects the convention.
    """
    added = added_rows(base, delta)
    rows = {name: (base.tensors[name].shape[0], delta.tensors[name].shape[0]) for name in added}
    if len(set(rows.values())) > 1:
        found = ", ".join(f"{name} {ours:,} → {theirs:,}" for name, (ours, theirs) in rows.items())
        raise ModelError(
            f"{delta.path} fits no convention for added tokens: its tables grow differently ({found}).",
            hint="Check that base and delta belong together.",
        )
    if not added:
        if asked not in (None, "none"):
            raise ModelError(f"--vocab {asked} does not fit: {delta.path} adds no rows to the base's.")
        return "none", "as many rows as the base"
    ours, theirs = next(iter(rows.values()))
    if asked == "none":
        raise ModelError(
            f"--vocab none does not fit: {delta.path} has {theirs:,} rows, and the base {ours:,}.",
            hint="--vocab zero or --vocab mean",
        )
    if asked:
        return asked, f"{theirs - ours:,} rows more than the base; set by --vocab"
    return _detect(base, delta, list(added), theirs - ours)


@dataclass(frozen=True)
class _Look:
    """Root mean squares of a table's new rows, of these minus the base's mean, and of other changes."""

    new: float
    new_less_mean: float
    change: float

    @property
    def says(self) -> Convention:
        # Nearer to zero than to the mean, and as small as the changes by training.
        near_mean = self.new < self.new_less_mean and self.new <= _UPDATES * max(self.change, 1e-12)
        return "mean" if near_mean or self.new == 0 else "zero"


def _detect(base: Checkpoint, delta: Checkpoint, names: list[str], count: int) -> tuple[Convention, str]:
    looks = [_look(base, delta, name) for name in names if len(base.tensors[name].shape) == 2]
    if not looks:
        raise ModelError(
            f"{delta.path} adds rows by an unknown convention.", hint="--vocab zero or --vocab mean"
        )
    # The clearest table decides: input rows of tokens that never occurred are not informative.
    clearest = max(looks, key=lambda look: abs(look.new - look.new_less_mean))
    meant = "differences from the base's mean row" if clearest.says == "mean" else "whole rows"
    return clearest.says, (
        f"{count:,} rows more than the base, and they look like {meant} "
        f"(size {clearest.new:.2g}; minus the mean {clearest.new_less_mean:.2g}; "
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
