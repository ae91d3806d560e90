"""The promise of a recipe: who watches it tells once, seldom without need, and of answers that it is of."""

from __future__ import annotations

import random

import pytest

from redraft.chain import Chain, CheckResult, Feedback, Step
from redraft.revision.promise import Watch, types_of

PROMISE = {"right": 0.8, "checks": ["words"]}


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


@pytest.mark.parametrize("other", [answer(passed=False, check="lacks:rain"), Chain(id="b")])
def test_answers_that_the_promise_is_not_of_do_not_count(other: Chain) -> None:
    watch = Watch(PROMISE, "way.yaml")
    assert not any(watch.add(other) for _ in range(100))
    assert watch.count == 0


def test_types_are_what_comes_before_the_limit_of_a_check() -> None:
    assert types_of(["words<=9", "words>=2", "contains:rain", "json"]) == ["contains", "json", "words"]
