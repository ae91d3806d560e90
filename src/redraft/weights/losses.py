"""What numbers lose when they are rounded to another format: counted by tensor, kept in notes, and said.

Rounding to the nearest number is no loss here. Counted are those that a format has no room for: what becomes
infinite, and what becomes zero. What was damaged before is counted apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from redraft.weights.dtypes import dtype_name

Say = Callable[[str], None]
"""Told of something in words, a sentence or two at a time."""

# The integer of the same width, and the least bits that are NaN; the number before is infinity (IEEE 754;
# bfloat16 likewise; 8 bits: Micikevicius et al. 2022, table 1).
_NAN = {
    "F64": ("int64", (0x7FF << 52) + 1),
    "F32": ("int32", (0xFF << 23) + 1),
    "F16": ("int16", (0x1F << 10) + 1),
    "BF16": ("int16", (0xFF << 7) + 1),
    "F8_E5M2": ("int8", (0x1F << 2) + 1),
    "F8_E4M3": ("int8", 0x7F),
}


@dataclass(frozen=True)
class Losses:
    """How many numbers of each tensor were lost; only tensors that lost some are named.

    `vars()` of it are notes of a file for the manifest, and `noted` reads them back.

    Attributes:
        odd: NaN or infinite before they were rounded.
        infinite: Finite before, and infinite or NaN after.
        zero: Zero after, and not before.
    """

    odd: dict[str, int] = field(default_factory=dict)
    infinite: dict[str, int] = field(default_factory=dict)
    zero: dict[str, int] = field(default_factory=dict)

    @classmethod
    def noted(cls, files: Iterable[Mapping[str, Any]]) -> Losses:
        """Those of all files together, by what was noted of each: of files of an earlier run too."""
        losses = cls()
        for file in files:
            for kind, counts in vars(losses).items():
                counts.update(file.get(kind, {}))
        return losses

    def count(self, name: str, before: torch.Tensor, after: torch.Tensor) -> None:
        """Counts what became of some numbers of a tensor: the same ones, in two formats."""
        odd = sum(not_finite(before))
        self.add(name, odd=odd)
        if before.dtype != after.dtype:
            zero = int(before.count_nonzero()) - int(after.count_nonzero())
            self.add(name, infinite=sum(not_finite(after)) - odd, zero=zero)

    def add(self, name: str, *, odd: int = 0, infinite: int = 0, zero: int = 0) -> None:
        """Adds to what is counted of a tensor."""
        for counts, more in ((self.odd, odd), (self.infinite, infinite), (self.zero, zero)):
            if more > 0:
                counts[name] = counts.get(name, 0) + more

    def say(self, *, warn: Say, tell: Say, wider: str) -> None:
        """Says what was counted.

        Args:
            warn: Told of damage: what is infinite or NaN.
            tell: Told of what became zero.
            wider: What holds larger numbers, such as `--dtype bf16`.
        """
        if self.odd:
            warn(f"{_counted(self.odd, 'came infinite or NaN from the source')}: it is damaged.")
        if self.infinite:
            warn(f"{_counted(self.infinite, 'became infinite')}: {wider} holds larger ones.")
        if self.zero:
            tell(f"{_counted(self.zero, 'became zero')}.")


def not_finite(values: torch.Tensor) -> tuple[int, int]:
    """How many of some numbers are NaN, and how many are infinite.

    Looks at bits: without its sign, what is not finite is above all numbers as an integer. That is far faster
    than torch's own test for 16 bits, and there is none for 8.
    """
    dtype = dtype_name(values.dtype)
    if dtype not in _NAN or not values.numel():
        return 0, 0
    width, first = _NAN[dtype]
    integer = getattr(torch, width)
    bits = values.contiguous().view(integer) & torch.iinfo(integer).max
    if int(bits.amax()) < first - 1:
        return 0, 0
    infinite = 0 if dtype == "F8_E4M3" else int((bits == first - 1).sum())  # it has no infinity
    return int((bits >= first).sum()), infinite


def _counted(counts: Mapping[str, int], became: str) -> str:
    """How many, in how many tensors, and where most of them are."""
    worst = max(counts, key=lambda name: counts[name])
    total = sum(counts.values())
    numbers = f"{total:,} number{'s' if total > 1 else ''}"
    if len(counts) == 1:
        return f"{numbers} in {worst!r:.80} {became}"
    return f"{numbers} in {len(counts):,} tensors {became}, most of them ({counts[worst]:,}) in {worst!r:.80}"
