"""Where the final answer is in a free text: the tables that the benchmark compares others on."""

from __future__ import annotations

from pathlib import Path

import pytest

from redraft.chain import Prompt
from redraft.verify.extract import final_letter, final_number
from redraft.verify.final import FinalLetter, FinalMaths, FinalNumber

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def wrong(table: str) -> list[str]:
    """The lines of a table that are read wrongly."""
    lines = (BENCHMARKS / f"{table}.tsv").read_text("utf-8").splitlines()
    return [line for line in lines if not is_right(*line.split("\t"))]


def is_right(kind: str, gold: str, *rest: str) -> bool:
    if kind in {"same", "other"}:
        answer = rf"The final answer is $\boxed{{{rest[0]}}}$."
        return FinalMaths.of(gold).check(answer, Prompt()).passed == (kind == "same")
    other, text = rest[0], rest[1].replace("⏎", "\n")
    make = FinalNumber.of if kind == "number" else FinalLetter
    return make(gold).check(text, Prompt()).passed and not make(other).check(text, Prompt()).passed


def test_no_tricky_text_and_no_hard_pair_is_read_wrongly() -> None:
    lines = (BENCHMARKS / "answers.tsv").read_text("utf-8").splitlines()
    kinds = [line.partition("\t")[0] for line in lines]
    assert kinds.count("number") + kinds.count("letter") >= 76
    assert kinds.count("same") + kinds.count("other") >= 161
    assert wrong("answers") == []


def test_of_those_held_out_one_is() -> None:
    assert len(wrong("answers_held_out")) <= 1


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The answer is 18. Wait, let me check: 18 / 9 = 2. Yes, that is right.", 18),
        ("The answer is 18.\n\nLet me verify: 2 * 9 = 18, minus 0. It checks out in 3 ways.", 18),
        ("They wait 5 hours. The answer is 18.", 18),
        ("The answer is 12. Actually, no: I cannot say.", 12),
        ("The answer is 2(3+4) = 14.", 14),
        ("The answer is (-3).", -3),
    ],
)
def test_what_is_taken_back_and_what_is_only_checked(text: str, number: int) -> None:
    assert final_number(text) == number


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("A is a letter.", None),
        ("The answer is a number.", None),
        ("Answer: because.", None),
        ("I am.", None),
    ],
)
def test_a_word_is_no_option(text: str, letter: str | None) -> None:
    assert final_letter(text) == letter
