r"""How checks are nested in text: where a part of `any(A; B)` ends, and what has to be escaped in it.

Outside of parentheses a check's argument goes to the end of the text, just as it is. Inside, a `;` or a
parenthesis without its partner is written with a backslash, and a backslash with another one. Arguments of
`matches` keep their backslashes at any depth, since there they mean the same to the regular expression.
"""

from __future__ import annotations

import re

from redraft.errors import CheckSyntaxError

_CLASS_OR_MARK = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|;", re.DOTALL)


def closing(text: str) -> int | None:
    """Where the parenthesis that a text begins with is closed, or None."""
    depth, index = 0, 0
    while index < len(text):
        char = text[index]
        depth += {"(": 1, ")": -1}.get(char, 0)
        if depth == 0:
            return index
        index += 2 if char == "\\" else 1
    return None


def split_parts(inside: str) -> list[str]:
    """The parts that `;` separates, outside of any parentheses within."""
    parts, depth, begin, index = [], 0, 0, 0
    while index < len(inside):
        char = inside[index]
        depth += {"(": 1, ")": -1}.get(char, 0)
        if char == ";" and depth == 0:
            parts.append(inside[begin:index].strip())
            begin = index + 1
        index += 2 if char == "\\" else 1
    return [*parts, inside[begin:].strip()]


def unescape(text: str) -> str:
    r"""A part as it would stand outside of parentheses: `\;`, `\(`, `\)` and `\\` without their backslash."""
    return re.sub(r"\\([\\;()])", r"\1", text)


def escape(text: str) -> str:
    """The opposite of `unescape`. Parentheses that are in balance stay as they are."""
    text = re.sub(r"[\\;]", r"\\\g<0>", text)
    return text if _balanced(text) else re.sub(r"[()]", r"\\\g<0>", text)


def escape_pattern(pattern: str) -> str:
    """A regular expression of the same meaning that can stand inside parentheses."""
    return _CLASS_OR_MARK.sub(_escape_class, pattern)


def _escape_class(found: re.Match[str]) -> str:
    if found[0].startswith("\\"):
        return found[0]
    return re.sub(r"\\.|[;()]", lambda part: part[0] if len(part[0]) > 1 else "\\" + part[0], found[0])


def _balanced(text: str) -> bool:
    return closing(f"({text})") == len(text) + 1


def unbalanced(text: str) -> CheckSyntaxError:
    """The error for a parenthesis that is never closed."""
    return CheckSyntaxError(
        f"{text}: the parenthesis at character {text.index('(') + 1} is not closed.",
        hint=r"A parenthesis without its partner is written \( or \) inside any(…) and all(…).",
    )
