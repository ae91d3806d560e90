r"""Decide whether two texts are the same mathematical answer, as `\frac12`, `1/2` and `$\dfrac{1}{2}$` are.

Notation is normalised, and formulas are computed. Units, a leading `x =` and a list's order do not count.
Rational numbers are compared exactly, other numbers to nine digits. Formulas with letters are the same if the
values are equal for three substitutions of the letters, which is wrong less than once in a million.
"""

from __future__ import annotations

import cmath
import math
from collections import Counter
from collections.abc import Callable, Hashable
from fractions import Fraction

import regex

MOST_CHARACTERS = 500
"""The most characters to parse: longer texts may nest too deeply. MATH's longest answer has 63 characters."""

_BRACES = r"(?P<{0}>\{{(?:[^{{}}]|(?&{0}))*\}})"
_A, _B = _BRACES.format("a"), _BRACES.format("b")
_ROW = "¶"
"""Replaces the two backslashes that end a matrix row. ⟦ and ⟧ enclose a matrix."""

_SIMPLE = (
    (r"(?<=(?<![\d.,_])\d{1,3}(?: \d{3})*) (?=(?:\d{3} )*\d{3}(?!\d))", ""),
    (r"(?<![\d/.,])(\d+) (\d+)/(\d+)(?![\d/.])", r"\1\\frac{\2}{\3}"),
    (r"(?<=(?<![\d_])\d+) +(?=[\d.])", "§"),  # two numbers, not a formula
    *((r"\\\\", _ROW), (r"\{,\}", ",")),
    (r"\\(?:left|right|displaystyle|big|Big|bigl|bigr)(?![a-zA-Z])|\\[!,;: ]|~|\\quad|\\?\$|\\[()\[\]]", ""),
    (r"\\[dtc]frac", r"\\frac"),
    (r"\^\{?\\circ\}?|°|\\degree|\\%|%", ""),
    *((r"√\s*(\d+|[a-zA-Z])", r"\\sqrt{\1}"), (r"√|\bsqrt\b(?<!\\sqrt)", r"\\sqrt")),
    (r"π|(?<![\\a-zA-Z])pi\b", r"\\pi"),
    (r"∞|(?<![\\a-zA-Z])(?:infinity|infty)\b", r"\\infty"),
    *((r"∪", r"\\cup"), (r"∈", r"\\in"), (r"±", r"\\pm"), (r"[−–]", "-")),
    *((r"\\leq?(?![a-z])|≤", "<="), (r"\\geq?(?![a-z])|≥", ">=")),
    *((r"\\begin\{[bpv]matrix\}", "⟦"), (r"\\end\{[bpv]matrix\}", "⟧")),
)
"""Patterns of other spellings, each with its replacement, in order."""

_TEXT = regex.compile(r"\\(?:text|mbox|textbf|textit|mathrm|mathbf|operatorname|rm)\s*\{([^{}]*)\}")
_UNIT = regex.compile(
    r"(?<=[\d}]|\\pi)\s*(?:\\(?:text|mbox|mathrm)\s*\{[^{}]*\}|\s(?!sqrt|pi|frac|cup|or|and)[a-zA-Z]{2,}(?:\s[a-zA-Z]+)*)(?:\^\{?\d\}?)?\s*$"
)
_SPACE = regex.compile(r"(?<!\\(?:sin|cos|tan|cot|sec|csc|ln|log|exp|pi))\s+|\s+(?![a-zA-Z])")
"""Matches all spaces, except those between a command, such as `sin`, and a letter."""

_THOUSANDS = regex.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_NAMED = regex.compile(r"^[a-zA-Z](?:\([a-zA-Z]\))?(?:=|\\in)(?=[^<>]+$)")
_FRACTION = regex.compile(r"(?P<sign>[-+]?)(?P<whole>\d+)?\\frac\{(?P<top>-?\d+)\}\{(?P<bottom>-?\d+)\}")
_DECIMAL = regex.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)")
_OPEN, _CLOSE = "([{⟦", ")]}⟧"


