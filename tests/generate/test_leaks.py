"""Quotes of a gold answer are found where a teacher gave it away, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from redraft.chain import Chain, Feedback, Prompt, Step
from redraft.formats.gold import gold_answers
from redraft.formats.read.records import read_records
from redraft.generate.leaks import Leak, leaks

GOLD = "print(sum(x))"


def chain(*steps: tuple[str, str]) -> Chain:
    made = [Step(answer=answer, feedback=Feedback(text=said, verdict="revise")) for answer, said in steps]
    return Chain(prompt=Prompt(instruction="Sum x."), steps=tuple(made))


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ([("x", f"Write {GOLD} instead."), (GOLD, "Good.")], [Leak(0, "feedback"), Leak(1, "answer")]),
        ([("x", "Add them."), (GOLD, f"{GOLD} is right.")], []),
        ([(GOLD, f"Keep {GOLD}."), (GOLD, "Good.")], []),
        ([("x", f"{GOLD}!"), ("y", f"{GOLD}!")], [Leak(0, "feedback"), Leak(1, "feedback")]),
        ([("x", "Add them."), ("y", "No.")], []),
    ],
)
def test_leaks(steps: list[tuple[str, str]], found: list[Leak]) -> None:
    assert list(leaks(chain(*steps), f" {GOLD}\n")) == found


def test_a_short_answer_stands_in_many_texts_by_chance() -> None:
    assert list(leaks(chain(("4", "It is 42.")), "42")) == []


def test_the_leaks_of_selfees_data(shared_data: Path) -> None:
    """125 feedbacks quote the gold answer where the answer that they judge does not (reference/selfee.md)."""

    def told(name: str) -> int:
        records = read_records(shared_data / "selfee" / "chains" / f"{name}.jsonl")
        return sum(
            leak.part == "feedback"
            for record in records
            for gold in gold_answers(record)[:1]
            for leak in leaks(record, gold)
        )

    assert (told("conala"), told("mbpp")) == (125, 0)
