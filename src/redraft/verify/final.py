r"""Checks of the result of an answer against the right one: a number, a letter, mathematics, JSON.

`number=42` takes the last number in the answer. The others score tasks (`redraft eval`) and find the final
answer: behind a mark (`####`, `\boxed{…}`, "the answer is"), else the last that could be it, unless the text
takes it back. Names hold the right result; messages never do, as a model would copy it. Units are ignored.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, ClassVar, Self

import regex

from redraft.chain import Prompt
from redraft.errors import CheckSyntaxError
from redraft.formats.read.tasks import boxed
from redraft.verify.base import Outcome, failed, passed
from redraft.verify.json_reading import NotJson, read_json
from redraft.verify.maths import canonical, same
from redraft.verify.schema import identity
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
Value = Decimal | Fraction  # a number as it is written: a fraction stays one


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


_ANSWER_IS = regex.compile(
    r"(?i)\banswer\b[*_\s]*(?:(?:(?:must|should|would|will)\s+be|is|:|=)(?:[\s:*_]|so|then|therefore)*+)"
)
_MARKS = 20  # most marks to look at, from the end
_SHORT = 80  # most characters of a bare result

_SENTENCE_END = regex.compile(r"[.!?](?=\s|$)|\n|$")
_NUMBER_BEGINS = regex.compile(
    r"(?:about|approximately|\\(?:math|text)(?:bf|rm|it)\{|\\?[$€£(*\[\s=≈{])*+[-+−]?(?:\.?\d|\\[dtc]?frac)"
)
_CORRECTION = regex.compile(
    r"(?i)(?<=[.!?…]\s{1,4}|\n|^)[\s*_]{0,4}(?:but\b,?\s|oh\b,?\s|hmm+\b,?\s)?"
    r"(?:wait\b|actually\b|hold\son\b|no[,.!—]|hmm+\b|oops\b|sorry\b|correction\b|i\smade\sa\b|i\swas\swrong\b|"
    r"that(?:'s|\sis|\swas)\s(?:wrong|incorrect|not\sright)\b|let\sme\s(?:re|check|double|correct)\w*)"
)
_AFFIRMED = regex.compile(
    r"(?i)\b(?:(?:is|was|it's|looks)\s(?:indeed\s)?(?:correct|right|consistent)|yes|indeed|confirm\w*|"
    r"checks\sout|matches|holds)\b|[✓✔]|[.!:]\s(?:correct|right)\b"
)


def _last_word(answer: str) -> str:
    """Return what follows where a text last takes something back; the whole text if it does not.

    A text that checks its answer and finds it right takes nothing back.
    """
    for match in reversed(list(_CORRECTION.finditer(answer))[-_MARKS:]):
        rest = answer[match.end() :]
        if any(stated(rest)) or not _AFFIRMED.search(rest):
            return rest
        answer = answer[: match.start()]
    return answer


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


_ASIDE = regex.compile(r"(?<=[\w$%*}]\s{1,3}|\n|^)\((?=[^()\n]*?(?:[\p{L}*×·=+/]|\d\s?[-−]))[^()\n]*+\)")
"""A remark in brackets."""

_NOT_SAID = regex.compile(r"(?i)\b(?:not|instead\sof|rather\sthan|out\sof)\s[$*\\]*\d[\d,.]*+")
_ORDINAL = regex.compile(r"\b\d+(?:st|nd|rd|th)\b")
_ARITHMETIC = regex.compile(r"[\d\s.,+\-−*/×·()]*[+\-−*/×·][\d\s.,+\-−*/×·()]*\d[\s)]*")


def final_number(answer: str) -> Value | None:
    """Return the number that an answer ends in, or None if it has none."""
    for text in dict.fromkeys([_last_word(answer), answer]):  # one text if nothing is taken back
        if (found := _number_in(text)) is not None:
            return found
    return None


def _number_in(answer: str) -> Value | None:
    for text in stated(answer):
        text = _ASIDE.sub("", text)
        if isinstance(value := canonical(text.strip(" *_")), Fraction):
            return value
        if _NUMBER_BEGINS.match(text) and (value := _first(text)) is not None:
            return value
    for text in (_ORDINAL.sub("", _NOT_SAID.sub("", _ASIDE.sub("", answer))), answer):
        if found := last_number(text):
            return _computed(text) or found[0]
    return None


def _first(text: str) -> Value | None:
    """Return the number that a statement begins with, or that its calculation gives: `5 + 13 = 18 eggs`."""
    text = plain(text)
    found = None
    for value, start in numbers(text):
        if found is None or regex.search(r"=[\s$*\\{]*$", text[max(start - 9, 0) : start]):
            found = value
    return found


def _computed(text: str) -> Value | None:
    """Return what a calculation at the end of a text comes to: `= 2 · 3 ways`."""
    _, equals, last = text.rpartition("=")
    match = _ARITHMETIC.match(last[:_SHORT]) if equals else None
    value = canonical(match[0].strip()) if match and not any(numbers(plain(last[match.end() :]))) else None
    return value if isinstance(value, Fraction) else None


_LETTER = r"(?P<letter>[B-Z]|A(?!\s+(?!because|since|as\b|and\b|with\b|is\b)\p{Ll}))(?![\w'’])"
_SMALL = r"(?P<letter>(?i:[A-Z]))(?=[\s)\].,;:*_\"”'’}$]*(?:$|\n|[.,;)]))(?![\w'’])"
_OPENS = r"[\s*_(\[\"“'‘$\\{]*+"
_BE = r"(?:is|must\s+be|should\s+be|would\s+be|will\s+be)\b"
_IS = rf"\b[\s:*_.–—-]*+(?:{_BE}|=)?+{_OPENS}(?:(?i:option|choice|letter)\b)?+{_OPENS}"
_NAMED = r"(?i:answer|option|choice|(?:right|correct|best)\s+one)"
_CHOSEN = (
    regex.compile(rf"\b(?i:ans|answer){_IS}{_LETTER}"),
    regex.compile(
        rf"{_NAMED}\b[\s*_]*+(?:is\b|:|=|(?:must|should|would|will)\s+be\b){_OPENS}(?:{_LETTER}|{_SMALL})"
    ),
    regex.compile(
        rf"(?<!\w){_LETTER}[)*_]*+\s*+(?:{_BE}|:)[\s*_]*+(?:the\s+)?(?:only\s+)?"
        r"(?i:correct|right|best|true|answer)\b"
    ),
    regex.compile(rf"\b(?:[Oo]ption|[Cc]hoice)\s*+[*_(\[]*+{_LETTER}"),
    regex.compile(
        rf"\b(?i:choose|pick|select|go\s+with|therefore|thus|hence|so|only|it\s+is|it's)\b,?{_OPENS}{_LETTER}"
    ),
    regex.compile(rf"^[^\w\n]*{_LETTER}[^\w\n]*$", regex.MULTILINE),
    regex.compile(rf"\A[^\w\n]*{_LETTER}[.):]"),
    regex.compile(rf"(?<!\w){_LETTER}\)"),
)
"""How a letter is given, the clearest first. Nothing is given back: no hostile text costs cubic time."""


def final_letter(answer: str, letters: str = "ABCDE") -> str | None:
    """Return the letter that an answer chooses, or None."""
    found = (_letter_in(text, letters) for text in dict.fromkeys([_last_word(answer), answer]))
    return next(filter(None, found), None)


def _letter_in(answer: str, letters: str) -> str | None:
    marked = boxed(answer)
    for text in [marked, *regex.findall(r"####\s*(.+)", answer)[-1:]]:
        found = regex.match(r"(?:\\[a-z]+|[^\p{L}\p{N}])*+(\p{L})(?![\p{L}\p{N}])", text or "")
        if found and found[1].upper() in letters:
            return str(found[1].upper())
    for pattern in _CHOSEN:
        said = [match["letter"].upper() for match in pattern.finditer(answer)]
        if said := [letter for letter in said if letter in letters]:
            return str(said[-1])
    return None


_INLINE = regex.compile(
    r"\$\$?([^$]+)\$\$?|\\\(((?:(?!\\\().)+?)\\\)|\\\[((?:(?!\\\[).)+?)\\\]", regex.DOTALL
)


def final_maths(answer: str) -> str | None:
    """Return the result of an answer as it wrote it, or None."""
    answer = _last_word(answer)
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


_HINT = "Write number=42, or number=3.14~0.01 with a tolerance."
_NO_NUMBER = "The answer has no number. Write the result as a number, at the end."
_NUMBER_LAST = "End the answer with its result, as a number in digits."


@dataclass(frozen=True)
class Number:
    """`number=3.14~0.01`: the last number in the answer is this one, give or take a tolerance."""

    reference: Value
    tolerance: Value = Decimal(0)
    demand: ClassVar[str] = _NUMBER_LAST

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
    match = _WHOLE.fullmatch(text.strip())
    if match is None:
        raise CheckSyntaxError(f"number={written}: {text.strip()!r} is not a number.", hint=_HINT)
    return _value(match)


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
    demand: ClassVar[str] = "Answer with JSON alone."

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

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002
        """Pass if the content is the same. Other JSON scores 1/2."""
        try:
            value, _ = read_json(answer)
        except NotJson as error:
            return failed(str(error), score=error.read / 2)
        try:
            same = identity(value) == identity(json.loads(self.reference))
        except RecursionError:
            return failed("The answer is JSON that is nested too deep to be compared.", score=0.5)
        if same:
            return passed("The JSON has the right content.")
        return failed("The answer is JSON, and its content is not what it should be.", score=0.5)
