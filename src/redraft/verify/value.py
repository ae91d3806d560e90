r"""The value of a formula: `2\sqrt{2}` and `\sqrt{8}` have one, and so have `(x+1)^2` and `x^2+2x+1`.

A small reader of the LaTeX in which answers are written. Rational numbers stay exact; roots, powers and
functions of others are computed in 64 bits and compared to nine digits. Letters get fixed values, at three
points: formulas that agree at all of them are the same but for a chance of less than one in a million.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Hashable
from fractions import Fraction

import regex

Number = Fraction | complex

_TOKEN = regex.compile(r"\d+\.?\d*|\.\d+|\\[a-zA-Z]+|\S")
_POINTS = 3
_DIGITS = 9
"""Digits that count of a number that is not exact."""

_MOST_BITS, _MOST_FACTORIAL = 20_000, 200
"""The largest exact numbers: a formula of a few characters can be larger than any memory."""

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
    """Return a value that is equal for formulas that are; None for what is no formula.

    Equations and inequalities have the value of the difference of their sides, but for a factor.
    """
    try:
        found = [_Reader(_TOKEN.findall(formula), point).whole() for point in range(_POINTS)]
        return _signature(found)
    except (ValueError, ArithmeticError, RecursionError):
        return None


def _signature(found: list[tuple[Number, str]]) -> Hashable:
    relation = found[0][1]
    values = [value for value, _ in found]
    if relation:
        scale = values[0] if relation == "=" else _size(values[0])
        return (relation, *(_rounded(value / scale) for value in values))
    rounded = [_rounded(value) for value in values]
    return rounded[0] if len(set(rounded)) == 1 else ("formula", *rounded)


def _rounded(value: Number) -> Hashable:
    if isinstance(value, Fraction):
        return value
    real, imaginary = (0.0 if abs(part) < 1e-12 * abs(value) else part for part in (value.real, value.imag))
    if not imaginary and abs(real - round(real)) < 1e-11 * max(1, abs(real)):
        return Fraction(round(real))
    return float(f"{real:.{_DIGITS}g}"), float(f"{imaginary:.{_DIGITS}g}")


def _size(value: Number) -> Number:
    return abs(value) if isinstance(value, Fraction) else complex(abs(value))


class _Reader:
    """Computes a formula from left to right.

    Args:
        tokens: Numbers, commands and single characters.
        point: Which values letters have.

    Raises:
        ValueError: It is no formula.
        ArithmeticError: It has no value.
    """

    def __init__(self, tokens: list[str], point: int) -> None:
        self.tokens = [*tokens, ""]
        self.point = point
        self.place = 0

    @property
    def next(self) -> str:
        return self.tokens[self.place]

    def take(self, *wanted: str) -> str:
        """Return the next token if it is one of those wanted, and go on; else an empty text."""
        found = self.next
        if not found or (wanted and found not in wanted):
            return ""
        self.place += 1
        return found

    def need(self, wanted: str) -> None:
        if not self.take(wanted):
            raise ValueError(self.next)

    def whole(self) -> tuple[Number, str]:
        """Return the value and the relation of an equation, or the value and an empty text."""
        value, relation = self.sum(), self.take("=", "<", ">")
        if relation:
            relation += self.take("=")
            other = self.sum()
            value = other - value if ">" in relation else value - other
            relation = relation.replace(">", "<")
        if self.next:
            raise ValueError(self.next)
        return value, relation

    def sum(self) -> Number:
        sign = self.take("+", "-")
        value = -self.product() if sign == "-" else self.product()
        while sign := self.take("+", "-"):
            term = self.product()
            value = value + term if sign == "+" else value - term
        return value

    def product(self) -> Number:
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

    def signed(self) -> Number:
        return -self.signed() if self.take("-") else self.mixed()

    def mixed(self) -> Number:
        r"""Read a factor. A whole number before a fraction of such is added to it: `1\frac{3}{4}`."""
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

    def power(self) -> Number:
        value = self.atom()
        while self.take("!"):
            if not isinstance(value, Fraction) or value.denominator > 1 or not 0 <= value <= _MOST_FACTORIAL:
                raise ValueError("!")
            value = Fraction(math.factorial(int(value)))
        return raised(value, self.exponent()) if self.take("^") else value

    def exponent(self) -> Number:
        return -self.exponent() if self.take("-") else self.atom()

    def atom(self) -> Number:
        begin = self.take()
        if regex.fullmatch(r"[\d.]+", begin):
            if self.next == "_":
                raise ValueError("a number of another base")
            return Fraction(begin)
        if closing := {"(": ")", "[": "]", "{": "}", "|": "|"}.get(begin):
            value = self.sum()
            if self.take(r"\choose"):
                value = _choose(value, self.sum())
            self.need(closing)
            return _size(value) if begin == "|" else value
        if regex.fullmatch(r"[a-zA-Z]", begin) and self.next != "_":
            return Fraction((ord(begin) * 37 + self.point * 101) % 97 + 50, 61)
        return self.command(begin[1:]) if begin.startswith("\\") else self.no(begin)

    def no(self, token: str) -> Number:
        raise ValueError(token)

    def command(self, name: str) -> Number:
        if name == "pi":
            return complex(math.pi)
        if name == "frac":
            return self.atom() / self.atom()
        if name == "binom":
            return _choose(self.atom(), self.atom())
        if name == "sqrt":
            index: Number = Fraction(2)
            if self.take("["):
                index = self.sum()
                self.need("]")
            return raised(self.atom(), 1 / index)
        if name != "log" and name not in _FUNCTIONS:
            raise ValueError(name)
        return self.function(name)

    def function(self, name: str) -> Number:
        base: Number = Fraction(10)
        if name == "log" and self.take("_"):
            base = self.index()
        power = self.exponent() if self.take("^") else Fraction(1)
        value = complex(self.argument())
        found = cmath.log(value) / cmath.log(complex(base)) if name == "log" else _FUNCTIONS[name](value)
        return raised(found, power)

    def index(self) -> Number:
        r"""Read a subscript: one digit, or what is in braces, as in `\log_28` of 8."""
        if self.next.isdecimal() and len(self.next) > 1:
            digit, self.tokens[self.place] = self.next[0], self.next[1:]
            return Fraction(digit)
        return self.atom()

    def argument(self) -> Number:
        r"""Read what a function is of: brackets, or all factors until the next function: `\sin 2x`."""
        if self.next in ("(", "{", "["):
            return self.atom()
        value = self.power()
        while regex.match(r"[\w.]|\\pi|\\frac|\\sqrt", self.next):
            value *= self.power()
        return value


def _choose(total: Number, chosen: Number) -> Fraction:
    both = (total, chosen)
    if any(not isinstance(each, Fraction) or each.denominator > 1 or not 0 <= each <= 1000 for each in both):
        raise ValueError("choose")
    return Fraction(math.comb(int(total.real), int(chosen.real)))


def raised(base: Number, power: Number) -> Number:
    """Return a power, exactly where it is rational.

    Raises:
        ArithmeticError: It is too large, or 0 to the power of less than 0.
    """
    if isinstance(base, Fraction) and isinstance(power, Fraction):
        root = _root(base, power.denominator)
        if root is not None and abs(power.numerator) * _bits(root) <= _MOST_BITS:
            return root**power.numerator
    return complex(base) ** complex(power)


def _root(value: Fraction, index: int) -> Fraction | None:
    """Return a root that is rational; None if it is not."""
    if index == 1:
        return value
    if value < 0 or index > 64:
        return None
    parts = [round(part ** (1 / index)) for part in (value.numerator, value.denominator)]
    found = Fraction(*parts)
    return found if found**index == value else None


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())
