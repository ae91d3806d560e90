"""The promise of a recipe: who watches it tells once, seldom without need, and of answers that it is of."""

from __future__ import annotations

import random
from pathlib import Path

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
    return [each for each in (watch.add(answer(passed=rng.random() < rate)) for _ in range(answers)) if each]


def test_a_broken_promise_is_told_once() -> None:
    [said] = told(0.5, seed=1)
    assert said.startswith("way.yaml promises that at least 80.0 % of answers pass, but ")
    assert "redraft diagnose FILE --choose WAY" in said


def test_a_promise_that_is_kept_is_seldom_called_broken() -> None:
    assert sum(bool(told(0.8, seed)) for seed in range(200)) <= 10


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (answer(passed=False, check="lacks:rain"), "answers with the check lacks. Covered checks: words."),
        (Chain(id="b", steps=(Step(answer="Rain."),), best=0), "answers without checks. Covered checks: "),
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


def test_watches_over_a_promise_in_one_folder_count_together_and_after_one_another(tmp_path: Path) -> None:
    one, other = Watch(PROMISE, "way.yaml"), Watch(PROMISE.model_copy(update={"drift": "one"}), "way.yaml")
    assert [watch.keep_in(tmp_path / "new") for watch in (one, other)] == ["", ""]
    said = [watch.add(answer(passed=False)) for _ in range(3) for watch in (one, other)]
    assert [bool(each) for each in said] == [False] * 3 + [True, True, False]
    assert (other.broken, other.count, bool(other.instead)) == (True, 4, True)
    later, strange = Watch(PROMISE, "way.yaml"), Watch(Promise(right=0.9, checks=["words"]), "way.yaml")
    assert "but 0 of 4 do" in later.keep_in(tmp_path / "new")
    assert strange.keep_in(tmp_path / "new") == ""


def test_a_damaged_file_of_counts_begins_anew_and_one_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (watch := Watch(PROMISE, "way.yaml")).keep_in(tmp_path)
    [file] = tmp_path.iterdir()
    for damage in ("", "\0" * 40, "1 2", "a b c"):
        file.write_text(damage)
        (watch := Watch(PROMISE, "way.yaml")).keep_in(tmp_path)
        watch.add(answer(passed=True))
        assert file.read_text() == "1 1 0\n"
    said = watch.keep_in(file)
    assert said.startswith("cannot store the counts for the promise of way.yaml: ")
    assert str(file) in said
    assert not watch.add(answer(passed=True))
    assert watch.count == 2


def test_answers_made_otherwise_or_for_nobody_do_not_count() -> None:
    watch = Watch(PROMISE, "way.yaml")
    assert [each for each in [watch.add(answer(passed=False), "max_tokens") for _ in range(20)] if each] == [
        "the promise of way.yaml does not cover answers with another max_tokens."
    ]
    assert (watch.add(answer(passed=False).model_copy(update={"stop": "cancelled"})), watch.count) == ("", 0)


def test_types_are_what_comes_before_the_limit_of_a_check() -> None:
    assert types_of(["words<=9", "words>=2", "contains:rain", "json"]) == ["contains", "json", "words"]
