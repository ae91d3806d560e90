"""Decides from the values alone whether a delta that redraft did not make belongs to a base.

Weights have few bits, so they lie on a grid, such as that of float16. The right base plus its delta gives
values on the grid of the target's dtype; with another base the low bits do not match, and the sums fall
between grid points. Adding the delta to the same base shifted by one element shows how far off they fall by
chance. On simulated weights (all 27 combinations of float32, float16 and bfloat16 for base, target and delta,
changes of 0.5 % to 100 %) sums with the right base lie at least 30 % nearer to a grid than by chance, those
with another model at most 2 %.

If the delta itself was rounded, its low bits say nothing, and no base is refused. Close relatives of the
right base cannot be distinguished from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import torch

from redraft.errors import ModelError
from redraft.weights.checkpoint import Checkpoint
from redraft.weights.header import torch_dtype

TENSORS, ELEMENTS = 24, 1 << 16
"""The number of matrices sampled over the model, and the elements read from each."""

NEARER = 0.1  # how much nearer to a grid than by chance the sums must be
ROUNDED = 0.4  # the share of set last bits from which on a delta counts as rounded; by chance it is one half
WHOLE = 0.8  # the ratio of norms, delta over base, above which it is not a delta: training changes far less

_GRIDS = {torch.float32: 24, torch.float16: 11, torch.bfloat16: 8}  # bits of a significand
_INTEGERS = {4: torch.int32, 2: torch.int16}

_Sample = tuple[str, torch.Tensor, torch.Tensor, torch.Tensor]


def check_base(base: Checkpoint, delta: Checkpoint) -> None:
    """Check that base + delta looks like a model."""
    off = {grid: [0.0, 0.0] for grid in _GRIDS}
    odd: list[float] = []
    sizes: list[float] = []
    for name, ours, shifted, change in _samples(base, delta):
        total = ours + change.double()
        if not bool(total.isfinite().all()):
            raise ModelError(
                f"base + delta has NaN or infinite values in {name!r:.80}.",
                hint=f"redraft weights verify {delta.path}   and the same for {base.path}",
            )
        by_chance = shifted + change.double()
        for grid, sums in off.items():
            sums[0] += _off(total, grid)
            sums[1] += _off(by_chance, grid)
        odd.append(_odd(change))
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


def _samples(base: Checkpoint, delta: Checkpoint) -> Iterator[_Sample]:
    """Yield names and the elements that the delta changes: of the base, their neighbours, of the delta."""
    matrices = (name for name, each in delta.tensors.items() if len(each.shape) == 2)
    names = [name for name in matrices if _on_grids(base, delta, name)]
    for name in names[:: max(len(names) // TENSORS, 1)]:
        count = min(base.tensors[name].count, delta.tensors[name].count)
        start = max(count - ELEMENTS, 0) // 2
        stop = min(start + ELEMENTS, count)
        ours, change = base.read(name, start, stop).double(), delta.read(name, start, stop)
        if len(where := change.nonzero().flatten()):
            yield name, ours[where], ours.roll(1)[where], change[where]


def _on_grids(base: Checkpoint, delta: Checkpoint, name: str) -> bool:
    both = [side.tensors[name].dtype for side in (base, delta) if name in side.tensors]
    return len(both) == 2 and all(torch_dtype(dtype) in _GRIDS for dtype in both)


def _off(values: torch.Tensor, grid: torch.dtype) -> float:
    """Return the summed distance of values from a grid, in steps of the grid."""
    near = values.to(grid).double()
    step = torch.ldexp(torch.ones_like(near), near.frexp().exponent - _GRIDS[grid])
    return float(((values - near).abs() / step).nan_to_num(posinf=0.5).clamp(max=0.5).sum())


def _odd(values: torch.Tensor) -> float:
    """Return the share of values whose last bit is set."""
    return float((values.view(_INTEGERS[values.element_size()]) & 1).double().mean())
