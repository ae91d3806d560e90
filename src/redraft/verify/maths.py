r"""Tell whether two texts are the same mathematical answer: `\frac12`, `1/2`, `0.5` and `$\dfrac{1}{2}$` are.

Spellings are brought to one form, and formulas to their value (`value`): `2\sqrt{2}` is `\sqrt{8}`, and
`x + 1` is `1 + x`. A decimal is no root and no fraction that it only comes near to. Units, `x =` in front and
the order of a set's or a list's elements do not count; the order within parentheses does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from fractions import Fraction

import regex

from redraft.verify.value import value_of

LONGEST = 500
"""Most characters of an answer; MATH's longest has 63. Brackets in a longer one may nest too deep."""

_BRACES = r"(?P<{0}>\{{(?:[^{{}}]|(?&{0}))*\}})"
_A, _B = _BRACES.format("a"), _BRACES.format("b")
_ROW = "¶"
"""Stands for the end of a matrix's row, whose backslashes would look like other marks; ⟦ ⟧ for its ends."""

_SIMPLE = (
    (r"\\\\", _ROW),
    (r"\{,\}", ","),
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
    r"(?<=[\d}]|\\pi)\s*(?:\\(?:text|mbox|mathrm)\s*\{[^{}]*\}|\s(?!sqrt|pi|frac|cup|or|and)[a-zA-Z]{2,}(?:\s[a-zA-Z]+)*)(?:\^\{?\d\}?)?\s*$"
)
_SPACE = regex.compile(r"(?<!\\(?:sin|cos|tan|cot|sec|csc|ln|log|exp|pi))\s+|\s+(?![a-zA-Z])")
"""All spaces but those that end a command before a letter."""

_THOUSANDS = regex.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_NAMED = regex.compile(r"^[a-zA-Z](?:\([a-zA-Z]\))?(?:=|\\in)(?=[^=<>]+$)")
_FRACTION = regex.compile(r"(?P<sign>[-+]?)(?P<whole>\d+)?\\frac\{(?P<top>-?\d+)\}\{(?P<bottom>-?\d+)\}")
_DECIMAL = regex.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)")
_OPEN, _CLOSE = "([{⟦", ")]}⟧"


def canonical(text: str) -> Hashable:
    """Return a value that is equal for spellings of the same answer. One beyond `LONGEST` is itself."""
    return _value(_spelled(text)) if len(text) <= LONGEST else text


def same(one: str, other: str) -> bool:
    """Whether two texts are one answer. A line may be given as `3x - y = 7` or as `y = 3x - 7`."""
    if canonical(one) == canonical(other):
        return True
    if not all("=" in text and len(text) <= LONGEST for text in (one, other)):
        return False
    first, second = (value_of(_spelled(text, named=True)) for text in (one, other))
    return first is not None and first == second


def _spelled(text: str, *, named: bool = False) -> str:
    """Return the text in one spelling, without spaces, and without `x =` unless `named`."""
    text = text.strip().strip("$").strip().rstrip(".").strip()
    for pattern, new in _SIMPLE:
        text = regex.sub(pattern, new, text)
    whole = _TEXT.fullmatch(text.strip())
    text = whole[1] if whole else _TEXT.sub(r" \1 ", _UNIT.sub("", text)).strip()
    if regex.fullmatch(r"\p{L}{3,}|\p{L}{2,}(?:\s\p{L}+)+", text.strip()):
        return text.strip().casefold()
    if regex.fullmatch(r"\p{L}\p{L}", text.strip()):  # a word such as No, or a product
        text = text.casefold()
    text = _compact(_SPACE.sub("", text))
    text = text if named else _NAMED.sub("", text)
    return text.replace(",", "") if _THOUSANDS.fullmatch(text) else text


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
    return regex.sub(r"(?<![\d.])\.(?=\d)", "0.", text)


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
        text = text[1]
    value = value_of(text)
    return text if value is None else value


def _unordered(text: str) -> Hashable:
    """Return the elements of a list as a multiset; `a±b` are two. One element is itself."""
    parts = [part for piece in _split(text) for part in _both(piece)]
    found = Counter(_value(_NAMED.sub("", part)) for part in parts)
    return next(iter(found)) if found.total() == 1 else ("several", frozenset(found.items()))


def _both(text: str) -> list[str]:
    """Return the two values of a term with one plus-minus sign. A term with several stays as it is."""
    if text.count(r"\pm") != 1:
        return [text]
    return [text.replace(r"\pm", sign).removeprefix("+") for sign in "+-"]


def _split(text: str) -> list[str]:
    """Split at the commas (and `and`, `or`) that no bracket holds."""
    parts, depth = [""], 0
    for char in regex.sub(r"(?<=[\d}])(?:and|or)(?=[-\d\\]|[a-zA-Z]=)", ",", text):
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
