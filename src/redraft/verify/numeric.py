"""A check of an answer's result: the last number in its text.

Messages never reveal the reference number, nor the direction or size of an error, because a model would copy
it. Units are ignored: 50% is 50, and $3 is 3. A fraction is one number: 1/2 is 0.5. Numbers in words and
decimal commas are not supported.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Self

import regex

from redraft.chain import Prompt
from redraft.errors import CheckSyntaxError
from redraft.verify.base import Outcome, failed, passed
from redraft.verify.segment import line_of

# A name that ends in digits (x2, GPT-4) is not a number. A minus sign counts unless a letter, digit or
# closing bracket precedes it. An exponent has at most four digits, so that comparing numbers stays cheap.
_NUMBER = r"""
    (?P<sign>(?<![\p{L}\p{N})\]}%])[-+−])?+ (?:[$€£¥]\s?+(?P<inner>[-−])?+)?+
    (?:
        (?<![0-9/.,])(?:(?P<whole>[0-9]{1,15}+)[ ])?(?P<over>[0-9]{1,15}+)[ ]?/[ ]?
        (?P<under>(?!0++(?![0-9]))[0-9]{1,15}+)(?![ ]?/|[.,]?[0-9])
    |
        (?P<digits>
            (?:[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])|[0-9]++)(?:\.[0-9]++)?+ | \.[0-9]++
        )
        (?P<exponent>[eE][-+−]?+[0-9]{1,4}(?![\p{L}\p{N}]))?+
    ) %?+
"""
_NAME = r"[\p{L}_](?:[\p{L}\p{M}_]|-?[0-9]|(?<=[0-9])\.[0-9])*+"
_SCAN = regex.compile(f"{_NAME}|{_NUMBER}", regex.VERBOSE)
_WHOLE = regex.compile(_NUMBER, regex.VERBOSE)
_TEN = r"10\^(?:\{([-−]?[0-9]{1,3})\}|([-−]?[0-9]{1,3}))"
_PLAIN: tuple[tuple[str, str], ...] = (
    (r"(?<=[0-9])(?:\{,\}|,?\\[,!]|[\u00a0\u2009\u202f])(?=[0-9]{3}(?![0-9]))", ","),
    (r"([0-9])?+\\[dtc]?frac[ ]?\{?([0-9]{1,15})\}?[ ]?\{?([0-9]{1,15})\}?", r"\1 \2/\3"),
    (rf"(?<=[0-9])[ ]?(?:×|x|\*|·|\\times|\\cdot)[ ]?{_TEN}", r"e\1\2"),
    (rf"(?<![0-9.,]){_TEN}", r"1e\1\2"),
    (r"(?<=[\p{L}})])\^(?:\{[0-9]+\}|[0-9]+)", ""),
)
"""Other spellings of numbers, and powers of units. None changes a line."""
_HINT = "Write number=42, or number=3.14~0.01 with a tolerance."

Value = Decimal | Fraction
"""A number as it is written: a fraction stays one."""


def plain(text: str) -> str:
    """Return a text with its numbers in plain spelling: `1{,}234` becomes `1,234`. Lines stay as they are."""
    for pattern, new in _PLAIN:
        text = regex.sub(pattern, new, text)
    return text


def numbers(text: str) -> Iterator[tuple[Value, int]]:
    """Yield the numbers in a text in plain spelling, and where each begins.

    Supports 1,234.5, -3, .5, 1e5, 1/2, 1 1/2, and $, %, or a full stop around them.
    """
    for match in _SCAN.finditer(text):
        if match["digits"] or match["over"]:
            yield _value(match), match.start()


def last_number(text: str) -> tuple[Value, int] | None:
    """Return the last number in a text and its line, or None. A fraction is one number: 1/2 is not 2."""
    text, last = plain(text), None
    for match in _SCAN.finditer(text):
        last = match if match["digits"] or match["over"] else last
    return (_value(last), line_of(text, last.start())) if last else None


def _value(match: regex.Match[str]) -> Value:
    negative = (match["sign"] or "") in {"-", "−"} or match["inner"] is not None
    if match["over"]:
        value = Fraction(int(match["over"]), int(match["under"]))
        value += int(match["whole"] or 0) if value < 1 else 0
        return -value if negative else value
    digits = match["digits"].replace(",", "") + (match["exponent"] or "").replace("−", "-")
    return -Decimal(digits) if negative else Decimal(digits)


@dataclass(frozen=True)
class Number:
    """`number=3.14~0.01`: the last number in the answer is this one, give or take a tolerance."""

    reference: Value
    tolerance: Value = Decimal(0)

    @classmethod
    def of(cls, written: str) -> Self:
        """Parse `42`, `3.14~0.01` or `3.14±0.01`.

        Raises:
            CheckSyntaxError: Not a number, or a negative tolerance.
        """
        reference, mark, tolerance = written.replace("±", "~").partition("~")
        check = cls(_read(reference, written), _read(tolerance, written) if mark else Decimal(0))
        if check.tolerance < 0:
            raise CheckSyntaxError(f"number={written}: a tolerance cannot be negative.", hint=_HINT)
        return check

    @property
    def name(self) -> str:
        """The short form. It holds the reference, so no model may see it."""
        return f"number={self.reference}" + (f"~{self.tolerance}" if self.tolerance else "")

    @property
    def demand(self) -> str:
        """Where the number is looked for. The reference stays secret."""
        return "End the answer with its result, as a number in digits."

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002  (every check takes the prompt)
        """Pass if the last number is within the tolerance. A miss scores 0, however close."""
        found = last_number(answer)
        if found is None:
            return failed("The answer has no number. Write the result as a number, at the end.")
        value, line = found
        where = f"The last number in the answer is {_short(value)}, on line {line}"
        if abs(Fraction(value) - Fraction(self.reference)) <= Fraction(self.tolerance):
            return passed(f"{where}, and it is right.")
        return failed(f"{where}, and it is not right. Work it out again.")


def _read(text: str, written: str) -> Value:
    match = _WHOLE.fullmatch(text.strip())
    if not match:
        raise CheckSyntaxError(f"number={written}: {text.strip()!r} is not a number.", hint=_HINT)
    return _value(match)


def _short(value: Value) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:40] + "…"
