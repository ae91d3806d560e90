"""Describe counted numbers by a few figures, and by a histogram with round bins.

A short range has a bin per number, and a longer one bins of an equal, round width. With a long tail, bins
grow with the numbers, so that most records and the few huge ones are both visible.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Any, TypeVar

Number = TypeVar("Number", int, float)

MOST = 24  # most bins of equal width
TAIL = 6  # largest ratio of maximum to median for bins of equal width

_FEW = 10  # medians below it get a bin for each small number, such as of turns
_STEPS = (1, 2, 5)  # widths of equal bins, times a power of ten
_EDGES = (10, 15, 20, 30, 50, 70)  # starts of growing bins, times a power of ten; about √2 apart


@dataclass(frozen=True)
class Bin:
    """A bin with the count of numbers from `low` to `high`, both included."""

    low: int
    high: int
    count: int

    @property
    def name(self) -> str:
        """Return the range as text, such as `20-29`."""
        return f"{self.low:,}" if self.low == self.high else f"{self.low:,}–{self.high:,}"

    @property
    def bar(self) -> tuple[str, str, int]:
        """Return it for a chart: its start as a short text, such as `1.5k`, its name and its count."""
        for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
            if self.low >= unit:
                return f"{self.low / unit:.3g}{name}", self.name, self.count
        return str(self.low), self.name, self.count


@dataclass(frozen=True)
class Figures:
    """Figures of a distribution of `count` numbers; 95 % of them are at most `p95`."""

    count: int
    min: float
    median: float
    mean: float
    p95: float
    max: float


def figures(counts: Counter[int] | Counter[float]) -> Figures | None:
    """Return the figures of counted numbers, or None without any. The median is one of the numbers."""
    if not (total := counts.total()):
        return None
    values = sorted(counts)
    mean = sum(value * times for value, times in counts.items()) / total
    half, most = (_quantile(counts, values, share * total) for share in (0.5, 0.95))
    return Figures(total, values[0], half, mean, most, values[-1])


def bins(counts: Counter[int]) -> list[Bin]:
    """Return the histogram of counted whole numbers from 0 on, from the smallest to the largest."""
    if not counts:
        return []
    found: list[Bin] = []
    rest = sorted(counts.items(), reverse=True)
    for low, after in pairwise(_edges(counts)):
        inside = 0
        while rest and rest[-1][0] < after:
            inside += rest.pop()[1]
        if inside or found:
            found.append(Bin(low, after - 1, inside))
        if not rest:
            break
    return found


def _quantile(counts: Counter[Any], values: Sequence[Number], rank: float) -> Number:
    seen = 0
    for value in values:
        seen += counts[value]
        if seen >= rank:
            break
    return value


def _edges(counts: Counter[int]) -> Iterator[int]:
    low, high = min(counts), max(counts)
    if high - low < MOST:
        return count(low)
    middle = _quantile(counts, sorted(counts), counts.total() / 2)
    if high > TAIL * max(middle, 1):
        return _growing(each=middle < _FEW)
    width = next(step * 10**power for power in count() for step in _STEPS if high < MOST * step * 10**power)
    return count(0, width)


def _growing(*, each: bool) -> Iterator[int]:
    yield from range(10) if each else (0, 1, 2, 3, 5, 7)
    for power in count():
        yield from (edge * 10**power for edge in _EDGES)
