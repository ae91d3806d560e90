"""Find feedback and revisions that quote a gold answer which their author was not to give away.

A critic that is shown the gold answer may copy it into its feedback, and the writer may copy it from there: a
model that learns from such a chain learns to be told. Only whole, literal quotes are found, not paraphrases.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from redraft.chain import Chain

LEAST = 8
"""Fewest characters of a gold answer that are looked for: `42` stands in many texts by chance."""


class Leak(NamedTuple):
    """A quote of the gold answer.

    Attributes:
        step: The index of the step.
        part: The feedback quotes it, and the answer that it judges does not; or the next answer does, after
            such feedback.
    """

    step: int
    part: Literal["feedback", "answer"]


def leaks(chain: Chain, gold: str) -> Iterator[Leak]:
    """Yield each quote of a gold answer: in feedback on an answer without it, and in answers after that."""
    gold = gold.strip()
    if len(gold) < LEAST:
        return
    told = found = False
    for index, step in enumerate(chain.steps):
        known = gold in step.answer
        found = found or (known and not told)
        if known and not found:
            yield Leak(index, "answer")
        if not known and step.feedback is not None and gold in step.feedback.text:
            told = True
            yield Leak(index, "feedback")