def canonical(text: str) -> Hashable:
    """Return a value that is equal for all notations of an answer."""
    return _value(_spelled(text)) if len(text) <= MOST_CHARACTERS else text


def same(one: str, other: str) -> bool:
    """Return whether two texts are the same answer, as the equations `3x - y = 7` and `y = 3x - 7` are."""
    if canonical(one) == canonical(other):
        return True
    if not all("=" in text and len(text) <= MOST_CHARACTERS for text in (one, other)):
        return False
    first, second = (value_of(_spelled(text, named=True)) for text in (one, other))
    return first is not None and first == second


def _spelled(text: str, *, named: bool = False) -> str:
    text = text.strip().strip("$").strip().rstrip(".").strip()
    for pattern, new in _SIMPLE:
        text = regex.sub(pattern, new, text)
    whole = _TEXT.fullmatch(text.strip())
    text = whole[1] if whole else _TEXT.sub(r" \1 ", _UNIT.sub("", text)).strip()
    if regex.fullmatch(r"\p{L}{3,}|\p{L}{2,}(?:\s\p{L}+)+", text.strip()):
        return text.strip().casefold()
    if regex.fullmatch(r"\p{L}\p{L}", text.strip()):  # a word such as No, or a product
        text = text.casefold()
    text = _SPACE.sub("", text)
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
    text = text if named else _NAMED.sub("", text)
    return text.replace(",", "") if _THOUSANDS.fullmatch(text) else text


def _value(text: str) -> Hashable:
    if (number := _number(text)) is not None:
        return number
    if text.startswith("⟦") and text.endswith("⟧"):
        return ("matrix", *(tuple(map(_value, row.split("&"))) for row in text[1:-1].split(_ROW) if row))
    if len(parts := text.split(r"\cup")) > 1:
        return ("union", frozenset(map(_value, parts)))
    if text.startswith(r"\{") and text.endswith(r"\}"):
        return _unordered(text[2:-2])
    parts = _split(text)
    if len(parts) > 1 or text.count(r"\pm") == 1:
        return _unordered(text)
    if text[:1] and text[0] in "([" and text[-1] in ")]" and _split(text[1:-1])[1:]:
        return ("row", text[0], *map(_value, _split(text[1:-1])), text[-1])
    if text.count("=") and len(sides := {_value(side) for side in text.split("=")}) == 1:
        return sides.pop()  # an equation of equal numbers: 20 = 5 · 4
    if regex.fullmatch(r"\([^()]\)", text):
        text = text[1]
    value = value_of(text)
    return text if value is None else value


def _unordered(text: str) -> Hashable:
    parts = []
    for piece in _split(text):
        if piece.count(r"\pm") == 1:
            parts += [piece.replace(r"\pm", sign).removeprefix("+") for sign in "+-"]
        else:
            parts.append(piece)
    found = Counter(_value(_NAMED.sub("", part)) for part in parts)
    return next(iter(found)) if found.total() == 1 else ("several", frozenset(found.items()))


def _split(text: str) -> list[str]:
    parts, depth = [""], 0
    for char in regex.sub(r"(?<=[\d}])(?:and|or)(?=[-\d\\]|[a-zA-Z]=)", ",", text):
        depth += (char in _OPEN) - (char in _CLOSE)
        if char in ",;" and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def _number(text: str) -> Fraction | None:
    if _DECIMAL.fullmatch(text):
        return Fraction(text)
    found = _FRACTION.fullmatch(text)
    if not found or not int(found["bottom"]):
        return None
    value = int(found["whole"] or 0) + Fraction(int(found["top"]), int(found["bottom"]))
    return -value if found["sign"] == "-" else value


Scalar = Fraction | complex

_TOKEN = regex.compile(r"\d+\.?\d*|\.\d+|\\[a-zA-Z]+|\S")
_POINTS = 3
_DIGITS = 9  # significant digits of an inexact number

