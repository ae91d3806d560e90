"""Deltas that redraft did not make: what rows of added tokens mean, and whether a base is the right one.

A tuned model often has a few tokens more than its base, such as `[PAD]`. Its delta then has rows that the
base lacks. Two conventions are in use (in the release scripts of the models named):

- `zero`: the missing row counts as zero, so that the delta holds the new row itself (Vicuna 0, StableVicuna)
- `mean`: the missing row counts as the mean of all rows of the base (Alpaca, SelFee)

With `none` both have the same rows (Vicuna 1.1).

`check_base` decides from the values alone. Weights have few bits, so they lie on a grid, such as that of
float16. The right base plus its delta gives values on the grid of the target's dtype; with another base the
low bits do not match, and the sums fall between grid points. Adding the delta to the same base shifted by one
element shows how far off they fall by chance. On simulated weights (all 27 combinations of float32, float16
and bfloat16 for base, target and delta, changes of 0.5 % to 100 %) sums with the right base lie at least 30 %
nearer to a grid than by chance, those with another model at most 2 %.

If the delta itself was rounded, its low bits say nothing, and no base is refused. Close relatives of the
right base cannot be distinguished from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Literal, get_args

import torch

from redraft.errors import ModelError
from redraft.weights.checkpoint import Checkpoint
from redraft.weights.header import torch_dtype

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

TENSORS, ELEMENTS = 24, 1 << 16
"""The number of matrices sampled over the model, and the elements read from each."""

NEARER = 0.1  # how much nearer to a grid than by chance the sums must be
ROUNDED = 0.4  # the share of set last bits from which on a delta counts as rounded; by chance it is one half
WHOLE = 0.8  # the ratio of norms, delta over base, above which it is not a delta: training changes far less

_GRIDS = {torch.float32: 24, torch.float16: 11, torch.bfloat16: 8}  # bits of a significand
_INTEGERS = {4: torch.int32, 2: torch.int16}


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


def check_base(base: Checkpoint, delta: Checkpoint) -> None:
    """Check that base + delta looks like a model."""
    off = {grid: [0.0, 0.0] for grid in _GRIDS}
    odd: list[float] = []  # the shares of values whose last bit is set
    sizes: list[float] = []
    for name, ours, shifted, change in _samples(base, delta):
        total = ours + change.double()
        if not bool(total.isfinite().all()):
            hint = f"redraft weights verify {delta.path}   and the same for {base.path}"
            raise ModelError(f"base + delta has NaN or infinite values in {name!r:.80}.", hint=hint)
        by_chance = shifted + change.double()
        for grid, sums in off.items():
            sums[0] += _off(total, grid)
            sums[1] += _off(by_chance, grid)
        odd.append(float((change.view(_INTEGERS[change.element_size()]) & 1).double().mean()))
        sizes.append(float(change.double().norm() / ours.norm().clamp(min=1e-30)))
    if sizes and median(sizes) > WHOLE:
        raise ModelError(
            f"{delta.path} is not a delta over {base.path}: its values are as large as the weights.",
            hint="The order is: redraft weights apply BASE DELTA. A complete model needs no base.",
        )
    nearer = max((1 - ours / chance for ours, chance in off.values() if chance), default=1.0)
    if odd and sum(odd) / len(odd) < ROUNDED and nearer < NEARER:
        raise ModelError(
            f"{base.path} is not the base of {delta.path}: their low bits do not fit each other "
            f"({max(nearer, 0):.0%} better than by chance; at least {NEARER:.0%} expected).",
            hint="Name the base that the delta was made from: its page on the hub names it.",
        )


def _samples(
    base: Checkpoint, delta: Checkpoint
) -> Iterator[tuple[str, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield names and the elements that the delta changes: of the base, their neighbours, of the delta."""
    matrices = (name for name, each in delta.tensors.items() if len(each.shape) == 2)
    names = []
    for name in matrices:
        both = [side.tensors[name].dtype for side in (base, delta) if name in side.tensors]
        if len(both) == 2 and all(torch_dtype(dtype) in _GRIDS for dtype in both):
            names.append(name)
    for name in names[:: max(len(names) // TENSORS, 1)]:
        count = min(base.tensors[name].count, delta.tensors[name].count)
        start = max(count - ELEMENTS, 0) // 2
        stop = min(start + ELEMENTS, count)
        ours, change = base.read(name, start, stop).double(), delta.read(name, start, stop)
        if len(where := change.nonzero().flatten()):
            yield name, ours[where], ours.roll(1)[where], change[where]


def _off(values: torch.Tensor, grid: torch.dtype) -> float:
    """Return the summed distance of values from a grid, in steps of the grid."""
    near = values.to(grid).double()
    step = torch.ldexp(torch.ones_like(near), near.frexp().exponent - _GRIDS[grid])
    return float(((values - near).abs() / step).nan_to_num(posinf=0.5).clamp(max=0.5).sum())
