"""Quotes of a gold answer are found where a teacher gave it away, and nowhere else."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from redraft.chain import Chain, Feedback, Prompt, Step
from redraft.chain.read.records import read_records
from redraft.chain.texts import gold_answers, gold_texts
from redraft.data.generate.leaks import Marked, leaks

GOLD = "print(sum(x))"


def chain(*steps: tuple[str, str]) -> Chain:
    made = [Step(answer=answer, feedback=Feedback(text=said, verdict="revise")) for answer, said in steps]
    return Chain(prompt=Prompt(instruction="Sum x."), steps=tuple(made))


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ([("x", f"Write {GOLD} instead."), (GOLD, "Good.")], [Marked(0, "feedback"), Marked(1, "answer")]),
        ([("x", "Add them."), (GOLD, f"{GOLD} is right.")], []),
        ([(GOLD, f"Keep {GOLD}."), (GOLD, "Good.")], []),
        ([("x", f"{GOLD}!"), ("y", f"{GOLD}!")], [Marked(0, "feedback"), Marked(1, "feedback")]),
        ([("x", "Add them."), ("y", "No.")], []),
        ([(GOLD, "No."), ("y", f"{GOLD}!"), (GOLD, "Good.")], [Marked(1, "feedback")]),
    ],
)
def test_leaks(steps: list[tuple[str, str]], found: list[Marked]) -> None:
    assert list(leaks(chain(*steps), [f" {GOLD}\n"])) == found


def test_a_short_answer_stands_in_many_texts_by_chance() -> None:
    assert list(leaks(chain(("4", "It is 42.")), ["42"])) == []


WAY = "Natalia sold 48/2 = 24 clips in May, half of those in April.\n48 + 24 = 72 clips in both months."
"""A derivation, as GSM8K's records have it beside the answer."""


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("No: Natalia sold 48/2 = 24 clips in May, you say 12.", True),
        ("The last step is 48 + 24 = 72 clips in both months.", True),
        ("She sold 24 of them. Half of 48 is 24, and 72 is the sum.", False),
        ("You wrote that Natalia sold clips in April and in May.", False),
    ],
)
def test_a_part_of_a_derivation_is_a_quote_if_it_is_long_enough(said: str, told: bool) -> None:
    assert list(leaks(chain(("12", said)), ["72", WAY])) == [Marked(0, "feedback")] * told
    assert list(leaks(chain((said, said)), ["72", WAY])) == []


def test_what_the_prompt_says_is_no_quote() -> None:
    said = "Natalia sold 48/2 = 24 clips in May, as the question says."
    asked = chain(("12", said)).model_copy(
        update={"prompt": Prompt(instruction=f"{said} How many are left?")}
    )
    assert list(leaks(asked, [WAY])) == []


def test_an_answer_that_takes_a_derivation_over_from_feedback_leaks_too() -> None:
    steps = ("12", "48 + 24 = 72 clips in both months!"), ("So 48 + 24 = 72 clips in both months.", "Good.")
    assert list(leaks(chain(*steps), [WAY])) == [Marked(0, "feedback"), Marked(1, "answer")]
    alone = (
        ("12", "Add them."),
        ("So 48 + 24 = 72 clips in both months.", "48 + 24 = 72 clips in both months."),
    )
    assert list(leaks(chain(*alone), [WAY])) == []


@pytest.mark.parametrize(
    "record",
    [
        {"question": "How many?", "answer": "Forty rows of twenty-one apples each.\n#### 840"},
        {"question": "Who?", "answers": ["Another", "Forty rows of twenty-one apples each."]},
        {
            "question": "Who?",
            "answer": {"value": "Another", "aliases": ["Forty rows of twenty-one apples each."]},
        },
        {
            "question_id": 1,
            "turns": ["a?", "b?"],
            "reference": ["One", "Forty rows of twenty-one apples each."],
        },
        {"problem": "Many?", "solution": r"Forty rows of twenty-one apples each: \boxed{840}", "level": "1"},
        {"instruction": "How many?", "output": "Forty rows of twenty-one apples each.\n#### 840"},
    ],
)
def test_every_gold_text_of_a_record_is_looked_for(record: Any, tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    file.write_text(json.dumps(record))
    (asked,) = read_records(file)
    said = chain(("x", "It is forty rows: Forty rows of twenty-one apples each. See?"))
    assert list(leaks(said, gold_texts(asked))) == [Marked(0, "feedback")]


def test_a_long_program_takes_little_time() -> None:
    program = "".join(f"line_{number} = {number}\n" for number in range(20_000))
    begun = time.process_time()
    assert list(leaks(chain(("x", program[-5_000:])), [program])) == [Marked(0, "feedback")]
    assert time.process_time() - begun < 2


@pytest.mark.slow
def test_the_leaks_of_selfees_data(shared_data: Path) -> None:
    """125 feedbacks quote the whole gold answer where the answer that they judge does not
    (reference/selfee.md), and 24 a part of it. In mbpp five quote the head of the gold function.
    """

    def told(name: str) -> int:
        records = read_records(shared_data / "selfee" / "chains" / f"{name}.jsonl")
        return sum(
            leak.part == "feedback" for record in records for leak in leaks(record, gold_answers(record))
        )

    assert (told("conala"), told("mbpp")) == (149, 5)
