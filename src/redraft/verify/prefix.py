"""What is certain of a text that is still written: its settled part, counts that only grow, JSON so far.

A last word may grow, a small letter may join two sentences, and a character may combine with the one before.
"""

from __future__ import annotations

from collections.abc import Callable

import regex

from redraft.verify.layout import bullets, headings, items, lines
from redraft.verify.segment import count_characters, count_words, paragraphs, sentences

_ENDS = " \n\t。！？｡"  # what nothing that follows combines with or makes a part of the word before


def settled(text: str) -> str:
    """Return the beginning of a text up to its last space or wide stop: its words are complete."""
    return text[: max(map(text.rfind, _ENDS)) + 1]


LEAST: dict[str, Callable[[str], int]] = {
    "words": count_words,
    "sentences": lambda text: len(sentences(settled(text))),
    "characters": count_characters,
    "paragraphs": lambda text: len(paragraphs(text)),
    "lines": lines,
    "bullets": bullets,
    "items": items,
    "headings": headings,
}
"""Unit -> function that counts what every continuation of a text has at least."""


_SPACE = regex.compile(r"[ \t\n\r]*+")
_SCALAR = regex.compile(
    r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+"'
    r"|-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?+|true|false|null|NaN|-?Infinity"
)
_GROWING = regex.compile(r"-?[0-9][-+.eE0-9]*+")
_CLOSE = {"{": "}", "[": "]"}


def begins_json(text: str) -> bool:
    """Return whether a text is JSON as far as it goes. Python's words for numbers, such as NaN, count."""
    stack: list[str] = []
    wanted, at = "value", _SPACE.match(text).end()  # type: ignore[union-attr]
    while at < len(text):
        char = text[at]
        scalar = wanted in ("value", "value or end") or wanted.startswith("key")
        if wanted.endswith("end") and stack and char == _CLOSE[stack[-1]]:
            stack.pop()
            wanted, at = "comma or end", at + 1
        elif wanted.startswith("value") and char in _CLOSE:
            stack.append(char)
            wanted, at = ("key or end" if char == "{" else "value or end"), at + 1
        elif wanted == "colon" and char == ":":
            wanted, at = "value", at + 1
        elif wanted == "comma or end" and char == "," and stack:
            wanted, at = ("key" if stack[-1] == "{" else "value"), at + 1
        elif scalar and (wanted.startswith("value") or char == '"'):
            if _GROWING.fullmatch(text, at):  # a number that may go on
                return True
            found = _SCALAR.match(text, at, partial=True)
            if found is None:
                return False
            if found.partial:
                return True
            wanted, at = ("colon" if wanted.startswith("key") else "comma or end"), found.end()
        else:
            return False
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
    return True
