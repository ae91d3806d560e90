"""Estimate what a run will cost from a sample of its records that are really made.

The sample is spread evenly over the lengths of the prompts, because long prompts cost more and are often of
another kind. What is left of that difference is a trend: the line of cost over length, read at the mean
length of all records. The chains of the sample stay in the output: the run that follows does not pay for them
again.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from redraft.chain import Chain
from redraft.errors import RecordError

_Z = 1.959964  # standard deviations to each side of a 95 % interval
_TREND = 6  # records from which on a line is fitted: with fewer, it is mostly noise
WIDEST = 5.0  # the logarithm of the largest factor of an interval; beyond it, nothing is known


def spread(lengths: Sequence[int], most: int, seed: int = 0) -> frozenset[int]:
    """Return the places of a sample of records, `most` at most, evenly spread over their lengths."""
    count = min(most, len(lengths))
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    start = random.Random(seed).random()  # noqa: S311  (nobody gains by guessing it)
    return frozenset(order[int((k + start) * len(lengths) / count)] for k in range(count))


@dataclass(frozen=True)
class Range:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float

    def shown(self, form: Callable[[float], str]) -> str:
        """Return `4.1M (3.6M to 4.7M)`, or `4.1M (3.6M or more)` without an upper end."""
        if math.isinf(self.high):
            return f"{form(self.value)} ({form(self.low)} or more)"
        return f"{form(self.value)} ({form(self.low)} to {form(self.high)})"


def total(sample: Sequence[float], count: int, lengths: Sequence[float] = (), mean: float = 0.0) -> Range:
    """Return the sum over `count` records, from a sample of them.

    The estimate is that of a regression (Cochran, Sampling Techniques, 1977, chapter 7), its variance that of
    MacKinnon and White, 1985 (HC3), which holds for costs that vary more where they are large. The interval
    is one of the logarithm, because costs have a long tail upwards.

    Args:
        sample: The known values.
        count: All records.
        lengths: The lengths of the sample's prompts; none for no trend.
        mean: The mean length of all prompts.
    """
    n = len(sample)
    each, middle = sum(sample) / n, sum(lengths) / n
    apart = [length - middle for length in lengths] if n >= _TREND and lengths else [0.0] * n
    spread_of = sum(x * x for x in apart)
    if max(x * x for x in apart) > (1 - 1 / n - 1e-9) * spread_of:
        apart, spread_of = [0.0] * n, 0.0  # all lengths but one are equal: a line says nothing of its error
    slope = sum(x * value for x, value in zip(apart, sample, strict=True)) / spread_of if spread_of else 0.0
    found = each + slope * (mean - middle) if spread_of else each
    if n < 2 or found <= 0:
        known = n == count or not any(sample)
        return Range(count * each, count * each if known else 0.0, count * each if known else math.inf)
    pulls = [(x / spread_of if spread_of else 0.0) for x in apart]
    variance = sum(
        ((1 / n + (mean - middle) * pull) * (value - each - slope * x) / (1 - 1 / n - x * pull)) ** 2
        for x, pull, value in zip(apart, pulls, sample, strict=True)
    )
    deviation = math.sqrt(max(1 - n / count, 0.0) * variance) / found
    wide = _student(n - (2 if spread_of else 1)) * deviation
    high = math.exp(wide) if wide < WIDEST else math.inf
    return Range(count * found, count * found * math.exp(-wide), count * found * high)


def _student(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t (Abramowitz and Stegun, 26.7.5)."""
    z = _Z
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


@dataclass(frozen=True)
class Estimate:
    """What all records will cost."""

    count: int  # all records
    sample: Sequence[Chain]  # those that were made
    parallel: int
    rpm: int | None = None
    tpm: int | None = None
    lengths: Sequence[int] = ()  # the lengths of the sample's prompts
    mean: float = 0.0  # the mean length of all prompts

    def __post_init__(self) -> None:
        if not self.sample:
            raise RecordError("no chain of the sample was made, so there is nothing to estimate from.")

    def total(self, value: Callable[[Chain], float]) -> Range:
        """Return the estimated sum of a value over all records."""
        return total([value(chain) for chain in self.sample], self.count, self.lengths, self.mean)

    @property
    def usd(self) -> Range | None:
        """The money; None without a price."""
        if any(chain.usage.cost_usd is None for chain in self.sample):
            return None
        return self.total(lambda chain: chain.usage.cost_usd or 0.0)

    @property
    def hours(self) -> Range:
        """The time, in hours: that of the chains, or of the server's limits if that is longer."""
        at_once = min(self.parallel, self.count)
        times = [self.total(lambda chain: chain.usage.seconds / at_once / 3600)]
        if self.rpm:
            times.append(self.total(lambda chain: calls(chain) / self.rpm / 60))  # type: ignore[operator]
        if self.tpm:
            hour = 60 * self.tpm
            times.append(
                self.total(lambda chain: (chain.usage.prompt_tokens + chain.usage.completion_tokens) / hour)
            )
        return max(times, key=lambda each: each.value)

    def rows(self) -> list[tuple[str, str]]:
        """Return rows for the summary."""
        new = self.total(lambda chain: chain.usage.completion_tokens)
        read = self.total(lambda chain: chain.usage.prompt_tokens)
        usd = self.usd
        money = f"{usd.shown(lambda x: f'{x:,.4f}')} USD" if usd else "no price is known: --price IN,OUT"
        return [
            ("estimate", f"all {self.count:,} records, from {len(self.sample):,}, with 95 % intervals"),
            ("", f"{new.shown(_short)} new tokens, {read.shown(_short)} in prompts"),
            ("", money),
            ("", f"{self.hours.shown(lambda x: f'{x:.2f}')} hours, {self.parallel} chains at once"),
        ]


def calls(chain: Chain) -> int:
    """Return how many requests made a chain, without repeated ones."""
    given = bool(chain.meta.get("generated", {}).get("first"))
    asked = sum(step.feedback is not None and step.feedback.by != "checks" for step in chain.steps)
    return len(chain.steps) - given + asked


def _short(value: float) -> str:
    """Return `12,345`, `1.23M` or `4.5B`."""
    for size, letter in ((1e9, "B"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:,.0f}"
