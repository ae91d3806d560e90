"""The mean of grades, by model, judge and turn."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("scipy")

from redraft.evaluate.grades import Grades, grades_of


def grade(question: int | str, score: float | None, **more: Any) -> dict[str, Any]:
    record = {"question_id": question, "model": "new", "judge": ["gull", "grades-general"], "turn": 1}
    return record | {"score": score} | more


def test_a_mean_for_each_model_judge_and_turn() -> None:
    records = [
        *(grade(number, 6 + number % 3) for number in range(30)),
        grade("x", None),
        grade(1, 2, turn=2),
        grade(1, 4, judge=["tern", "r-1"]),
    ]
    first, second, other = grades_of(records)
    assert (first.model, first.judge, first.turn, first.questions) == ("new", "gull", 1, 30)
    assert first.mean.value == pytest.approx(7.0)
    # The standard error of 30 grades with a variance of 20/29 is 0.152, and Student's t is 2.045.
    assert first.mean.low == pytest.approx(7 - 0.31, abs=0.02)
    assert first.mean.high == pytest.approx(7 + 0.31, abs=0.02)
    assert (second.turn, second.questions, second.mean.value) == (2, 1, 2)
    assert (other.judge, other.mean.value) == ("tern", 4)


def test_grades_of_a_question_are_drawn_together() -> None:
    [found] = grades_of([grade(number // 2, 5 + number // 2) for number in range(8)])
    assert isinstance(found, Grades)
    assert found.questions == 4
    assert found.mean.value == pytest.approx(6.5)


def test_nothing_that_can_be_read_is_no_mean() -> None:
    assert list(grades_of([grade(1, None)])) == []
