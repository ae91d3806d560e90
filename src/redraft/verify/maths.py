r"""Tell whether two texts are the same mathematical answer: `\frac12`, `1/2`, `0.5` and `$\dfrac{1}{2}$` are.

Spellings are brought to one form; nothing is computed but fractions of whole numbers. So `2\sqrt{2}` is not
`\sqrt{8}`, and `x + 1` is not `1 + x`: an answer may be counted as wrong that a reader would accept, and
hardly the reverse. Units, `x =` in front, and the order of a set's or a list's elements do not count; the
order within parentheses does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from fractions import Fraction

import regex

LONGEST = 500
"""Most characters of an answer; MATH's longest has 63. Brackets in a longer one may nest too deep."""

_BRACES = r"(?P<{0}>\{{(?:[^{{}}]|(?&{0}))*\}})"
_A, _B = _BRACES.format("a"), _BRACES.format("b")
_ROW = "¶"
"""Stands for the end of a matrix's row, whose backslashes would look like other marks; ⟦ ⟧ for its ends."""

_SIMPLE = (
    (r"\\\\", _ROW),
    (
        r"\\(?:left|right|displaystyle|big|Big|bigl|bigr)(?![a-zA-Z])|\\[!,;: ]|~|\\quad|\\?\$|\\[()\[\]]",
        "",
    ),
    (r"\\[dtc]frac", r"\\frac"),
    (r"\^\{?\\circ\}?|°|\\degree|\\%|%", ""),
    (r"√\s*(\d+|[a-zA-Z])", r"\\sqrt{\1}"),
    (r"√", r"\\sqrt"),
    (r"\bsqrt\b(?<!\\sqrt)", r"\\sqrt"),
    (r"π|(?<![\\a-zA-Z])pi\b", r"\\pi"),
    (r"∞|(?<![\\a-zA-Z])(?:infinity|infty)\b", r"\\infty"),
    (r"∪", r"\\cup"),
    (r"∈", r"\\in"),
    (r"±", r"\\pm"),
    (r"[−–]", "-"),
    (r"\\leq?(?![a-z])|≤", "<="),
    (r"\\geq?(?![a-z])|≥", ">="),
    (r"\\begin\{[bpv]matrix\}", "⟦"),
    (r"\\end\{[bpv]matrix\}", "⟧"),
)
"""Other spellings of the same, in order."""

_TEXT = regex.compile(r"\\(?:text|mbox|textbf|textit|mathrm|mathbf|operatorname|rm)\s*\{([^{}]*)\}")
_UNIT = regex.compile(
    r"(?<=[\d}])\s*(?:\\(?:text|mbox|mathrm)\s*\{[^{}]*\}|\s(?!sqrt|pi|frac|cup|or|and)[a-zA-Z]{2,}(?:\s[a-zA-Z]+)*)(?:\^\{?\d\}?)?\s*$"
)
_THOUSANDS = regex.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_NAMED = regex.compile(r"^[a-zA-Z](?:\([a-zA-Z]\))?(?:=|\\in)(?=[^=<>]+$)")
_FRACTION = regex.compile(r"(?P<sign>[-+]?)(?P<whole>\d+)?\\frac\{(?P<top>-?\d+)\}\{(?P<bottom>-?\d+)\}")
_DECIMAL = regex.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)")
_OPEN, _CLOSE = "([{⟦", ")]}⟧"


def canonical(text: str) -> Hashable:
    """Return a value that is equal for spellings of the same answer. One beyond `LONGEST` is itself."""
    return _value(_spelled(text)) if len(text) <= LONGEST else text


def _spelled(text: str) -> str:
    """Return the text in one spelling, without spaces."""
    text = text.strip().strip("$").strip().rstrip(".").strip()
    for pattern, new in _SIMPLE:
        text = regex.sub(pattern, new, text)
    whole = _TEXT.fullmatch(text.strip())
    text = whole[1] if whole else _TEXT.sub(r" \1 ", _UNIT.sub("", text)).strip()
    if regex.fullmatch(r"\p{L}{2,}(?:\s\p{L}+)*", text.strip()):
        return text.strip().casefold()
    return _compact(regex.sub(r"\s+", "", text))


