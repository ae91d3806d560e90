"""Refusals of a teacher: texts that begin by saying, in English, that they will not do what was asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from redraft.chain import Chain

_CANNOT = r"\b(?:cannot|can ?not|can'?t|won'?t|will not|unable|not able|not possible)\b"
_REFUSAL = re.compile(
    r"\W*(?:unfortunately,? )?"
    rf"(?:(?:(?:i'?m|i am) (?:really |very |so )?(?:sorry|afraid)|sorry|my apologies|i apologi[sz]e)\b"
    rf"[^.!?\n]{{0,60}}{_CANNOT}|i(?: am|'m)? {_CANNOT} (?:to )?(?:help|assist|do|provide|answer|comply"
    r"|fulfil|generate|create|write|access|complete|perform|give|offer|support|engage|discuss|open"
    r"|judge|evaluate|assess|rate|review|critici[sz]e|critique|score"
    r"|see (?!any|an? |no |what |why |how |where ))"
    r"|as an? (?:ai|artificial|large language|language) ?(?:intelligence|model|assistant)?\b)",
    re.IGNORECASE,
)


class Refusal(NamedTuple):
    """A refusal in a chain: the best answer, or a feedback, with the index of its step."""

    step: int
    part: str


def is_refusal(text: str) -> bool:
    """Whether a text begins as a refusal in English does."""
    return bool(_REFUSAL.match(text.replace("’", "'")))


def refusals(chain: Chain) -> Iterator[Refusal]:
    """Yield the refusals that a model would learn. A refused draft that was corrected is none."""
    for index, step in enumerate(chain.steps):
        if index == chain.best and is_refusal(step.answer):
            yield Refusal(index, "answer")
        if step.feedback and step.feedback.by != "checks" and is_refusal(step.feedback.text):
            yield Refusal(index, "feedback")
