"""Find feedback and revisions that give away a gold answer in a quotation.

A critic that sees the gold answer may quote the answer, and the writer may copy the quotation. A model
trained on such chains learns to wait for the answer. Paraphrases are not found, only quotations of a whole
gold text, or of 30 characters of a longer gold text. Text that is also in the prompt is ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from redraft.chain import Chain
from redraft.chain.texts import is_refusal
from redraft.data.texts import GOLD_LENGTH

PART = 30
"""Minimum characters in a quote from a longer text. In SelFee's chains, quotes this long are copied code."""


class Marked(NamedTuple):
    """The position of a text in a chain: the answer or the feedback of a step."""

    step: int
    part: Literal["feedback", "answer"]


def leaks(chain: Chain, golds: Iterable[str]) -> Iterator[Marked]:
    """Yield where feedback reveals gold text, and where later answers use the revealed text."""
    long = (gold for gold in map(str.strip, golds) if len(gold) >= GOLD_LENGTH)
    quotes = {piece for gold in long for piece in _pieces(gold)} - _pieces(chain.prompt.said)
    told, own = set[str](), set[str]()
    for index, step in enumerate(chain.steps if quotes else ()):
        known = _quoted(quotes, step.answer)
        if known & told - own:
            yield Marked(index, "answer")
        own |= known - told
        if new := _quoted(quotes, step.feedback.text) - known if step.feedback else None:
            told |= new
            yield Marked(index, "feedback")


def _pieces(text: str) -> set[str]:
    return {text[start : start + PART] for start in range(max(len(text) - PART, 0) + 1)}


def _quoted(quotes: set[str], text: str) -> set[str]:
    return quotes & _pieces(text) | {quote for quote in quotes if len(quote) < PART and quote in text}


def refusals(chain: Chain) -> Iterator[Marked]:
    """Yield refusals in the best answer and in a model's feedback."""
    for index, step in enumerate(chain.steps):
        if index == chain.best and is_refusal(step.answer):
            yield Marked(index, "answer")
        if step.feedback and step.feedback.by in ("model", "both") and is_refusal(step.feedback.text):
            yield Marked(index, "feedback")