_MOST_BITS, _MOST_FACTORIAL = 20_000, 200
"""Limits of exact numbers, because a short formula may have a value that fills the memory."""

_FUNCTIONS: dict[str, Callable[[complex], complex]] = {
    "sin": cmath.sin,
    "cos": cmath.cos,
    "tan": cmath.tan,
    "cot": lambda x: 1 / cmath.tan(x),
    "sec": lambda x: 1 / cmath.cos(x),
    "csc": lambda x: 1 / cmath.sin(x),
    "arcsin": cmath.asin,
    "arccos": cmath.acos,
    "arctan": cmath.atan,
    "ln": cmath.log,
    "exp": cmath.exp,
}


def value_of(formula: str) -> Hashable | None:
    """Return a value that is equal for equal formulas; None if the text is not a formula."""
    try:
        found = [_Reader(_TOKEN.findall(formula), point).whole() for point in range(_POINTS)]
        relation, values = found[0][1], [value for value, _ in found]
        if relation:  # each value is the difference of the sides, up to a factor
            scale = values[0] if relation == "=" else _size(values[0])
            return (relation, *(_rounded(value / scale) for value in values))
        rounded = [_rounded(value) for value in values]
        return rounded[0] if len(set(rounded)) == 1 else ("formula", *rounded)
    except (ValueError, ArithmeticError, RecursionError):
        return None


def _rounded(value: Scalar) -> Hashable:
    if isinstance(value, Fraction):
        return value
    real, imaginary = (0.0 if abs(part) < 1e-12 * abs(value) else part for part in (value.real, value.imag))
    if not imaginary and abs(real - round(real)) < 1e-11 * max(1, abs(real)):
        return Fraction(round(real))
    return float(f"{real:.{_DIGITS}g}"), float(f"{imaginary:.{_DIGITS}g}")


def _size(value: Scalar) -> Scalar:
    return abs(value) if isinstance(value, Fraction) else complex(abs(value))


