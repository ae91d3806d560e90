"""A check of an answer's result: the last number in its text.

Messages never reveal the reference number, nor the direction or size of an error, because a model would copy
it. Units are ignored: 50% is 50, and $3 is 3. Fractions, numbers in words and decimal commas are not
supported.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
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
    (?P<digits>
        (?:[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])|[0-9]++)(?:\.[0-9]++)?+ | \.[0-9]++
    )
    (?P<exponent>[eE][-+]?+[0-9]{1,4}(?![\p{L}\p{N}]))?+ %?+
"""
_NAME = r"[\p{L}_](?:[\p{L}\p{M}_]|-?[0-9]|(?<=[0-9])\.[0-9])*+"
_SCAN = regex.compile(f"{_NAME}|{_NUMBER}", regex.VERBOSE)
_WHOLE = regex.compile(_NUMBER, regex.VERBOSE)
_HINT = "Write number=42, or number=3.14~0.01 with a tolerance."


def last_number(text: str) -> tuple[Decimal, int] | None:
    """Return the last number in a text and its position, or None.

    Supports 1,234.5, -3, .5, 1e5, and $, %, or a full stop around them.
    """
    last = None
    for match in _SCAN.finditer(text):
        last = match if match["digits"] else last
    return (_value(last), last.start()) if last else None


def _value(match: regex.Match[str]) -> Decimal:
    digits = match["digits"].replace(",", "") + (match["exponent"] or "")
    negative = (match["sign"] or "") in {"-", "−"} or match["inner"] is not None
    return -Decimal(digits) if negative else Decimal(digits)


@dataclass(frozen=True)
class Number:
    """`number=3.14~0.01`: the last number in the answer is this one, give or take a tolerance."""

    reference: Decimal
    tolerance: Decimal = Decimal(0)

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
        value, position = found
        where = f"The last number in the answer is {_short(value)}, on line {line_of(answer, position)}"
        if self.reference - self.tolerance <= value <= self.reference + self.tolerance:
            return passed(f"{where}, and it is right.")
        return failed(f"{where}, and it is not right. Work it out again.")


def _read(text: str, written: str) -> Decimal:
    match = _WHOLE.fullmatch(text.strip())
    if not match:
        raise CheckSyntaxError(f"number={written}: {text.strip()!r} is not a number.", hint=_HINT)
    return _value(match)


def _short(value: Decimal) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:40] + "…"
