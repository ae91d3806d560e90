r"""Checks of the result of an answer against the right one: a number, a letter, mathematics, JSON.

`number=42` takes the last number in the answer. The others score tasks (`redraft eval`), take what `extract`
finds as the final answer, and have no short form. The name of each holds the right result, and its message
never does, nor the direction or size of an error, because a model would copy it.
"""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Self

from redraft.chain import Prompt
from redraft.errors import CheckSyntaxError
from redraft.verify.base import Outcome, failed, passed
from redraft.verify.extract import Value, final_letter, final_maths, final_number, last_number, whole_number
from redraft.verify.maths import canonical, same
from redraft.verify.structure import NotJson, read_json

_HINT = "Write number=42, or number=3.14~0.01 with a tolerance."
_WRONG = "It is not right. Work it out again."


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
        check = cls(_number_of(reference, written), _number_of(tolerance, written) if mark else Decimal(0))
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


def _number_of(text: str, written: str) -> Value:
    value = whole_number(text.strip())
    if value is None:
        raise CheckSyntaxError(f"number={written}: {text.strip()!r} is not a number.", hint=_HINT)
    return value


def _short(value: Value) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:40] + "…"


@dataclass(frozen=True)
class FinalNumber:
    """The final answer is this number."""

    reference: Value

    @classmethod
    def of(cls, gold: str) -> Self:
        """Parse a gold answer, such as `1,234.5`.

        Raises:
            CheckSyntaxError: Not a number.
        """
        try:
            return cls(Number.of(gold).reference)
        except CheckSyntaxError:
            raise CheckSyntaxError(f"the gold answer {gold!r:.40} is no number.") from None

    @property
    def name(self) -> str:
        """The name in records. It holds the gold answer, so no model may see it."""
        return f"final number {self.reference}"

    @property
    def demand(self) -> str:
        """Where the number is looked for."""
        return "End the answer with its result, as a number in digits."

    def said(self, answer: str) -> Value | None:
        """Return what an answer says, for a vote; None if it says nothing."""
        return final_number(answer)

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002  (every check takes the prompt)
        """Pass if it is equal, however it is written."""
        found = self.said(answer)
        if found is None:
            return failed("The answer has no number. Write the result as a number, at the end.")
        told = f"The final answer is read as {found!s:.40}."
        return passed(told) if found == self.reference else failed(f"{told} {_WRONG}")


@dataclass(frozen=True)
class FinalLetter:
    """The final answer is this option.

    Attributes:
        letters: All options.
    """

    reference: str
    letters: str = "ABCDE"

    @property
    def name(self) -> str:
        """The name in records. It holds the gold answer."""
        return f"final letter {self.reference}"

    @property
    def demand(self) -> str:
        """Where the letter is looked for."""
        return "End the answer with the letter of the right option."

    def said(self, answer: str) -> str | None:
        """Return the chosen letter, for a vote; None if there is none."""
        return final_letter(answer, self.letters)

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002
        """Pass if it is this letter."""
        found = self.said(answer)
        if found is None:
            return failed("The answer chooses no option. End with the letter of one.")
        told = f"The chosen option is read as {found}."
        return passed(told) if found == self.reference else failed(f"{told} {_WRONG}")


@dataclass(frozen=True)
class FinalMaths:
    """The final answer is this, in any usual spelling (`maths.canonical`)."""

    reference: str

    @classmethod
    def of(cls, gold: str) -> Self:
        """Take a gold answer.

        Raises:
            CheckSyntaxError: It is empty.
        """
        if not gold.strip():
            raise CheckSyntaxError("there is no gold answer.")
        return cls(gold)

    @property
    def name(self) -> str:
        """The name in records. It holds the gold answer."""
        return f"final answer {self.reference}"

    @property
    def demand(self) -> str:
        """Where the result is looked for."""
        return r"Put the final answer in \boxed{}."

    def said(self, answer: str) -> Hashable:
        """Return the result in its canonical spelling, for a vote; None if there is none."""
        found = final_maths(answer)
        return None if found is None else canonical(found)

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002
        """Pass if both are the same."""
        found = final_maths(answer)
        if found is None:
            return failed(r"The answer has no result. Put it in \boxed{}.")
        told = f"The final answer is read as {found:.200}."
        return passed(told) if same(found, self.reference) else failed(f"{told} {_WRONG}")


@dataclass(frozen=True)
class SameJson:
    """The answer is JSON, as with the check `json`, with the content of the gold answer.

    Attributes:
        reference: A JSON text. The order of keys does not count, nor 1 against 1.0.
    """

    reference: str

    @classmethod
    def of(cls, gold: str) -> Self:
        """Take a gold answer.

        Raises:
            CheckSyntaxError: It is not JSON.
        """
        try:
            json.loads(gold)
        except (ValueError, RecursionError):
            raise CheckSyntaxError(f"the gold answer {gold!r:.60} is not JSON.") from None
        return cls(gold)

    @property
    def name(self) -> str:
        """The name in records. It holds the gold answer."""
        return f"same JSON as {self.reference}"

    @property
    def demand(self) -> str:
        """The form."""
        return "Answer with JSON alone."

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002
        """Pass if the content is the same. Other JSON scores 1/2."""
        try:
            value, _ = read_json(answer)
        except NotJson as error:
            return failed(str(error), score=error.read / 2)
        try:
            same = _typed(value) == _typed(json.loads(self.reference))
        except RecursionError:
            return failed("The answer is JSON that is nested too deep to be compared.", score=0.5)
        if same:
            return passed("The JSON has the right content.")
        return failed("The answer is JSON, and its content is not what it should be.", score=0.5)


def _typed(value: Any) -> Any:
    """Return a value in which `true` is not 1, as Python has it."""
    if isinstance(value, dict):
        return {name: _typed(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_typed(inner) for inner in value]
    return ("bool", value) if isinstance(value, bool) else value
