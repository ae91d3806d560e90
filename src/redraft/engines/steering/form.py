"""The form of answers that pass: what a check may say to an engine before anything is written.

A form narrows what may be written; it never replaces the check. It is a value of no engine's syntax: each
engine's grammar is written from it (`lark`). What no form can say is only checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from redraft.engines.steering.pattern import pattern_of
from redraft.engines.steering.phrase import pattern_for

T = TypeVar("T")
Bounds = tuple[int, int | None]  # the fewest, and the most or None
ANY: Bounds = (0, None)
MOST_HAS = 64  # the most for which a grammar of llguidance notes which have come
MOST_PARTS = 40  # more do not fit into an answer
MOST_LACKS = 1000  # with 10,000, llguidance takes a second for each answer
LONGEST_LACKED = 60  # characters; regular expressions of llguidance nest 250 levels, three for each


SLOT_WORDS = 3  # the most words between two marks


@dataclass(frozen=True)
class Layout:
    """How a text is laid out. An empty layout is any.

    Attributes:
        title: It begins with a title, `<<…>>`.
        parts: How many parts it has; 0 for any.
        mark: What each part begins with; `{}` is its number.
        between: What stands between two parts.
        first: The number of a part, from 1, and the word that it begins with.
        slots: What comes in it, each as often as it is named: `[…]` and `*…*` stand for some words between
            these marks, `…q…` for a word with this letter, and `ABC` for one in capitals.
    """

    title: bool = False
    parts: int = 0
    mark: str = ""
    between: str = ""
    first: tuple[int, str] = (0, "")
    slots: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What it adds to an answer, in one text."""
        marks = [self.mark.format(number) for number in range(1, self.parts + 1)]
        slots = [slot.replace("…", "") for slot in self.slots if slot != "ABC"]
        return " ".join(["<<>>" * self.title, *marks, self.between * (self.parts > 1), self.first[1], *slots])


PLAIN = Layout()


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
        pattern: A regular expression that is found in it.
        choices: It begins with one of these texts.
        layout: Its title, its parts, and marks in it.
        schema: It is JSON of this JSON Schema; empty for any JSON object, None for a text.
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
    pattern: str = ""
    choices: tuple[str, ...] = ()
    layout: Layout = PLAIN
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
            pattern=_one(self.pattern, other.pattern),
            choices=_one(self.choices, other.choices),
            layout=_laid_out(self.layout, other.layout),
            schema=self.schema if other.schema is None else other.schema,
        )
        joined.check()
        return joined

    @property
    def given_sentences(self) -> int:
        """How many sentences the given end has: one for a closing, two for a postscript and its mark."""
        return bool(self.closing) + 2 * bool(self.postscript)

    @property
    def given(self) -> list[str]:
        """The texts that it must have."""
        return [*self.has, self.opening, self.closing, self.postscript, self.layout.text, *self.choices[:1]]

    @property
    def given_words(self) -> int:
        """How many words the given texts have, with those between marks."""
        return len(" ".join(self.given).split()) + (SLOT_WORDS - 1) * len(self.layout.slots)

    def check(self) -> None:
        """Raise `Conflict` if the form demands what it forbids, or is too large for a grammar."""
        if self.case not in ("", "upper", "lower"):
            raise ValueError(f"case is {self.case!r}, and neither 'upper' nor 'lower'")
        if self.schema is not None and replace(self, lacks=(), without=frozenset(), has=()) != Form(
            schema=self.schema
        ):
            raise Conflict("JSON is steered by its schema, and by the words that it has or lacks")
        self._check_size()
        self._check_layout()
        self._check_pattern()
        text = "\n".join(self.given)
        if clash := next((char for char in self.without if char in text), None):
            raise Conflict(f"{clash!r} is demanded and forbidden")
        if self.quoted and '"' in text:
            raise Conflict("quotation marks inside a quotation")
        if self.sentences[1] is not None and self.sentences[1] <= self.given_sentences:
            raise Conflict("the end is a sentence of its own")
        if clash := next((each for each in self.lacks if pattern_for(each.strip()).search(text)), None):
            raise Conflict(f"{clash!r} is demanded and forbidden")
        most, given = self.words[1], self.given_words
        if most is not None and most < max(given + bool(given), 2 * self.sentences[0]):
            raise Conflict("more words are demanded than allowed")

    def _check_layout(self) -> None:
        layout = self.layout
        if (layout.parts or self.choices) and self.sentences != ANY:
            raise Conflict("sentences are counted, and others are given")
        if self.choices and (self.opening or layout.title):
            raise Conflict("an answer begins in one way")
        cased = {"upper": str.upper, "lower": str.lower}.get(self.case, str)
        if cased(layout.mark) != layout.mark or (self.case == "lower" and "ABC" in layout.slots):
            raise Conflict(f"a mark of the layout is not in {self.case} case")
        if layout.parts > MOST_PARTS or len(layout.slots) > MOST_PARTS:
            raise Conflict("these are too many parts for a grammar")

    def _check_pattern(self) -> None:
        if not self.pattern:
            return
        found = pattern_of(self.pattern)
        if found is None:
            raise Conflict("no grammar has what the regular expression uses")
        if found.begins and found.ends and self != Form(pattern=self.pattern):
            raise Conflict("the regular expression is for the whole answer")
        begins = self.opening or self.choices or self.layout.title or self.layout.mark
        if (found.begins and begins) or (found.ends and (self.closing or self.postscript)):
            raise Conflict("the regular expression is for where another text stands")
        if self.case or self.quoted or self.sentences != ANY:
            raise Conflict("what the regular expression matches may break another form")

    def _check_size(self) -> None:
        if not all(map(str.strip, (*self.has, *self.lacks))):
            raise Conflict("one of the texts is empty")
        if len(set(self.has)) > MOST_HAS or len(self.lacks) > MOST_LACKS:
            raise Conflict("these are too many texts for a grammar")
        if any(len(text) > LONGEST_LACKED for text in self.lacks):
            raise Conflict("one of the texts is too long for a grammar")


def _one(first: T, second: T) -> T:
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


def _laid_out(first: Layout, second: Layout) -> Layout:
    given = [(layout.parts, layout.mark, layout.between) for layout in (first, second)]
    parts, mark, between = _one(*(each if each[0] else () for each in given)) or (0, "", "")
    start = _one(*(layout.first if layout.first[0] else () for layout in (first, second))) or (0, "")
    slots = _at_least(first.slots, second.slots)
    return Layout(first.title or second.title, parts, mark, between, start, slots)


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
