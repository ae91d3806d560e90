"""Define a task: random prompts, right answers, and an exact check whose feedback shows the calculation.

A small critic learns to recompute the answer in writing, to state its result and the answer, to compare
both in words ("the same", "different"), and only then to give the verdict. When feedback had a tick in place
of the calculation, a small model learnt to accept everything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from redraft.jobs.licences import UNKNOWN

Values = Mapping[str, Any]  # the values of an exercise: JSON, for a chain's `meta`

SAID: Mapping[str, Any] = json.loads(Path(__file__).with_name("wordings.json").read_text("utf-8"))
"""The wordings of prompts for the tasks that redraft ships, by the name of the task."""

HELD_OUT = 5  # this many of a task's wordings, the last ones, are kept for testing
SHOWN = 120  # maximum characters of an answer that feedback quotes


@dataclass(frozen=True)
class Judged:
    """Feedback on an answer, and whether the answer is right. The feedback contains no verdict."""

    text: str
    passed: bool


@dataclass(frozen=True)
class Task:
    """A kind of exercise."""

    name: str  # its name in records and tables
    # Ways to ask for it, with the names of values in braces. The last `HELD_OUT` are kept for testing.
    wordings: Sequence[str]
    draw: Callable[[Random], Values]  # random values
    right: Callable[[Values], str]  # a right answer
    spoil: Callable[[Values, Random], str]  # a wrong answer as small models write; may be right by chance
    judge: Callable[[Values, str], Judged]  # an exact check of an answer, with its work
    licence: str = UNKNOWN  # licence of the exercises, for the card of a model trained on them

    def example(self, seed: int) -> str:
        """Return a random prompt. `seed` determines the prompt."""
        rng = Random(seed)
        return rng.choice(self.wordings).format(**self.draw(rng))


def plain(answer: str) -> str:
    """Return an answer on one line, for comparing and quoting."""
    return " ".join(answer.split())


def quoted(answer: str) -> str:
    """Return an answer on one line and shortened, to be quoted in feedback."""
    text = plain(answer) or "nothing"
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def equal_to(
    right: Callable[[Values], str], work: Callable[[Values], str]
) -> Callable[[Values, str], Judged]:
    """Return the check of a task with one right answer.

    Args:
        right: Returns the right answer for an exercise's values.
        work: Returns the calculation of this answer from the values, as text.
    """

    def judge(values: Values, answer: str) -> Judged:
        expected = right(values)
        passed = plain(answer) == expected
        same = "the same" if passed else "different"
        return Judged(f"{work(values)}, so {expected}, and the answer says {quoted(answer)}: {same}.", passed)

    return judge
