from __future__ import annotations

from random import Random
from typing import Any

import pytest

from redraft.chain import Prompt
from redraft.train.self.tasks import TASKS
from redraft.train.self.truth import Solved

SUM: Any = (TASKS["add"], {"a": 46, "b": 38})


@pytest.mark.parametrize(
    "answer", ["84", "84.", "The answer is 84.", "46 + 38 = 84", "**84**", "It makes 84!"]
)
def test_a_right_result_passes_within_a_sentence(answer: str) -> None:
    exercise = Solved(*SUM)
    assert exercise.check(answer, Prompt(instruction="?")).passed
    assert exercise.said(answer) == exercise.said("84")


@pytest.mark.parametrize("answer", ["", "-84", "−84.", "840", "83 or 84", "The answer is 48.", "46 + 38"])
def test_a_wrong_result_does_not(answer: str) -> None:
    assert not Solved(*SUM).check(answer, Prompt(instruction="?")).passed


@pytest.mark.parametrize(
    "answer", ["4:56", "It is 4:56.", "The time is: **4:56**", "5:46", "not 4:56, but 4:57"]
)
def test_so_does_a_result_that_is_no_number(answer: str) -> None:
    exercise = Solved(TASKS["later"], TASKS["later"].draw(Random(1)))
    assert exercise.check(answer, Prompt(instruction="?")).passed == answer.rstrip("*. ").endswith("4:56")
