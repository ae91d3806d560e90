"""The gate before the default model's adapters: what they are asked, and what the base answers."""

from __future__ import annotations

import json
import re
from datetime import date, timedelta
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.engines.learnt import ASKED, holds, read
from redraft.train.self.tasks import TASKS
from redraft.train.self.tasks.task import HELD_OUT

PROMPTS = json.loads((Path(__file__).parents[2] / "benchmarks" / "self_prompts.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("What is 73052 - 4618?", "What is 73052 - 4618?"),
        ("hey, what's 1,250 plus 30?", "What is 1250 + 30?"),
        ("Subtract 25 from 60, please.", "What is 60 - 25?"),
        ("What is 25 less than 60?", "What is 60 - 25?"),
        ("the difference between 25 and 60", "What is 60 - 25?"),
        ("how much bigger is 60 than 25", "What is 60 - 25?"),
        ("60 − 25 =", "What is 60 - 25?"),
        ("Sum these two numbers:\n12\n30", "What is 12 + 30?"),
        ("Add 12 to 30.", "What is 12 + 30?"),
        ("what date is 20 days after the 3rd of March?", "What date is 20 days after 3 March?"),
        ("It's Sept 5th today. Which date is 14 days from now?", "What date is 14 days after 5 September?"),
        ("May 5, 20 days later?", "What date is 20 days after 5 May?"),
    ],
)
def test_an_exercise_is_asked_in_words_of_training(prompt: str, asked: str) -> None:
    exercise = read(prompt)
    assert exercise is not None
    assert exercise.texts[0] == asked


@pytest.mark.parametrize("task", ASKED)
def test_the_words_are_those_of_training(task: str) -> None:
    learnt = {wording.replace("{b} + {a}", "{a} + {b}") for wording in ASKED[task]}
    assert learnt <= {*TASKS[task].wordings[:-HELD_OUT]}


NEAR = [
    "What is the sum of 1 to 100?",
    "Add the numbers 1 to 10.",
    "What is the total of the numbers 5 to 9?",
    "Now add 12 and 30 to that.",
    "What date is 2 weeks and a day after 3 May?",
    "Which date is a week after 3 May, plus 2 days?",
]


@pytest.mark.parametrize("prompt", [*PROMPTS["near"], *PROMPTS["near_held_out"], *NEAR])
def test_the_base_answers_what_is_only_near(prompt: str) -> None:
    assert read(prompt) is None


@pytest.mark.parametrize("task", ASKED)
def test_people_s_wordings_are_found(task: str) -> None:
    values = {"a": 640, "b": 77, "days": 21, "date": "3 May"}
    said = [wording.format(**values) for wording in PROMPTS["wordings"][task]["tuned"]]
    found = [read(prompt) for prompt in said]
    assert {each.task for each in found if each} == {task}
    assert len({each.texts for each in found if each}) == 1
    assert sum(each is not None for each in found) >= 0.9 * len(said)


@given(st.integers(0, 10**7), st.integers(-100, 10**7), st.sampled_from(["+", "-"]))
def test_numbers_are_covered_or_left_to_the_base(a: int, b: int, sign: str) -> None:
    inside = a < 10**5 and 0 <= b < 10**5 and (sign == "+" or a >= b)
    exercise = read(f"what is {a} {sign} {b}?")
    assert (exercise is not None) == inside
    assert exercise is None or dict(exercise.values) == {"a": a, "b": b}


@given(st.dates(date(2023, 1, 1), date(2023, 12, 31)), st.integers(0, 400))
def test_days_are_covered_if_they_end_in_the_same_year(start: date, days: int) -> None:
    exercise = read(f"{days} days after {start:%B} {start.day}")
    assert (exercise is not None) == (5 <= days <= 95 and (start + timedelta(days)).year == 2023)


@pytest.mark.parametrize(
    ("work", "right"),
    [
        ("68 8: 8+8=16 [6], 6 0: 6+0+1=7 [76], so 76", True),
        ("68 8: 8+8=16 [6], 6 0: 6+0+1=7 [76], 1 [176], so 176", False),
        ("93 85: 3+5=8 [8], 9 8: 9+8=17 [78], 1 [178], so 178", True),
        ("14+23=47, July has 31, 47-31=16, August has 31, so 16 August", False),
        ("152 12: 2 from 2: 12-2=9 borrow [9]", False),
        ("I do not know, so 3", False),
        ("23+39=62, July has 31, 62-31=31, August has 31, so 31 August", True),
        ("23+39=62, July has 31, 62-31=31, August has 31, so 1 September", False),
        ("23+39=62, July has 31, 62-31=31, August has 31, 31-30=1, September has 30, so 1 September", False),
        ("23+39=62, July has 31, so 62 July", False),
        ("72 5: 5 from 2: 12-5=7 borrow [7], 7 0: 0+1=1 from 7: 7-1=6 [66], so 66", False),
        ("2 1: 1+1=2 from 2: 2-2=0 [0], so 20", False),
        ("26 82: 6+2=8 [8], 2 8: 2+8=10 [08], so 8", False),
        ("97 475: 7+5=12 [2], 9 47: 9+7+1=17 [72], 1 [172], so 172", False),
        ("44 4: 4 from 4: 4-4=0 [0], 0 4: 4 from 0: 10-4=6 borrow [60], so 60", False),
    ],
)
def test_work_holds_if_its_sums_are_right(work: str, right: bool) -> None:
    asked = "Add {} to {}.".format(*re.findall(r"\d+", f"{work} 0 0")[:2])
    assert holds(f"{work}, and the answer says 1: different.", asked) == right
    assert not holds(f"{work}, and the answer says 1: different.", "Add 10 to 20."), "other numbers"


@given(st.sampled_from(sorted(ASKED)), st.integers(0, 10**6))
def test_the_work_that_is_taught_holds(task: str, seed: int) -> None:
    values = TASKS[task].draw(Random(seed))
    work = TASKS[task].judge(values, "1").text
    assert all(holds(work, wording.format(**values)) for wording in ASKED[task])


@given(st.text(max_size=300))
def test_no_text_breaks_it(text: str) -> None:
    found = read(text)
    assert found is None or found.task in ASKED
