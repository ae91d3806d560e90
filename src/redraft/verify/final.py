r"""Checks of the final answer in a free text against a gold answer: a number, a letter, mathematics, JSON.

A model that works something out writes many numbers, so the final answer has to be found first. It is the one
behind a mark (`####`, `\boxed{…}`, "the answer is"), and without a mark the last one that could be it. These
checks score tasks (`redraft eval`) and have no short form. As with `number=`, the name of a check holds the
gold answer, and its message never does.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self

import regex

from redraft.chain import Prompt
from redraft.errors import CheckSyntaxError
from redraft.formats.read.tasks import boxed
from redraft.verify.base import Outcome, failed, passed
from redraft.verify.maths import canonical
from redraft.verify.numeric import Number, last_number
from redraft.verify.structure import NotJson, read_json

_WRONG = "It is not right. Work it out again."
_ANSWER_IS = regex.compile(r"(?i)\banswer\b[*_\s]*(?:is|:|=)(?:[\s:*_]|so|then|therefore)*")
_MARKS = 20
"""Most marks to look at, from the end."""

_SENTENCE_END = regex.compile(r"[.!?](?=\s|$)|\n|$")
_NUMBER_BEGINS = regex.compile(r"(?:about|approximately|\\?[$€£(\[\s=≈])*+[-+−]?\.?\d")


def stated(answer: str) -> Iterator[str]:
    """Yield the texts marked as the final answer, the likeliest first; each to the end of its sentence."""
    _, mark, last = answer.rpartition("####")
    if mark:
        yield last.strip().split("\n")[0]
    if found := boxed(answer):
        yield found
    for match in reversed(list(_ANSWER_IS.finditer(answer))[-_MARKS:]):
        end = _SENTENCE_END.search(answer, match.end())
        yield answer[match.end() : end.start() if end else None].strip()


def final_number(answer: str) -> Decimal | None:
    """Return the number that an answer ends in, or None if it has none."""
    for text in stated(answer):
        if _NUMBER_BEGINS.match(text) and (found := last_number(text)):
            return found[0]
    found = last_number(answer)
    return found[0] if found else None


@dataclass(frozen=True)
class FinalNumber:
    """The final answer is this number."""

    reference: Decimal

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

    def said(self, answer: str) -> Decimal | None:
        """Return what an answer says, for a vote; None if it says nothing."""
        return final_number(answer)

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002  (every check takes the prompt)
        """Pass if it is equal, however it is written."""
        found = self.said(answer)
        if found is None:
            return failed("The answer has no number. Write the result as a number, at the end.")
        told = f"The final answer is read as {found!s:.40}."
        return passed(told) if found == self.reference else failed(f"{told} {_WRONG}")


_LETTER = r"(?P<letter>[B-Z]|A(?!\s+(?!because|since|as\b|and\b|with\b)\p{Ll}))(?![\w'’])"
_CHOSEN = (
    regex.compile(
        rf"(?:[Aa]nswer|ANSWER)\b[\s:*_]*+(?:is\b|=)?+[\s:*_]*+(?:[Oo]ption|[Cc]hoice)?+[\s*_(\[]*+{_LETTER}"
    ),
    regex.compile(rf"\b(?:[Oo]ption|[Cc]hoice)\s*+[*_(\[]*+{_LETTER}"),
    regex.compile(rf"^[^\w\n]*{_LETTER}[^\w\n]*$", regex.MULTILINE),
    regex.compile(rf"(?<!\w){_LETTER}\)"),
)
"""How a letter is given, the clearest first. Nothing is given back: no hostile text costs cubic time."""


def final_letter(answer: str, letters: str = "ABCDE") -> str | None:
    """Return the letter that an answer chooses, or None."""
    marked = boxed(answer)
    for text in [marked, *regex.findall(r"####\s*(.+)", answer)[-1:]]:
        bare = regex.sub(r"\\text|\W", "", text or "")
        if len(bare) == 1 and bare in letters:
            return bare
    for pattern in _CHOSEN:
        found = [match["letter"] for match in pattern.finditer(answer) if match["letter"] in letters]
        if found:
            return str(found[-1])
    return None


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


_INLINE = regex.compile(
    r"\$\$?([^$]+)\$\$?|\\\(((?:(?!\\\().)+?)\\\)|\\\[((?:(?!\\\[).)+?)\\\]", regex.DOTALL
)
_SHORT = 80
"""Most characters of an answer that may be the bare result."""


def final_maths(answer: str) -> str | None:
    """Return the result of an answer as it wrote it, or None."""
    for text in stated(answer):
        if text.strip():
            inline = _INLINE.fullmatch(text.strip())
            return next(filter(None, inline.groups())) if inline else text
    if len(answer.strip()) <= _SHORT and "\n" not in answer.strip():
        return answer.strip() or None
    formulas = [
        text for match in _INLINE.finditer(answer) if (text := next(filter(None, match.groups())).strip())
    ]
    found = last_number(answer)
    return formulas[-1] if formulas else str(found[0]) if found else None


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
        same = canonical(found) == canonical(self.reference)
        return passed(told) if same else failed(f"{told} {_WRONG}")


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
