"""Estimate what the rest of a run will cost from requests that were really made.

A growing pool rejects more instructions as similar, so each request keeps fewer than those before it. That
trend is taken for a power law: n requests keep in proportion to n to the power β, at most 1. It is the model
of reliability growth (Crow, Reliability Analysis for Complex, Repairable Systems, 1975), and that of new
words in a text (Heaps). The interval draws β, the level, and the cost of a request from their distributions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from random import Random

from redraft.counting import counted
from redraft.generate.estimate import WIDEST, Range

_DRAWS = 1000  # draws of an interval: its ends are those of the outer 25 on each side
_LEAST = 0.05  # the smallest power: at twice the instructions, a million times the requests


@dataclass
class Cost:
    """What a request used, and how many instructions it kept."""

    calls: int = 0
    read: int = 0  # tokens of prompts
    new: int = 0  # tokens of replies
    usd: float = 0.0  # 0 without a price
    seconds: float = 0.0  # sum over the calls
    kept: int = 0


@dataclass(frozen=True)
class Trend:
    """How what requests keep declines: n requests keep in proportion to n to the power `beta`."""

    requests: int  # all so far
    kept: int  # what they kept
    beta: float
    noise: float  # the variance of what a request keeps, in units of that of independent events; at least 1
    freedom: int  # degrees of freedom of the noise

    @classmethod
    def of(cls, sample: Sequence[int], before: int, kept_before: int) -> Trend:
        """Fit it to what each request kept, and to the sum of those before them, by maximum likelihood."""
        parts = [(0, before, kept_before)] if before else []
        parts += [(before + i, before + i + 1, kept) for i, kept in enumerate(sample)]
        requests, kept = before + len(sample), sum(part[2] for part in parts)
        low, high = _LEAST, 1.0
        if _slope(parts, high) >= 0:
            low = high
        while high - low > 1e-6:
            middle = (low + high) / 2
            low, high = (middle, high) if _slope(parts, middle) > 0 else (low, middle)
        level = kept / requests**high
        expected = [level * (end**high - start**high) for start, end, _ in parts]
        misfit = sum((part[2] - wanted) ** 2 / wanted for part, wanted in zip(parts, expected, strict=True))
        freedom = max(len(sample) - 2, 1)
        return cls(requests, kept, high, max(misfit / freedom, 1.0), freedom)

    def more(self, missing: int) -> float:
        """Return how many more requests it takes until the missing instructions are kept."""
        return self._more(missing, self.beta, self.kept)

    def _more(self, missing: int, beta: float, kept: float) -> float:
        power = math.log1p(missing / kept) / beta
        return self.requests * math.expm1(min(power, 600.0))

    def drawn(self, missing: int, rng: Random) -> tuple[float, float]:
        """Draw the requests that are missing, and an error in standard deviations with the same freedom.

        The power is less certain the farther it is followed: a pool may decline faster than a power law. That
        holds in simulated teachers, of few ideas and of many (tests/generate/instructions/test_estimate.py).
        """
        wide = math.sqrt(self.freedom / (2 * rng.gammavariate(self.freedom / 2, 1)))
        error = wide * math.sqrt(self.noise / self.kept)
        farther = 1 + 2 * math.log1p(missing / self.kept)
        beta = self.beta * math.exp(min(rng.gauss(0, 1) * error * farther, 600.0))
        kept = self.kept * math.exp(max(min(rng.gauss(0, 1) * error, 600.0), -600.0))
        requests = self._more(missing, min(max(beta, _LEAST), 1.0), kept)
        requests *= max(1 + rng.gauss(0, 1) * math.sqrt(self.noise / missing), 0.0)
        return requests, wide * rng.gauss(0, 1)


def _slope(parts: Sequence[tuple[int, int, int]], beta: float) -> float:
    """Return the derivative of the likelihood of a power. A part: two requests, kept between them."""
    last, found = math.log(parts[-1][1]), 0.0
    for start, end, kept in parts:
        before = start**beta * math.log(start) if start else 0.0
        share = (end**beta * math.log(end) - before) / (end**beta - start**beta)
        found += kept * (share - last)
    return found


@dataclass(frozen=True)
class Estimate:
    """What missing instructions will cost. `before` are requests before the sample, and what they kept."""

    missing: int
    sample: Sequence[Cost]
    priced: bool
    parallel: int
    rpm: int | None = None
    tpm: int | None = None
    before: tuple[int, int] = (0, 0)

    def total(self, value: Callable[[Cost], float]) -> Range:
        """Return the estimated sum of a value, with its 95 % interval. The sample has kept something."""
        values, kept = list(map(value, self.sample)), [cost.kept for cost in self.sample]
        n, each = len(values), sum(values) / len(values)
        middle = sum(kept) / n
        apart = sum((k - middle) ** 2 for k in kept)
        slope = sum((k - middle) * v for k, v in zip(kept, values, strict=True)) / apart if apart else 0.0
        slope = min(max(slope, 0.0), each / middle)  # a request that keeps nothing is not free, nor dearer
        rest = sum((v - each - slope * (k - middle)) ** 2 for k, v in zip(kept, values, strict=True))
        noise = math.sqrt(rest / max(n - 2, 1))

        def cost(requests: float, error: float) -> float:
            off = self.missing / requests - middle if requests else 0.0
            deviation = noise * math.sqrt(1 / n + (off**2 / apart if apart else 0.0))
            return max(each + slope * off + error * deviation, 0.0) * requests

        found = cost(self._trend.more(self.missing), 0.0)
        if n < 2:
            return Range(found, 0.0, math.inf)
        drawn = sorted(cost(requests, error) for requests, error in self._drawn)
        ends = len(drawn) // 40
        low, high = min(drawn[ends], found), max(drawn[-1 - ends], found)
        return Range(found, low, high if high <= found * math.exp(WIDEST) else math.inf)

    @cached_property
    def _trend(self) -> Trend:
        return Trend.of([cost.kept for cost in self.sample], *self.before)

    @cached_property
    def _drawn(self) -> list[tuple[float, float]]:
        """Return draws of the requests that are missing, each with an error of their mean cost."""
        rng = Random(0)  # noqa: S311  (the same estimate each time)
        return [self._trend.drawn(self.missing, rng) for _ in range(_DRAWS)]

    @property
    def hours(self) -> Range:
        """The time: that of the calls, or of the server's limits if that is longer."""
        times = [self.total(lambda cost: cost.seconds / self.parallel / 3600)]
        if rpm := self.rpm:
            times.append(self.total(lambda cost: cost.calls / rpm / 60))
        if tpm := self.tpm:
            times.append(self.total(lambda cost: (cost.read + cost.new) / tpm / 60))
        return max(times, key=lambda each: each.value)

    def rows(self) -> list[tuple[str, str]]:
        """Return rows for the summary."""
        number = f"{counted(self.missing, 'more instruction')}, from {counted(len(self.sample), 'request')}"
        if not any(cost.kept for cost in self.sample):
            return [("estimate", f"none of {number}: they kept nothing")]
        names = ("new", "read", "calls")
        new, read, calls = (self.total(attrgetter(name)).shown("{:,.0f}".format) for name in names)
        money = f"{self.total(lambda cost: cost.usd).shown('{:,.4f}'.format)} USD"
        return [
            ("estimate", f"{number}, with 95 % intervals"),
            ("", f"{new} new tokens, {read} in prompts, {calls} calls"),
            ("", money if self.priced else "no price is known: --price IN,OUT"),
            ("", f"{self.hours.shown('{:.2f}'.format)} hours, {self.parallel} calls at once"),
        ]