class _Reader:
    def __init__(self, tokens: list[str], point: int) -> None:
        self.tokens = [*tokens, ""]
        self.point = point
        self.place = 0

    @property
    def next(self) -> str:
        return self.tokens[self.place]

    def take(self, *wanted: str) -> str:
        """If the next token is in `wanted` (default: any), return it and advance. Otherwise, return ""."""
        found = self.next
        if not found or (wanted and found not in wanted):
            return ""
        self.place += 1
        return found

    def need(self, wanted: str) -> None:
        if not self.take(wanted):
            raise ValueError(self.next)

    def whole(self) -> tuple[Scalar, str]:
        """Return the value of the formula, and its relation, such as `=`, or "" without a relation."""
        value, relation = self.sum(), self.take("=", "<", ">")
        if relation:
            relation += self.take("=")
            other = self.sum()
            value = other - value if ">" in relation else value - other
            relation = relation.replace(">", "<")
        if self.next:
            raise ValueError(self.next)
        return value, relation

    def sum(self) -> Scalar:
        sign = self.take("+", "-")
        value = -self.product() if sign == "-" else self.product()
        while sign := self.take("+", "-"):
            term = self.product()
            value = value + term if sign == "+" else value - term
        return value

    def product(self) -> Scalar:
        value = self.mixed()
        while True:
            if self.take("*", "·", "×", r"\cdot", r"\times"):
                value *= self.signed()
            elif self.take("/", "÷", r"\div"):
                value /= self.signed()
            elif self.next != r"\choose" and regex.match(r"[\w.\\({\[]", self.next):
                value *= self.mixed()
            else:
                return value

    def signed(self) -> Scalar:
        return -self.signed() if self.take("-") else self.mixed()

    def mixed(self) -> Scalar:
        r"""Read a factor. A whole number before a fraction is added to the fraction: `1\frac{3}{4}`."""
        whole = self.next.isdecimal()
        value = self.power()
        if whole and self.next == r"\frac" and isinstance(value, Fraction):
            before = self.place
            part = self.power()
            if isinstance(part, Fraction) and regex.fullmatch(
                r"\\frac\{\d+\}\{\d+\}", "".join(self.tokens[before : self.place])
            ):
                return value + part
            return value * part
        return value

    def power(self) -> Scalar:
        value = self.atom()
        while self.take("!"):
            if not isinstance(value, Fraction) or value.denominator > 1 or not 0 <= value <= _MOST_FACTORIAL:
                raise ValueError("!")
            value = Fraction(math.factorial(int(value)))
        return raised(value, self.exponent()) if self.take("^") else value

    def exponent(self) -> Scalar:
        return -self.exponent() if self.take("-") else self.atom()

    def atom(self) -> Scalar:
        begin = self.take()
        if regex.fullmatch(r"[\d.]+", begin):
            if self.next == "_":
                raise ValueError("a number in another base")
            return Fraction(begin)
        if closing := {"(": ")", "[": "]", "{": "}", "|": "|"}.get(begin):
            value = self.sum()
            if self.take(r"\choose"):
                value = _choose(value, self.sum())
            self.need(closing)
            return _size(value) if begin == "|" else value
        if regex.fullmatch(r"[a-zA-Z]", begin) and self.next != "_":
            return Fraction((ord(begin) * 37 + self.point * 101) % 97 + 50, 61)
        if not begin.startswith("\\"):
            raise ValueError(begin)
        return self.command(begin[1:])

    def command(self, name: str) -> Scalar:
        if name == "pi":
            return complex(math.pi)
        if name == "frac":
            return self.atom() / self.atom()
        if name == "binom":
            return _choose(self.atom(), self.atom())
        if name == "sqrt":
            index: Scalar = Fraction(2)
            if self.take("["):
                index = self.sum()
                self.need("]")
            return raised(self.atom(), 1 / index)
        if name != "log" and name not in _FUNCTIONS:
            raise ValueError(name)
        return self.function(name)

    def function(self, name: str) -> Scalar:
        base: Scalar = Fraction(10)
        if name == "log" and self.take("_"):
            base = self.index()
        power = self.exponent() if self.take("^") else Fraction(1)
        value = complex(self.argument())
        found = cmath.log(value) / cmath.log(complex(base)) if name == "log" else _FUNCTIONS[name](value)
        return raised(found, power)

    def index(self) -> Scalar:
        r"""Read a subscript: one digit, or the content of braces. `\log_28` has the base 2."""
        if self.next.isdecimal() and len(self.next) > 1:
            digit, self.tokens[self.place] = self.next[0], self.next[1:]
            return Fraction(digit)
        return self.atom()

    def argument(self) -> Scalar:
        r"""Read a function's argument: brackets, or all factors before the next function, as in `\sin 2x`."""
        if self.next in ("(", "{", "["):
            return self.atom()
        value = self.power()
        while regex.match(r"[\w.]|\\pi|\\frac|\\sqrt", self.next):
            value *= self.power()
        return value


def _choose(total: Scalar, chosen: Scalar) -> Fraction:
    both = (total, chosen)
    if any(not isinstance(each, Fraction) or each.denominator > 1 or not 0 <= each <= 1000 for each in both):
        raise ValueError("choose")
    return Fraction(math.comb(int(total.real), int(chosen.real)))


def raised(base: Scalar, power: Scalar) -> Scalar:
    """Return a power, exact if the power is rational."""
    if isinstance(base, Fraction) and isinstance(power, Fraction):
        root = _root(base, power.denominator)
        bits = max(root.numerator.bit_length(), root.denominator.bit_length()) if root is not None else 0
        if root is not None and abs(power.numerator) * bits <= _MOST_BITS:
            return root**power.numerator
    return complex(base) ** complex(power)


def _root(value: Fraction, index: int) -> Fraction | None:
    if index == 1:
        return value
    if value < 0 or index > 64:
        return None
    found = Fraction(*[round(part ** (1 / index)) for part in (value.numerator, value.denominator)])
    return found if found**index == value else None
