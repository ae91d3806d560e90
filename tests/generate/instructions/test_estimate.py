"""What a run will cost, estimated from a few of its requests."""

from __future__ import annotations

from operator import attrgetter
from random import Random

import pytest

from redraft.generate.instructions.estimate import Cost, Estimate


def requests(rng: Random, number: int) -> list[Cost]:
    """Requests whose costs grow with what they keep, unevenly."""
    made = []
    for _ in range(number):
        kept = rng.randint(0, 8)
        made.append(Cost(calls=1 + kept, new=200 + kept * rng.randint(50, 150), kept=kept))
    return made


def test_the_interval_holds_the_true_cost_nineteen_times_in_twenty() -> None:
    rng = Random(3)
    hits = 0
    for _ in range(150):
        rest = requests(rng, 500)
        missing = sum(cost.kept for cost in rest)
        found = Estimate(missing, requests(rng, 20), False, 1).total(attrgetter("new"))
        hits += found.low <= sum(cost.new for cost in rest) <= found.high
    assert 0.89 <= hits / 150 <= 0.98


def test_a_sample_of_one_bounds_nothing() -> None:
    found = Estimate(100, [Cost(new=500, kept=5)], False, 1).total(attrgetter("new"))
    assert (found.value, found.low, found.high) == (10_000, 0, float("inf"))


def test_hours_follow_the_calls_or_a_limit_that_is_slower() -> None:
    sample = [Cost(calls=10, read=900, new=100, seconds=36, kept=10)] * 2
    assert Estimate(1000, sample, False, 2).hours.value == 0.5
    assert Estimate(1000, sample, False, 2, rpm=10).hours.value == pytest.approx(1000 / 10 / 60)
    assert Estimate(1000, sample, False, 2, rpm=10, tpm=500).hours.value == pytest.approx(100_000 / 500 / 60)


def test_requests_that_kept_nothing_give_no_estimate() -> None:
    rows = Estimate(9, [Cost(new=5)] * 3, True, 1).rows()
    assert rows == [("estimate", "none of 9 more instructions, from 3 requests: they kept nothing")]
