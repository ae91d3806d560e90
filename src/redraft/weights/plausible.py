"""Whether a delta of unknown making belongs to a base, from the numbers alone.

A difference of two floating-point numbers that are near each other is exact, and so is adding it back: with
the right base, nearly all sums need no rounding. With another base the low bits do not fit, and many sums
do. How many would by chance is seen by adding the delta to the same base in the wrong places. On simulated
weights (float16, bfloat16 and float32, changes of 0.5 % to 100 %) the right base stands 0.15 to 0.9 above
chance, another model within 0.003 of it. A base that is a near relative of the right one is not told apart.
"""

from __future__ import annotations

import torch

from redraft.errors import ModelError
from redraft.weights.checkpoint import Checkpoint
from redraft.weights.dtypes import FLOATS

TENSORS, ELEMENTS = 24, 1 << 16
"""How many matrices are looked at, spread over the model, and how many elements of each."""

MARGIN = 0.02
"""How far above chance the share of exact sums has to be."""

_TELLS_NOTHING = 0.99


def insist(base: Checkpoint, delta: Checkpoint) -> None:
    """Sees that base + delta looks like a model.

    Raises:
        ModelError: The sums are not finite, or fit no better than those with a base in disorder.
    """
    names = [
        name
        for name, each in delta.tensors.items()
        if len(each.shape) == 2 and _both_float(base, delta, name)
    ]
    exact = chance = count = 0
    for name in names[:: max(len(names) // TENSORS, 1)]:
        ours, change = _samples(base, delta, name)
        total = ours.double() + change.double()
        if not bool(total.isfinite().all()):
            raise ModelError(
                f"base + delta has NaN or infinite values in {name!r:.80}.",
                hint=f"redraft weights verify {delta.path}   and the same for {base.path}",
            )
        disordered = ours[torch.randperm(len(ours), generator=torch.Generator().manual_seed(0))]
        exact += _exact(total, change.dtype)
        chance += _exact(disordered.double() + change.double(), change.dtype)
        count += len(ours)
    if count and chance / count < _TELLS_NOTHING and (exact - chance) / count < MARGIN:
        raise ModelError(
            f"{base.path} is not the base of {delta.path}: {exact / count:.0%} of the sums are exact, "
            f"and chance alone makes {chance / count:.0%} so.",
            hint="Name the base that the delta was made from: its page on the hub says which.",
        )


def _both_float(base: Checkpoint, delta: Checkpoint, name: str) -> bool:
    return name in base.tensors and {base.tensors[name].dtype, delta.tensors[name].dtype} <= FLOATS


def _samples(base: Checkpoint, delta: Checkpoint, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The same elements of both, from the middle of what both have."""
    count = min(base.tensors[name].count, delta.tensors[name].count)
    start = max(count - ELEMENTS, 0) // 2
    stop = min(start + ELEMENTS, count)
    return base.read(name, start, stop), delta.read(name, start, stop)


def _exact(total: torch.Tensor, dtype: torch.dtype) -> int:
    return int((total == total.to(dtype).double()).sum())