def _compact(text: str) -> str:
    """Return a formula without spaces with braces where they belong."""
    text = regex.sub(
        r"\\sqrt(?:\((?P<in>[^()]*)\)|(?P<one>[^{\[(\\]))", lambda m: rf"\sqrt{{{m['in'] or m['one']}}}", text
    )
    text = regex.sub(r"\\frac(?=[^{\\])(.)", r"\\frac{\1}", text)
    text = regex.sub(rf"\\frac{_A}([^{{\\])", r"\\frac\g<a>{\2}", text)
    text = regex.sub(
        r"(?<![\w.}^_\\])(\d+|\d*(?:\\pi|\\sqrt\{\d+\}|[a-zA-Z]))/(\d+)(?![\w.{^])", r"\\frac{\1}{\2}", text
    )
    text = regex.sub(rf"\\frac\{{-([^{{}}+-]*)\}}{_B}", r"-\\frac{\1}\g<b>", text)
    text = regex.sub(r"(?:\\cdot|\\times|\*)(?=[\\a-zA-Z(])", "", text)
    text = regex.sub(r"([\^_])\{(\w)\}", r"\1\2", text)
    text = regex.sub(r"(?<![\d.])\.(?=\d)", "0.", text)
    text = _NAMED.sub("", text)
    return text.replace(",", "") if _THOUSANDS.fullmatch(text) else text


def _value(text: str) -> Hashable:
    if (number := _number(text)) is not None:
        return number
    if text.startswith("⟦") and text.endswith("⟧"):
        rows = text[1:-1].split(_ROW)
        return ("matrix", *(tuple(map(_value, row.split("&"))) for row in rows if row))
    if len(parts := text.split(r"\cup")) > 1:
        return ("union", frozenset(map(_value, parts)))
    if text.startswith(r"\{") and text.endswith(r"\}"):
        return _unordered(text[2:-2])
    parts = _split(text)
    if len(parts) > 1 or text.count(r"\pm") == 1:
        return _unordered(text)
    if text[:1] and text[0] in "([" and text[-1] in ")]" and _split(text[1:-1])[1:]:
        return ("row", text[0], *map(_value, _split(text[1:-1])), text[-1])
    if regex.fullmatch(r"\([^()]\)", text):
        return text[1]
    return text


def _unordered(text: str) -> Hashable:
    """Return the elements of a list as a multiset; `a±b` are two. One element is itself."""
    parts = [part for piece in _split(text) for part in _both(piece)]
    found = Counter(map(_value, parts))
    return next(iter(found)) if found.total() == 1 else ("several", frozenset(found.items()))


def _both(text: str) -> list[str]:
    """Return the two values of a term with one plus-minus sign. A term with several stays as it is."""
    if text.count(r"\pm") != 1:
        return [text]
    return [text.replace(r"\pm", sign).removeprefix("+") for sign in "+-"]


def _split(text: str) -> list[str]:
    """Split at the commas (and `and`, `or`) that no bracket holds."""
    parts, depth = [""], 0
    for char in regex.sub(r"(?<=[\d}])(?:and|or)(?=[-\d\\])", ",", text):
        depth += (char in _OPEN) - (char in _CLOSE)
        if char in ",;" and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def _number(text: str) -> Fraction | None:
    """Return the value of a decimal, a fraction or a mixed number."""
    if _DECIMAL.fullmatch(text):
        return Fraction(text)
    found = _FRACTION.fullmatch(text)
    if not found or not int(found["bottom"]):
        return None
    value = int(found["whole"] or 0) + Fraction(int(found["top"]), int(found["bottom"]))
    return -value if found["sign"] == "-" else value
