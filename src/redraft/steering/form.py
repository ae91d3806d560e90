"""The form of answers that pass: what a check may say to an engine before anything is written.

A form narrows what may be written; it never replaces the check. It is a value without regular expressions, so
that each engine's grammar is written from it (`lark`). What no form can say is only checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

Bounds = tuple[int, int | None]  # the fewest, and the most or None
ANY: Bounds = (0, None)
MOST_HAS = 64  # the most for which a grammar of llguidance notes which have come
MOST_LACKS = 1000  # with 10,000, llguidance takes a second for each answer
LONGEST_LACKED = 60  # characters; regular expressions of llguidance nest 250 levels, three for each


class Conflict(Exception):
    """Forms do not hold together in a grammar that redraft can write. An answer may have both."""


@dataclass(frozen=True)
class Form:
    """The form of an answer. An empty one is any text.

    Attributes:
        without: Characters that it does not have.
        case: `upper` or `lower`, if letters have one case alone.
        lacks: Words and phrases that it does not have, in any case.
        has: Words and phrases that it has, in any order; one that is named twice comes twice.
        opening: How it begins.
        closing: How it ends.
        postscript: The mark of a postscript, which has a line of its own.
        words: Bounds on the words.
        sentences: Bounds on the sentences.
        quoted: It stands in double quotation marks.
        schema: The JSON Schema of the JSON that it is; empty for any JSON object, None for a text.
    """

    without: frozenset[str] = frozenset()
    case: str = ""
    lacks: tuple[str, ...] = ()
    has: tuple[str, ...] = ()
    opening: str = ""
    closing: str = ""
    postscript: str = ""
    words: Bounds = ANY
    sentences: Bounds = ANY
    quoted: bool = False
    schema: Mapping[str, Any] | None = None

    def __and__(self, other: Form) -> Form:
        """Return the form of answers that have both.

        Raises:
            Conflict: There is no grammar for them.
        """
        joined = replace(
            self,
            without=self.without | other.without,
            case=_one(self.case, other.case),
            lacks=tuple(dict.fromkeys((*self.lacks, *other.lacks))),
            has=_at_least(self.has, other.has),
            opening=_one(self.opening, other.opening),
            closing=_one(self.closing, other.closing),
            postscript=_one(self.postscript, other.postscript),
            words=_both(self.words, other.words),
            sentences=_both(self.sentences, other.sentences),
            quoted=self.quoted or other.quoted,
            schema=self.schema if other.schema is None else other.schema,
        )
        joined.check()
        return joined

    @property
    def given_sentences(self) -> int:
        """How many sentences the given end has: a closing is one, a postscript its mark and another one."""
        return bool(self.closing) + 2 * bool(self.postscript)

    def check(self) -> None:
        """Raise `Conflict` if what the form has is what it must not have, or is too much for a grammar."""
        if self.case not in ("", "upper", "lower"):
            raise ValueError(f"case is {self.case!r}, and neither 'upper' nor 'lower'")
        if self.schema is not None and replace(self, schema=None, lacks=(), without=frozenset()) != Form():
            raise Conflict("JSON is steered by its schema, and by what it lacks")
        self._check_size()
        fixed = [*self.has, self.opening, self.closing, self.postscript]
        text = "\n".join(fixed)
        if clash := next((char for char in self.without if char in text), None):
            raise Conflict(f"{clash!r} is demanded and forbidden")
        if self.quoted and '"' in text:
            raise Conflict("quotation marks inside a quotation")
        if self.sentences[1] is not None and self.sentences[1] <= self.given_sentences:
            raise Conflict("the end is a sentence of its own")
        said = f" {' '.join(text.lower().split())} "
        if clash := next((each for each in self.lacks if f" {each.lower()} " in said), None):
            raise Conflict(f"{clash!r} is demanded and forbidden")
        most = self.words[1]
        if most is not None and most < max(len(text.split()), 2 * self.sentences[0]):
            raise Conflict("more words are demanded than allowed")

    def _check_size(self) -> None:
        if not all(map(str.strip, (*self.has, *self.lacks))):
            raise Conflict("one of the texts is empty")
        if len(set(self.has)) > MOST_HAS or len(self.lacks) > MOST_LACKS:
            raise Conflict("these are too many texts for a grammar")
        if any(len(text) > LONGEST_LACKED for text in self.lacks):
            raise Conflict("one of the texts is too long for a grammar")


def _one(first: str, second: str) -> str:
    if first and second and first != second:
        raise Conflict(f"{first!r} and {second!r} exclude each other")
    return first or second


def _both(first: Bounds, second: Bounds) -> Bounds:
    low = max(first[0], second[0])
    highs = [high for high in (first[1], second[1]) if high is not None]
    if highs and min(highs) < low:
        raise Conflict(f"at least {low} and at most {min(highs)} exclude each other")
    return low, min(highs, default=None)


def _at_least(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    """Return the texts of both, each as often as the one that has it more often."""
    more = [text for text in dict.fromkeys(second) for _ in range(second.count(text) - first.count(text))]
    return (*first, *more)


def joined(forms: Iterable[tuple[str, Form]]) -> tuple[Form, tuple[str, ...]]:
    """Join the forms of checks as far as they go together.

    Args:
        forms: The name of each check, and its form. Earlier ones go before.

    Returns:
        The form, and the names of the checks in it.
    """
    form, names = Form(), []
    for name, each in forms:
        try:
            form = form & each
        except Conflict:
            continue
        names.append(name)
    return form, tuple(names)
