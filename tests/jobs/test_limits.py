"""Limits of a run: what reaches them, alone and after earlier jobs of the same run."""

from __future__ import annotations

import asyncio

import pytest

from redraft.errors import EngineTimeout, UsageError
from redraft.jobs.limits import Limits, Spent

LIMITS = Limits(usd=1.0, tokens=100, seconds=60.0)


@pytest.mark.parametrize(
    ("spent", "seconds", "said"),
    [
        (Spent(99, 0.99), 59.0, ""),
        (Spent(usd=1.0), 0.0, "the limit of 1 USD is reached (1.0000 spent)"),
        (Spent(100, estimated=True), 0.0, "the limit of 100 tokens is reached (100 generated, estimated)"),
        (Spent(), 60.0, "the limit of 60 seconds is reached"),
    ],
)
def test_what_reaches_a_limit(spent: Spent, seconds: float, said: str) -> None:
    assert LIMITS.reached(spent, seconds) == said
    assert Limits().reached(spent, seconds) == ""


@pytest.mark.parametrize(
    ("spent", "seconds", "said"),
    [
        (Spent(19, 0.19), 9.0, ""),
        (Spent(usd=0.3), 0.0, "the limit of 1 USD is reached (1.1000 spent, estimated)"),
        (Spent(20), 0.0, "the limit of 100 tokens is reached (100 generated, estimated)"),
        (Spent(), 10.0, "the limit of 60 seconds is reached"),
    ],
)
def test_earlier_jobs_of_a_run_count(spent: Spent, seconds: float, said: str) -> None:
    later = LIMITS.after(Spent(30, 0.3), 20.0).after(Spent(50, 0.5, estimated=True), 30.0)
    assert later.reached(spent, seconds) == said


def test_the_time_to_open_models_is_what_is_left() -> None:
    async def opened(limits: Limits) -> None:
        async with limits.opening(1.0):
            await asyncio.sleep(0.01)

    asyncio.run(opened(Limits(seconds=60.0)))
    with pytest.raises(EngineTimeout, match="the limit of 60 seconds was reached before"):
        asyncio.run(opened(Limits(seconds=60.0).after(Spent(), 59.0)))


@pytest.mark.parametrize("limit", [0, -1, float("inf"), float("nan")])
def test_a_limit_is_above_zero(limit: float) -> None:
    with pytest.raises(UsageError, match="the limit of usd is"):
        Limits(usd=limit)
