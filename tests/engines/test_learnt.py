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
        ("what's 8 times 12", "What is 12 × 8?"),
        ("mutiply 7x284", "What is 284 × 7?"),
        ("12 kg plus 30 kg", "What is 12 + 30?"),
        ("bread 3\nolive oil 12\nmilk 2\nWhat's the total?", "What is 3 + 12 + 2?"),
        (
            "The film starts at 20:15, lasts 1 h 50 min. When does it end?",
            "What time is it 110 minutes after 20:15?",
        ),
        ("If you were born in 1950, how old are you in 2026?", "What is 2026 - 1950?"),
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
    "What is the sum of 1 to 100?", "Add the numbers 1 to 10.", "What is the total of the numbers 5 to 9?",
    "Now add 12 and 30 to that.", "What date is 2 weeks and a day after 3 May?",
    "Which date is a week after 3 May, plus 2 days?", "12 kg plus 30 g",
    "coat 80, scarf -10, gloves 15, total", "What is 12 * 80?", "What time is it 20 minutes after 23:50?",
]  # fmt: skip


@pytest.mark.parametrize("prompt", [*PROMPTS["near"], *PROMPTS["near_held_out"], *NEAR])
def test_the_base_answers_what_is_only_near(prompt: str) -> None:
    assert read(prompt) is None


@pytest.mark.parametrize("task", ASKED)
def test_people_s_wordings_are_found(task: str) -> None:
    values = {"a": 640, "b": 7, "days": 21, "weeks": 3, "date": "3 May", "day": 3, "month": "May"}
    values |= {"time": "08:15", "hours": 1, "minutes": 40, "items": "soap 3, milk 4, rice 5"}
    values["items_lines"] = "soap 3\nmilk 4\nrice 5"
    said = [wording.format(**values) for wording in PROMPTS["wordings"][task]["tuned"]]
    found = [read(prompt) for prompt in said]
    assert {each.task for each in found if each} == {task}
    assert sum(each is not None for each in found) >= 0.8 * len(said)


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
    ("work", "asked"),
    [
        ("68 8: 8+8=16 [6], 6 0: 6+0+1=7 [76], so 76", "What is 68 + 8?"),
        ("72 5: 5 from 2: 12-5=7 borrow [7], 7 0: 0+1=1 from 7: 7-1=6 [67], so 67", "Subtract 5 from 72."),
        ("48 7: 8*7=56 [6], 4 7: 4*7=28, 28+5=33 [36], 3 [336], so 336", "What is 48 × 7?"),
        ("20 7 30: 20+7=27, 27+30=57, so 57", "What is 20 + 7 + 30?"),
        ("23+39=62, July has 31, 62-31=31, August has 31, so 31 August", "Add 39 days to 23 July."),
        ("9:50 75: 50+75=125, 125-60=65, 9+1=10, 65-60=5, 10+1=11, so 11:05", "Add 75 minutes to 9:50."),
    ],
)
def test_work_holds_if_each_step_is_right(work: str, asked: str) -> None:
    said = f"{work}, and the answer says 1: different."
    assert holds(said, asked)
    assert not holds(said, "Add 10 to 20."), "other numbers"
    for digit in re.finditer(r"\d", work):
        assert not holds(f"{said[: digit.start()]}{9 - int(digit[0])}{said[digit.end() :]}", asked)


@given(st.sampled_from(sorted(ASKED)), st.integers(0, 10**6))
def test_the_work_that_is_taught_holds(task: str, seed: int) -> None:
    for asked in (wording.format(**TASKS[task].draw(Random(seed))) for wording in ASKED[task]):
        found = read(asked)
        assert found
        assert holds(TASKS[task].judge(found.values, "1").text, asked)


@given(st.text(max_size=300))
def test_no_text_breaks_it(text: str) -> None:
    found = read(text)
    assert found is None or found.task in ASKED
