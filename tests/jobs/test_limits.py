"""Limits of a run: what reaches them, alone and after earlier jobs of the same run."""

from __future__ import annotations

import asyncio

import pytest

from redraft.errors import EngineTimeout, UsageError
from redraft.jobs.limits import Limits, Spent

ALONE = Limits(usd=1.0, tokens=100, seconds=60.0)
LATER = ALONE.after(Spent(30, 0.3), 20.0).after(Spent(50, 0.5, estimated=True), 30.0)


@pytest.mark.parametrize(
    ("limits", "spent", "seconds", "said"),
    [
        (ALONE, Spent(99, 0.99), 59.0, ""),
        (ALONE, Spent(usd=1.0), 0.0, "1 USD is reached (1.0000 spent)"),
        (ALONE, Spent(100, estimated=True), 0.0, "100 tokens is reached (100 generated, estimated)"),
        (ALONE, Spent(), 60.0, "60 seconds is reached"),
        (LATER, Spent(19, 0.19), 9.0, ""),
        (LATER, Spent(usd=0.3), 0.0, "1 USD is reached (1.1000 spent, estimated)"),
        (LATER, Spent(20), 0.0, "100 tokens is reached (100 generated, estimated)"),
        (LATER, Spent(), 10.0, "60 seconds is reached"),
    ],
)
def test_what_reaches_a_limit(limits: Limits, spent: Spent, seconds: float, said: str) -> None:
    assert limits.reached(spent, seconds) == (said and f"the limit of {said}")
    assert Limits().reached(spent, seconds) == ""


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
