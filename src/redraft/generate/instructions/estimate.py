"""Estimate what the rest of a run will cost from requests that were really made.

The cost of an instruction is a ratio: what requests cost, by what they kept. Its variance is that of a ratio
of two sample means (Cochran, Sampling Techniques, 1977, section 6.4). A growing pool rejects more
instructions as similar, and that is not estimated: a sample of a larger pool is nearer to what remains.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from redraft.counting import counted
from redraft.generate.estimate import Range, Z


@dataclass
class Cost:
    """What a request used, and how many instructions it kept.

    Attributes:
        calls: How often the teacher was asked.
        read: Tokens of prompts.
        new: Tokens of replies.
        usd: Money; 0 without a price.
        seconds: Sum over the calls.
        kept: Instructions.
    """

    calls: int = 0
    read: int = 0
    new: int = 0
    usd: float = 0.0
    seconds: float = 0.0
    kept: int = 0


@dataclass(frozen=True)
class Estimate:
    """What the instructions that are missing will cost.

    Attributes:
        missing: How many they are.
        sample: Requests that were made.
        priced: Whether tokens have a price.
        parallel: Calls at once.
        rpm: The limit of requests a minute; None for none.
        tpm: That of tokens a minute.
    """

    missing: int
    sample: Sequence[Cost]
    priced: bool
    parallel: int
    rpm: int | None = None
    tpm: int | None = None

    def total(self, value: Callable[[Cost], float]) -> Range:
        """Return the estimated sum of a value, with its 95 % interval. The sample has kept something."""
        n, kept = len(self.sample), sum(cost.kept for cost in self.sample)
        each = sum(map(value, self.sample)) / kept
        if n < 2:
            return Range(each * self.missing, 0.0, math.inf)
        squares = sum((value(cost) - each * cost.kept) ** 2 for cost in self.sample)
        deviation = math.sqrt(n / (n - 1) * squares) / kept
        low, high = (max(each + side * Z * deviation, 0.0) * self.missing for side in (-1, 1))
        return Range(each * self.missing, low, high)

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
