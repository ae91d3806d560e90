"""Estimate what a run will cost from a sample of its records that are really made.

The sample is spread evenly over the lengths of the prompts, because long prompts cost more and are often of
another kind. The chains of the sample stay in the output: the run that follows does not pay for them again.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from redraft.chain import Chain
from redraft.errors import RecordError

Z = 1.96
"""Standard deviations to each side of a 95 % interval."""


def spread(lengths: Sequence[int], most: int, seed: int = 0) -> frozenset[int]:
    """Return the places of at most so many records, evenly spread over their lengths."""
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
        """Return `4.1M (3.6M to 4.7M)`."""
        return f"{form(self.value)} ({form(self.low)} to {form(self.high)})"


def total(sample: Sequence[float], count: int) -> Range:
    """Return the sum over `count` records of which a sample is known, in the order of their lengths.

    The variance is that of successive differences, as usual for a sample at even distances (Wolter, An
    Investigation of Some Estimators of Variance for Systematic Sampling, 1984).
    """
    n = len(sample)
    value = count * sum(sample) / n
    if n < 2:
        return Range(value, value if n == count else 0.0, value if n == count else math.inf)
    squares = sum((b - a) ** 2 for a, b in pairwise(sample))
    deviation = count * math.sqrt((1 - n / count) * squares / (2 * n * (n - 1)))
    return Range(value, max(value - Z * deviation, 0.0), value + Z * deviation)


@dataclass(frozen=True)
class Estimate:
    """What all records will cost.

    Attributes:
        count: All records.
        sample: Those that were made, in the order of their prompts' lengths.
        parallel: Chains at once.
        rpm: The limit of requests a minute; None for none.
        tpm: That of tokens a minute.
    """

    count: int
    sample: Sequence[Chain]
    parallel: int
    rpm: int | None = None
    tpm: int | None = None

    def __post_init__(self) -> None:
        if not self.sample:
            raise RecordError("no chain of the sample was made, so there is nothing to estimate from.")

    def total(self, value: Callable[[Chain], float]) -> Range:
        """Return the estimated sum of a value over all records."""
        return total([value(chain) for chain in self.sample], self.count)

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
            times.append(self.total(lambda chain: _tokens(chain) / self.tpm / 60))  # type: ignore[operator]
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


def _tokens(chain: Chain) -> int:
    return chain.usage.prompt_tokens + chain.usage.completion_tokens


def _short(value: float) -> str:
    """Return `12,345`, `1.23M` or `4.5B`."""
    for size, letter in ((1e9, "B"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:,.0f}"
