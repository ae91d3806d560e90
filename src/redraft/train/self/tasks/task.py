"""Define a task: random prompts, a right answer to each, and an exact check that shows its work.

A small critic learns to judge by working in writing: it recomputes, states both values, compares them in
words ("the same", "different"), and only then gives the verdict. When feedback had a tick in place of this
work, a small model learnt to accept everything.
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
"""The wordings of the tasks that redraft ships, by their names."""

HELD_OUT = 5  # this many of a task's wordings, the last ones, are kept for testing
SHOWN = 120  # maximum characters of an answer that feedback quotes


@dataclass(frozen=True)
class Judged:
    """Feedback on an answer (without a verdict), and whether the answer is right."""

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
        """Return a random prompt, drawn with this seed."""
        rng = Random(seed)
        return rng.choice(self.wordings).format(**self.draw(rng))


def plain(answer: str) -> str:
    """Return an answer on one line, for comparing and quoting."""
    return " ".join(answer.split())


def quoted(answer: str) -> str:
    """Return an answer as feedback quotes it: on one line, and shortened."""
    text = plain(answer) or "nothing"
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def equal_to(
    right: Callable[[Values], str], work: Callable[[Values], str]
) -> Callable[[Values, str], Judged]:
    """Return the check of a task with one right answer.

    Args:
        right: Returns the right answer.
        work: Returns the steps to find that answer, in writing.
    """

    def judge(values: Values, answer: str) -> Judged:
        expected = right(values)
        passed = plain(answer) == expected
        same = "the same" if passed else "different"
        return Judged(f"{work(values)}, so {expected}, and the answer says {quoted(answer)}: {same}.", passed)

    return judge
