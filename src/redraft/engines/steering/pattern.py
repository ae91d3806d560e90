r"""Translate regular expressions for whole answers to llguidance's grammars, if possible.

The grammar may match less than the pattern: `\d` stands for ASCII digits, and repeats are bounded, so that
the text ends. Every text of the grammar matches the pattern. Patterns with lookaround, references or word
boundaries, or for a part of an answer, are only checked.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

LONGEST_RUN = 24  # maximum number of repeats beyond the minimum, if there is no upper bound

_CLASSES = {sre.CATEGORY_DIGIT: "0-9", sre.CATEGORY_WORD: "A-Za-z0-9_", sre.CATEGORY_SPACE: r" \n"}
_BEGINS = [(sre.AT, sre.AT_BEGINNING), (sre.AT, sre.AT_BEGINNING_STRING)]
_ENDS = [(sre.AT, sre.AT_END), (sre.AT, sre.AT_END_STRING)]


def pattern_of(pattern: str) -> str:
    """Translate a `^…$` pattern to llguidance's syntax. Return "" for any other or inexpressible pattern."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = _parser.parse(pattern)
        begin, *parts, end = found
        whole = begin in _BEGINS and end in _ENDS and not found.state.flags & ~re.UNICODE
        return _row(parts) if whole else ""
    except (re.error, Warning, RecursionError, OverflowError, ValueError, KeyError):
        return ""


def _row(parts: Iterable[tuple[Any, Any]]) -> str:
    return "".join(_WRITE[kind](value) for kind, value in parts)


def _char(code: int) -> str:
    char = chr(code)
    return char if char.isascii() and char.isalnum() else f"\\u{{{code:x}}}"


def _class(items: list[tuple[Any, Any]]) -> str:
    inverted = items[0][0] is sre.NEGATE
    found = "".join(_ITEM[kind](value) for kind, value in items[inverted:])
    return f"[^\\n{found}]" if inverted else f"[{found}]"


def _repeat(value: tuple[int, Any, Any]) -> str:
    low, high, parts = value
    most = low + LONGEST_RUN if high is sre.MAXREPEAT else int(high)
    return f"({_row(parts)}){{{low},{most}}}"


_ITEM: dict[Any, Callable[[Any], str]] = {
    sre.LITERAL: _char,
    sre.RANGE: lambda value: f"{_char(value[0])}-{_char(value[1])}",
    sre.CATEGORY: lambda value: _CLASSES[value],
}
_WRITE: dict[Any, Callable[[Any], str]] = {
    sre.LITERAL: _char,
    sre.NOT_LITERAL: lambda value: f"[^\\n{_char(value)}]",
    sre.ANY: lambda _: r"[^\n]",
    sre.IN: _class,
    sre.BRANCH: lambda value: f"({'|'.join(map(_row, value[1]))})",
    sre.SUBPATTERN: lambda value: (
        f"({_row(value[3])})" if not value[1] and not value[2] else _row([("?", 0)])
    ),
    sre.MAX_REPEAT: _repeat,
    sre.MIN_REPEAT: _repeat,
}
