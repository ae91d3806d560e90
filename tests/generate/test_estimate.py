"""Estimates: samples that cover every kind of record, and intervals that hold what they promise."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import Chain, Feedback, Prompt, Step, Usage
from redraft.errors import RecordError
from redraft.generate.estimate import Estimate, calls, spread, total


def chain(tokens: int, *, usd: float | None = None, answers: int = 1, seconds: float = 36.0) -> Chain:
    said = Feedback(text="Revision is needed.", verdict="revise")
    usage = Usage(completion_tokens=tokens, prompt_tokens=2 * tokens, seconds=seconds, cost_usd=usd)
    steps = tuple(Step(answer="A", feedback=said) for _ in range(answers))
    return Chain(prompt=Prompt(instruction="?"), steps=steps, usage=usage)


@given(st.lists(st.integers(0, 2**40), max_size=60), st.integers(2, 20), st.integers(0, 9))
def test_a_sample_has_as_many_records_as_there_are(lengths: list[int], most: int, seed: int) -> None:
    places = spread(lengths, most, seed)
    assert len(places) == min(most, len(lengths))
    assert places <= set(range(len(lengths)))


def test_a_sample_covers_every_length() -> None:
    lengths = [10] * 900 + [5000] * 100
    random.Random(1).shuffle(lengths)
    found = sorted(lengths[place] for place in spread(lengths, 20))
    assert found == [10] * 18 + [5000] * 2


@pytest.mark.parametrize("size", [6, 10, 20, 50])
@pytest.mark.parametrize("kind", ["length", "tail", "steps"])
def test_intervals_hold_the_truth_nineteen_times_in_twenty(kind: str, size: int) -> None:
    """Costs in proportion to lengths, with a long tail, and in steps as chains have them."""
    draw, held, trials = random.Random(2), 0, 150
    for trial in range(trials):
        lengths = [int(math.exp(draw.gauss(5, 0.8))) for _ in range(800)]
        if kind == "length":
            costs = [length * draw.uniform(0.5, 1.5) for length in lengths]
        elif kind == "tail":
            costs = [length + draw.expovariate(1 / 300) for length in lengths]
        else:
            costs = [(length / 4 + 200) * draw.choice([1, 1, 1, 3, 5, 9]) for length in lengths]
        places = list(spread(lengths, size, trial))
        sample = [costs[place] for place in places]
        found = total(sample, 800, [lengths[place] for place in places], sum(lengths) / 800)
        held += found.low <= sum(costs) <= found.high
    assert held >= 0.87 * trials


def test_a_sample_of_all_is_exact() -> None:
    found = total([1.0, 2.0, 6.0], 3)
    assert (found.value, found.low, found.high) == (9.0, 9.0, 9.0)
    assert total([4.0], 1).high == 4.0


def test_what_a_run_will_cost() -> None:
    rows = Estimate(1000, [chain(100, usd=0.01)] * 10, parallel=10).rows()
    assert rows == [
        ("estimate", "all 1,000 records, from 10, with 95 % intervals"),
        ("", "100,000 (100,000 to 100,000) new tokens, 200,000 (200,000 to 200,000) in prompts"),
        ("", "10.0000 (10.0000 to 10.0000) USD"),
        ("", "1.00 (1.00 to 1.00) hours, 10 chains at once"),
    ]


@pytest.mark.parametrize(
    ("limits", "hours"), [({"rpm": 50}, 4.0), ({"tpm": 2000}, 15.0), ({"rpm": 10**6}, 1.0)]
)
def test_the_servers_limits_may_take_longer(limits: dict[str, int], hours: float) -> None:
    sample = [chain(600, answers=6)] * 10
    assert Estimate(1000, sample, 10, **limits).hours.value == pytest.approx(hours)


def test_without_a_price_there_is_no_money() -> None:
    assert ("", "no price is known: --price IN,OUT") in Estimate(10, [chain(5)], 1).rows()


def test_large_numbers_are_short() -> None:
    assert "1.5M (1.5M to 1.5M) new tokens, 3M" in Estimate(1500, [chain(1000)] * 5, 1).rows()[1][1]


def test_a_given_answer_is_no_request() -> None:
    made = chain(1, answers=2)
    assert calls(made) == 4
    assert calls(made.model_copy(update={"meta": {"generated": {"first": True}}})) == 3


def test_nothing_can_be_said_without_a_sample() -> None:
    with pytest.raises(RecordError, match="nothing to estimate from"):
        Estimate(10, [], 1)


def test_one_prompt_of_another_length_makes_no_trend() -> None:
    costs = [1.0, 1.0, 2.0, 1.0, 1.0, 2.0, 1.0, 5.0]
    assert total(costs, 100, [1] * 7 + [9], 2.0) == total(costs, 100)
