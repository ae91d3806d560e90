"""Limit the money, tokens and time of one run of a job.

A run that reaches a limit starts no new item and finishes the active items. So the run exceeds the limit by
at most the cost of the active items. A budget (`revision.options.Budget`) is the limit of a single item.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal

from redraft.errors import EngineTimeout
from redraft.jobs.counting import counted

STOPPED = 4  # the exit status of a run that a limit ended


@dataclass
class Spent:
    """The money and tokens that a run has paid for so far, failed items included."""

    tokens: int = 0  # generated tokens
    usd: float = 0.0  # money
    replayed: int = 0  # replies that came from a journal, for free
    estimated: bool = False  # tokens and money are estimates, at least in part

    def plus(self, other: Spent) -> Spent:
        """Return the sum of two amounts."""
        replayed, estimated = self.replayed + other.replayed, self.estimated or other.estimated
        return Spent(self.tokens + other.tokens, self.usd + other.usd, replayed, estimated)

    def figures(self) -> dict[str, float]:
        """Return the amounts as fields of the run record."""
        return {"tokens": self.tokens, "usd": self.usd, **({"estimated": True} if self.estimated else {})}


@dataclass(frozen=True)
class Limits:
    """The limits of one run on cost, generated tokens and wall-clock time. None means no limit."""

    usd: float | None = None
    tokens: int | None = None
    seconds: float | None = None
    spent_before: Spent = field(default_factory=Spent)  # the cost of earlier jobs of the same run
    seconds_before: float = 0.0  # the duration of those jobs

    def reached(self, spent: Spent, seconds: float) -> str:
        """Describe the limit that was reached, or return ""."""
        spent, seconds = self.spent_before.plus(spent), self.seconds_before + seconds
        how = ", estimated" if spent.estimated else ""
        if self.usd is not None and round(spent.usd, 9) >= self.usd:
            return f"the limit of {Decimal(f'{self.usd:g}'):f} USD is reached ({spent.usd:.4f} spent{how})"
        if self.tokens is not None and spent.tokens >= self.tokens:
            most = counted(self.tokens, "token")
            return f"the limit of {most} is reached ({spent.tokens:,} generated{how})"
        if self.seconds is not None and seconds >= self.seconds:
            return f"the limit of {self.seconds:g} s is reached"
        return ""

    def after(self, spent: Spent, seconds: float) -> Limits:
        """Return the limits for the run's next job, given the cost and duration of this job."""
        before = self.seconds_before + seconds
        return replace(self, spent_before=self.spent_before.plus(spent), seconds_before=before)

    @asynccontextmanager
    async def opening(self, seconds: float) -> AsyncGenerator[None]:
        """Raise `EngineTimeout` if a `with` block exceeds the time limit. `seconds` is the time so far."""
        left = None if self.seconds is None else self.seconds - self.seconds_before - seconds
        try:
            async with asyncio.timeout(left) as opening:
                yield
        except TimeoutError:
            if not opening.expired():
                raise
            message = f"the limit of {self.seconds:g} s was reached before the model was ready."
            hint = "Check the model's server, or allow more time: --limit-seconds S"
            error = EngineTimeout(message, hint=hint)
            error.exit_status = STOPPED
            raise error from None
