"""Telling a revision from a copy of the feedback that asked for it.

Weak models answer "The answer does not contain the word X" with that very sentence, which then passes the
check. An echo never becomes the best answer. Whether an answer copies the prompt, or paraphrases the
feedback, is not looked at here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from redraft.verify.segment import words

MIN_TOKENS = 5
"""Fewer words than this are too few to call a copy: "Yes, it is." may be the answer."""

SHARE = 0.9
"""The part of the answer's words that must be one run of the feedback's words."""

# A polynomial hash modulo a prime (2**61 - 1): two different runs share one with a probability of about
# 1e-18.
_MODULUS = (1 << 61) - 1
_BASE = 1_000_003


def echoes(answer: str, feedback: str) -> bool:
    """Whether an answer only repeats its feedback.

    It does if it has at least five words, and at least 90 % of them are one run of the feedback's words.
    Case and punctuation are ignored. Takes time in proportion to the length of both texts.
    """
    said = words(answer.casefold())
    run = math.ceil(SHARE * len(said))
    heard = words(feedback.casefold())
    if len(said) < MIN_TOKENS or len(heard) < run:
        return False
    return not set(_run_hashes(said, run)).isdisjoint(_run_hashes(heard, run))


def _run_hashes(tokens: Sequence[str], length: int) -> Iterator[int]:
    """A hash of each run of so many tokens, each made from the one before it."""
    leaving = pow(_BASE, length, _MODULUS)
    value = 0
    for index, token in enumerate(tokens):
        value = (value * _BASE + hash(token)) % _MODULUS
        if index >= length:
            value = (value - hash(tokens[index - length]) * leaving) % _MODULUS
        if index >= length - 1:
            yield value
