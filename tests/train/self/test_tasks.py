from __future__ import annotations

import datetime as dt
from pathlib import Path
from random import Random

import pytest

from redraft.errors import RedraftError
from redraft.train.self.tasks import TASKS, find_task
from redraft.train.self.tasks.numbers import ADD, AFTER, LATER, MULTIPLY, SUBTRACT, TOTAL
from redraft.train.self.tasks.task import Task

EVERY = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


@EVERY
def test_twenty_wordings_or_more_take_the_values_and_nothing_else(task: Task) -> None:
    values = task.draw(Random(1))
    asked = {wording.format(**values) for wording in task.wordings}
    assert len(asked) == len(task.wordings) >= 20
    assert not any("{" in each for each in asked)


@EVERY
def test_a_right_answer_passes_and_nearly_all_spoiled_ones_do_not(task: Task) -> None:
    rng = Random(2)
    drawn = [task.draw(rng) for _ in range(300)]
    assert all(task.judge(values, task.right(values)).passed for values in drawn)
    assert sum(task.judge(values, task.spoil(values, rng)).passed for values in drawn) < 20


@EVERY
def test_feedback_ends_with_a_comparison_that_fits(task: Task) -> None:
    values = task.draw(Random(3))
    assert task.judge(values, task.right(values)).text.endswith(": the same.")
    assert ": different." in task.judge(values, "no idea").text


@pytest.mark.parametrize(
    ("task", "values", "right", "work"),
    [
        (ADD, {"a": 5867, "b": 5867}, "11734", "5 5: 5+5+1=11 [1734], 1 [11734], so 11734"),
        (
            ADD,
            {"a": 1071, "b": 46},
            "1117",
            "1071 46: 1+6=7 [7], 107 4: 7+4=11 [17], 10 0: 0+0+1=1 [117], 1 0: 1+0=1",
        ),
        (
            SUBTRACT,
            {"a": 48213, "b": 9876},
            "38337",
            "48213 9876: 6 from 3: 13-6=7 borrow [7], 4821 987: 7+1=8 from 1: 11-8=3 borrow [37]",
        ),
        (
            SUBTRACT,
            {"a": 1000, "b": 999},
            "1",
            "10 9: 9+1=10 from 0: 10-10=0 borrow [001], 1 0: 0+1=1 from 1: 1-1=0 [0001], so 1,",
        ),
        (AFTER, {"day": 3, "month": "March", "days": 45}, "17 April", "March has 31, 48-31=17"),
        (MULTIPLY, {"a": 306, "b": 7}, "2142", "30 7: 0*7=0, 0+4=4 [42], 3 7: 3*7=21 [142], 2 [2142]"),
        (TOTAL, {"sum": "9 + 40 + 31"}, "80", "9 40 31: 9+40=49, 49+30=79, 79+1=80, so 80"),
        (LATER, {"time": "9:50", "minutes": 75}, "11:05", "125-60=65, 9+1=10, 65-60=5, 10+1=11, so 11:05"),
    ],
)
def test_the_work_is_shown(task: Task, values: dict[str, object], right: str, work: str) -> None:
    found = task.judge(values, right)
    assert found.passed
    assert work in found.text
    assert task.right(values) == right


def test_dates_agree_with_the_calendar() -> None:
    rng = Random(4)
    for _ in range(100):
        values = AFTER.draw(rng)
        start = dt.datetime.strptime(f"{values['day']} {values['month']} 2023", "%d %B %Y").date()  # noqa: DTZ007
        end = start + dt.timedelta(values["days"])
        assert AFTER.right(values) == f"{end.day} {end:%B}"
        assert f", so {end.day} {end:%B}, and" in AFTER.judge(values, "?").text


def test_a_task_of_a_module_is_found(here: Path) -> None:
    (here / "own_tasks.py").write_text("from redraft.train.self.tasks.numbers import ADD as SUMS")
    assert find_task("python:own_tasks.SUMS") is ADD


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adding", "there is no task 'adding'"),
        ("python:redraft.jobs.ids.derived_seed", "derived_seed is of the type function, not Task"),
        ("python:nowhere.TASK", "there is no module 'nowhere'"),
    ],
)
def test_what_is_no_task_is_named(name: str, message: str) -> None:
    with pytest.raises(RedraftError, match=message):
        find_task(name)
