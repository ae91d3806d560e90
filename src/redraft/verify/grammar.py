r"""Nesting of checks: split and escape the parts of `any(A; B)`.

Outside parentheses, an argument goes unchanged to the end of the text. Inside, a backslash escapes `;`, an
unbalanced parenthesis, and a backslash. Arguments of `matches` keep their backslashes, which mean the same to
the regular expression.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from redraft.errors import CheckSyntaxError

_CLASS_OR_MARK = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|;", re.DOTALL)


def closing(text: str) -> int | None:
    """Return the position that closes the parenthesis at the start of a text, or None."""
    return next((index for index, _, depth in _nested(text) if depth == 0), None)


def split_parts(inside: str) -> list[str]:
    """Split a text at each `;` outside parentheses."""
    cuts = [index for index, char, depth in _nested(inside) if char == ";" and depth == 0]
    return [inside[cut + 1 : end].strip() for cut, end in pairwise([-1, *cuts, len(inside)])]


def _nested(text: str) -> Iterator[tuple[int, str, int]]:
    """Yield position and character, and the depth of parentheses after it; no escaped characters."""
    depth = index = 0
    while index < len(text):
        char = text[index]
        depth += {"(": 1, ")": -1}.get(char, 0)
        yield index, char, depth
        index += 2 if char == "\\" else 1


def unescape(text: str) -> str:
    r"""Remove the backslash of `\;`, `\(`, `\)` and `\\`."""
    return re.sub(r"\\([\\;()])", r"\1", text)


def escape(text: str) -> str:
    """Invert `unescape`. Balanced parentheses are not escaped."""
    text = re.sub(r"[\\;]", r"\\\g<0>", text)
    return text if _balanced(text) else re.sub(r"[()]", r"\\\g<0>", text)


def escape_pattern(pattern: str) -> str:
    """Return an equivalent regular expression that can stand inside parentheses."""
    return _CLASS_OR_MARK.sub(_escape_class, pattern)


def _escape_class(found: re.Match[str]) -> str:
    if found[0].startswith("\\"):
        return found[0]
    return re.sub(r"\\.|[;()]", lambda part: part[0] if len(part[0]) > 1 else "\\" + part[0], found[0])


def _balanced(text: str) -> bool:
    return closing(f"({text})") == len(text) + 1


def unbalanced(text: str) -> CheckSyntaxError:
    """Return the error for a parenthesis that is not closed."""
    return CheckSyntaxError(
        f"{text}: the parenthesis at character {text.index('(') + 1} is not closed.",
        hint=r"Inside any(…) and all(…), write an unbalanced parenthesis as \( or \).",
    )
