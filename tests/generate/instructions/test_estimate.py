"""What a run will cost, estimated from a few of its requests."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator
from itertools import accumulate, islice
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


def taught(rng: Random, ideas: int, power: float) -> Iterator[Cost]:
    """Requests to a teacher with so many ideas, some of which it has more often than others."""
    weights = list(accumulate((place + 1) ** -power for place in range(ideas)))
    had: set[int] = set()
    while True:
        tasks, before = rng.randint(8, 17), len(had)
        had.update(bisect(weights, rng.random() * weights[-1]) for _ in range(tasks))
        yield Cost(calls=1, new=300 + 60 * tasks, kept=len(had) - before)


@pytest.mark.slow
@pytest.mark.parametrize(("ideas", "power"), [(100_000, 0.0), (5000, 0.0), (20_000, 0.8), (200_000, 1.2)])
@pytest.mark.parametrize(("size", "more"), [(12, 300), (30, 600)])
def test_the_interval_holds_the_true_cost_where_new_ideas_become_fewer(
    ideas: int, power: float, size: int, more: int
) -> None:
    hits = 0
    for seed in range(40):
        teacher = taught(Random(seed), ideas, power)
        sample = list(islice(teacher, size))
        found = Estimate(more, sample, False, 1).total(attrgetter("new"))
        kept = cost = 0
        while kept < more:
            request = next(teacher)
            kept, cost = kept + request.kept, cost + request.new
        hits += found.low <= cost <= found.high
    assert hits >= 38


def test_the_trend_goes_on_from_earlier_requests() -> None:
    sample = [Cost(new=100, kept=5)] * 10
    early = Estimate(1000, sample, False, 1).total(attrgetter("new"))
    late = Estimate(1000, sample, False, 1, before=(100, 1000)).total(attrgetter("new"))
    assert early.value == pytest.approx(20_000)
    assert late.value > 1.2 * early.value


def test_the_interval_holds_the_true_cost_where_all_requests_are_alike() -> None:
    rng = Random(3)
    hits = 0
    for _ in range(60):
        rest = requests(rng, 500)
        missing = sum(cost.kept for cost in rest)
        found = Estimate(missing, requests(rng, 20), False, 1).total(attrgetter("new"))
        hits += found.low <= sum(cost.new for cost in rest) <= found.high
    assert hits >= 56


def test_a_sample_of_one_bounds_nothing() -> None:
    found = Estimate(100, [Cost(new=500, kept=5)], False, 1).total(attrgetter("new"))
    assert (found.value, found.low, found.high) == (10_000, 0, float("inf"))


def test_hours_follow_the_calls_or_a_limit_that_is_slower() -> None:
    sample = [Cost(calls=10, read=900, new=100, seconds=36, kept=10)] * 2
    assert Estimate(1000, sample, False, 2).hours.value == pytest.approx(0.5)
    assert Estimate(1000, sample, False, 2, rpm=10).hours.value == pytest.approx(1000 / 10 / 60)
    assert Estimate(1000, sample, False, 2, rpm=10, tpm=500).hours.value == pytest.approx(100_000 / 500 / 60)


def test_requests_that_kept_nothing_give_no_estimate() -> None:
    rows = Estimate(9, [Cost(new=5)] * 3, True, 1).rows()
    assert rows == [("estimate", "none of 9 more instructions, from 3 requests: they kept nothing")]
