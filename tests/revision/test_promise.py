"""The promise of a recipe: who watches it tells once, seldom without need, and of answers that it is of."""

from __future__ import annotations

import random

import pytest

from redraft.chain import Chain, CheckResult, Feedback, Step
from redraft.revision.promise import Promise, Watch, types_of

PROMISE = Promise(right=0.8, checks=["words"])


def answer(*, passed: bool, check: str = "words<=9") -> Chain:
    result = CheckResult(name=check, passed=passed, score=float(passed), message="")
    feedback = Feedback(text="", verdict="accept" if passed else "revise", by="checks", checks=(result,))
    return Chain(id="a", steps=(Step(answer="Rain.", feedback=feedback),), best=0)


def told(rate: float, seed: int, answers: int = 300) -> list[str]:
    watch, rng = Watch(PROMISE, "way.yaml"), random.Random(seed)
    said = (watch.add(answer(passed=rng.random() < rate)) for _ in range(answers))
    return [each for each in said if each]


def test_a_broken_promise_is_told_once() -> None:
    [said] = told(0.5, seed=1)
    assert said.startswith("way.yaml promises that at least 80.0 % of answers pass, and ")
    assert "redraft diagnose FILE --choose WAY" in said


def test_a_promise_that_is_kept_is_seldom_called_broken() -> None:
    assert sum(bool(told(0.8, seed)) for seed in range(200)) <= 10


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (answer(passed=False, check="lacks:rain"), "for answers with a check lacks: its checks are words."),
        (Chain(id="b", steps=(Step(answer="Rain."),), best=0), "for answers without checks: its checks are "),
        (Chain(id="b"), ""),
    ],
)
def test_answers_that_the_promise_is_not_of_do_not_count_and_are_told_once(other: Chain, told: str) -> None:
    watch = Watch(PROMISE, "way.yaml")
    first, *more = (watch.add(other) for _ in range(100))
    assert told in first
    assert bool(told) == bool(first)
    assert not any(more)
    assert watch.count == 0


@pytest.mark.parametrize("way", ["best-of-4", "steered-4"])
def test_a_drift_steps_back_to_one_answer_if_the_promise_says_so(way: str) -> None:
    promise = PROMISE.model_copy(update={"way": way})
    kept, telling = (
        Watch(promise.model_copy(update={"drift": each}), "way.yaml") for each in ("one", "tell")
    )
    assert not kept.instead
    said = [kept.add(answer(passed=False)) for _ in range(30)]
    assert any("From now on, each prompt gets one answer." in each for each in said)
    assert (kept.instead["drafts"], kept.instead.get("steer")) == (1, False if "steered" in way else None)
    assert any(telling.add(answer(passed=False)) for _ in range(30))
    assert not telling.instead


def test_types_are_what_comes_before_the_limit_of_a_check() -> None:
    assert types_of(["words<=9", "words>=2", "contains:rain", "json"]) == ["contains", "json", "words"]
