r"""Checks of the result of an answer against the right one: a number, a letter, mathematics, JSON.

`number=42` takes the last number in the answer. The others score tasks (`redraft eval`), take what `extract`
finds as the final answer, and have no short form. The name of each holds the right result, and its message
never does, nor the direction or size of an error, because a model would copy it.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, ClassVar, Self

from redraft.chain import Prompt
from redraft.errors import CheckSyntaxError
from redraft.verify.base import Outcome, failed, passed
from redraft.verify.extract import Value, final_letter, final_maths, final_number, last_number, whole_number
from redraft.verify.maths import canonical, same
from redraft.verify.structure import NotJson, read_json

_HINT = "Write number=42, or number=3.14~0.01 with a tolerance."
_NO_NUMBER = "The answer has no number. Write the result as a number, at the end."
_NUMBER_LAST = "End the answer with its result, as a number in digits."


@dataclass(frozen=True)
class Number:
    """`number=3.14~0.01`: the last number in the answer is this one, give or take a tolerance."""

    reference: Value
    tolerance: Value = Decimal(0)

    @classmethod
    def of(cls, written: str) -> Self:
        """Parse `42`, `3.14~0.01` or `3.14±0.01`."""
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
        return _NUMBER_LAST

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002  (every check takes the prompt)
        """Pass if the last number is within the tolerance. A miss scores 0, however close."""
        found = last_number(answer)
        if found is None:
            return failed(_NO_NUMBER)
        value, line = found
        where = f"The last number in the answer is {_short(value, 40)}, on line {line}"
        if abs(Fraction(value) - Fraction(self.reference)) <= Fraction(self.tolerance):
            return passed(f"{where}, and it is right.")
        return failed(f"{where}, and it is not right. Work it out again.")


def _number_of(text: str, written: str) -> Value:
    value = whole_number(text.strip())
    if value is None:
        raise CheckSyntaxError(f"number={written}: {text.strip()!r} is not a number.", hint=_HINT)
    return value


def _short(value: object, longest: int) -> str:
    text = str(value)
    return text if len(text) <= longest else f"{text[:longest]}…"


class _Final(ABC):
    """A check of what an answer says in the end. Its name holds the gold answer, so no model may see it."""

    reference: Any
    kind: ClassVar[str]
    called: ClassVar[str] = "final answer"
    missing: ClassVar[str]
    demand: ClassVar[str]
    longest: ClassVar[int] = 200

    @property
    def name(self) -> str:
        """The name in records."""
        return f"final {self.kind} {self.reference}"

    @abstractmethod
    def read(self, answer: str) -> Any:
        """Return the result as the answer has it; None if it has none."""

    def is_right(self, found: Any) -> bool:
        """Whether a result is the gold answer."""
        return bool(found == self.reference)

    def said(self, answer: str) -> Hashable:
        """Return what an answer says, for a vote; None if it says nothing."""
        found: Hashable = self.read(answer)
        return found

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002  (every check takes the prompt)
        """Pass if the result is right."""
        found = self.read(answer)
        if found is None:
            return failed(self.missing)
        told = f"The {self.called} is read as {_short(found, self.longest)}."
        return passed(told) if self.is_right(found) else failed(f"{told} It is not right. Work it out again.")


@dataclass(frozen=True)
class FinalNumber(_Final):
    """The final answer is this number, however it is written."""

    reference: Value
    kind = "number"
    missing = _NO_NUMBER
    demand = _NUMBER_LAST
    longest = 40

    @classmethod
    def of(cls, gold: str) -> Self:
        """Parse a gold answer, such as `1,234.5`."""
        try:
            return cls(Number.of(gold).reference)
        except CheckSyntaxError:
            raise CheckSyntaxError(f"the gold answer {gold!r:.40} is no number.") from None

    def read(self, answer: str) -> Value | None:
        """Return the final number."""
        return final_number(answer)


@dataclass(frozen=True)
class FinalLetter(_Final):
    """The final answer is this option of all `letters`."""

    reference: str
    letters: str = "ABCDE"
    kind = "letter"
    called = "chosen option"
    missing = "The answer chooses no option. End with the letter of one."
    demand = "End the answer with the letter of the right option."

    def read(self, answer: str) -> str | None:
        """Return the chosen letter."""
        return final_letter(answer, self.letters)


@dataclass(frozen=True)
class FinalMaths(_Final):
    """The final answer is this, in any usual spelling (`maths.same`)."""

    reference: str
    kind = "answer"
    missing = r"The answer has no result. Put it in \boxed{}."
    demand = r"Put the final answer in \boxed{}."

    @classmethod
    def of(cls, gold: str) -> Self:
        """Take a gold answer."""
        if not gold.strip():
            raise CheckSyntaxError("there is no gold answer.")
        return cls(gold)

    def read(self, answer: str) -> str | None:
        """Return the result as it is written."""
        return final_maths(answer)

    def is_right(self, found: str) -> bool:
        """Whether both are the same."""
        return same(found, self.reference)

    def said(self, answer: str) -> Hashable:
        """Return the result in its canonical spelling."""
        found = final_maths(answer)
        return None if found is None else canonical(found)


@dataclass(frozen=True)
class SameJson:
    """The answer is JSON, as with the check `json`, with the content of the gold answer.

    The order of keys does not count, nor 1 against 1.0.
    """

    reference: str

    @classmethod
    def of(cls, gold: str) -> Self:
        """Take a gold answer."""
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
