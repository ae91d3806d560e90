"""Define forms: demands on an answer's text that an engine enforces during generation.

A form restricts the generated text, but never replaces the check. `writer` and `grammar` apply forms. Demands
that a form cannot express are only checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf
from typing import Any, NamedTuple, TypeVar

from redraft.engines.steering.pattern import pattern_of
from redraft.engines.steering.phrase import pattern_for

T = TypeVar("T")
MOST_PARTS = 40  # maximum number of parts, and of marked words; more do not fit into an answer
_SENTENCES = {"Be": 1, "One. Two six.": 2, "See it. We go. All do.": 3}
_NEXT = " And this is one more sentence of it.", " This is one more sentence.", " This is one."


@dataclass(frozen=True)
class Limit:
    """Bounds on a count that never falls while a text grows.

    Attributes:
        count: Returns a count for a text, such as the number of words, by the rules of the check.
        low: The least count that passes.
        high: The greatest count that passes; None for any.
    """

    count: Callable[[str], int]
    low: int = 0
    high: int | None = None


@dataclass(frozen=True)
class Layout:
    """The layout of a text. An empty layout allows any text.

    Attributes:
        title: Whether the text begins with a title, `<<…>>`.
        parts: The number of parts; 0 for any.
        more: Whether further parts may follow.
        mark: The text that each part begins with; `{}` stands for the part's number.
        between: The text between two parts.
        first: The number of a part, from 1, and the part's first word.
        slots: The marked words that the text must contain, one entry each: `[…]` or `*…*` for words between
            these marks, `ABC` for a word in capitals.
    """

    title: bool = False
    parts: int = 0
    more: bool = False
    mark: str = ""
    between: str = ""
    first: tuple[int, str] = (0, "")
    slots: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The text that the layout adds to an answer."""
        marks = [self.mark.format(number) for number in range(1, self.parts + 1)]
        slots = [slot.replace("…", "") for slot in self.slots if slot != "ABC"]
        return " ".join(["<<>>" * self.title, *marks, self.between * (self.parts > 1), self.first[1], *slots])


class Conflict(Exception):
    """Raised if forms exclude each other, or if redraft cannot combine them for steering."""


def number_in(text: str) -> str:
    """If a text is a number, return the text without leading spaces. Otherwise, return ""."""
    return found[1] if (found := re.fullmatch(r"\s*(\d(?:[\d.,]*\d)?)", text)) else ""


class Gap(NamedTuple):
    """A word or number to replace: `old`, with its leading space. `rest` is the rest of the sentence."""

    old: str
    rest: str
    closed: str  # the rest if `old` is removed and nothing replaces it
    determined: bool = False  # whether an article or possessive precedes `old`, which may be an adjective
    near: frozenset[str] = frozenset()  # words around the gap, in lower case; they may not fill the gap

    @property
    def number(self) -> str:
        """The number in the gap, without spaces; empty if the gap contains a word."""
        return number_in(self.old)

    def takes(self, word: str) -> bool:
        """Return whether a text is a word that may replace `old`. No word may replace digits."""
        old, bare = self.old.lower(), word.lstrip(" ").lower()
        alike = word[:1].isspace() == old[:1].isspace() and not any(map(str.isdigit, old))
        begins = old.startswith(word.lower()) or bare.startswith(old.strip())
        return alike and bare.isalpha() and bare not in self.near | NEGATIVE and not begins


NEGATIVE = frozenset(("no", "not", "cannot", "never", "none", "hardly", "without"))  # they invert the meaning


NOT_IN_JSON = frozenset('"\\' + "".join(map(chr, range(32))))
"""Characters that a JSON string must escape."""


@dataclass(frozen=True)
class Form:
    """Demands on the text of an answer. An empty form allows any text.

    Attributes:
        without: Forbidden characters.
        case: `upper` or `lower`, if all letters must have this case.
        lacks: Forbidden words and phrases, in any case.
        has: Required words and phrases, in any order. A phrase that is listed twice must occur twice.
        opening: The text at the beginning.
        closing: The text at the end.
        postscript: The start of a postscript, such as `P.S.`. The postscript is a separate line.
        limits: Bounds on the number of words, sentences or anything else.
        quoted: Whether the answer is in double quotation marks.
        pattern: A regular expression for the whole answer, `^…$`. All other demands must be empty.
        layout: The title, the parts, and marked words.
        one: Whether the answer is one sentence or one line.
        gap: A word or number to replace in a text. If no other fits, the rest of the sentence is rewritten.
    """

    without: frozenset[str] = frozenset()
    case: str = ""
    lacks: tuple[str, ...] = ()
    has: tuple[str, ...] = ()
    opening: str = ""
    closing: str = ""
    postscript: str = ""
    limits: tuple[Limit, ...] = ()
    quoted: bool = False
    pattern: str = ""
    layout: Layout = Layout()
    one: bool = False
    gap: Gap | None = None

    def __and__(self, other: Form) -> Form:
        single = ("case", "opening", "closing", "postscript", "pattern", "quoted")
        values: dict[str, Any] = {name: _one(getattr(self, name), getattr(other, name)) for name in single}
        joined = replace(
            self,
            without=self.without | other.without,
            lacks=tuple(dict.fromkeys((*self.lacks, *other.lacks))),
            has=_at_least(self.has, other.has),
            limits=_both(self.limits, other.limits),
            layout=_laid_out(self.layout, other.layout),
            **values,
        )
        joined.check()
        return joined

    @property
    def characters(self) -> Form:
        """A form that forbids only `without` (in both cases if `case` is set) and, if `quoted`, `"`."""
        cased = {case(char) for char in self.without for case in (str.upper, str.lower)} if self.case else ()
        return Form(without=self.without.union('"' * self.quoted, cased))

    def in_case(self, text: str) -> str:
        """Return a text in this form's case."""
        return {"upper": text.upper(), "lower": text.lower()}.get(self.case, text)

    @cached_property
    def further(self) -> tuple[Callable[[str], int], int, str]:
        """The sentence counter, the least number of sentences, and a sample of a sentence yet to be written.

        The sample is empty if one sentence is enough, if nothing else has a maximum, or if no sample fits.
        """
        highs = [(each.count, each.high) for each in self.limits if each.high is not None]
        for each in self.limits:
            if each.low > 1 and all(each.count(text) == count for text, count in _SENTENCES.items()):
                others = [(count, high) for count, high in highs if count is not each.count]
                least = each.low
                fit = (text for text in _NEXT if all(count(text * least) <= high for count, high in others))
                return each.count, least, next(fit, "") if others else ""
        return len, 0, ""

    def left(self, text: str) -> float:
        """Return how many more words (or other units) fit, minus those that required sentences still need."""
        count, low, sentence = self.further
        text += sentence and sentence * (low - count(text))
        highs = ((each.count, each.high) for each in self.limits if each.high is not None)
        return min((high - count(text) for count, high in highs), default=inf)

    def is_low(self, text: str) -> bool:
        """Return whether a text has fewer words (or other units) than a limit requires."""
        return any(each.count(text) < each.low for each in self.limits)

    def check(self) -> None:
        """Raise `Conflict` if the form demands a forbidden text, or more than fits into an answer."""
        if self.case not in ("", "upper", "lower"):
            raise ValueError(f"case is {self.case!r}, not 'upper' or 'lower'")
        if not all(map(str.strip, (*self.has, *self.lacks))):
            raise Conflict("a required or forbidden text is empty")
        layout = self.layout
        if self.in_case(layout.mark) != layout.mark or (self.case == "lower" and "ABC" in layout.slots):
            raise Conflict(f"a mark of the layout is not in {self.case} case")
        if layout.parts > MOST_PARTS or len(layout.slots) > MOST_PARTS:
            raise Conflict("the layout has too many parts for an answer")
        if self.pattern and (self != Form(pattern=self.pattern) or not pattern_of(self.pattern)):
            raise Conflict("a pattern must be ^…$, expressible as a grammar, and the only demand")
        given = " ".join(filter(None, [*self.has, self.opening, self.closing, self.postscript, layout.text]))
        clashes = [char for char in self.characters.without if char in given]
        clashes += [each for each in self.lacks if pattern_for(each.strip()).search(given)]
        if clashes:
            raise Conflict(f"{clashes[0]!r} is demanded and forbidden")
        if any(each.high is not None and each.count(given) > each.high for each in self.limits):
            raise Conflict("more is demanded than allowed")


def _one(first: T, second: T) -> T:
    if first and second and first != second:
        raise Conflict(f"{first!r} and {second!r} exclude each other")
    return first or second


def _both(first: tuple[Limit, ...], second: tuple[Limit, ...]) -> tuple[Limit, ...]:
    found: dict[Callable[[str], int], Limit] = {}
    for each in (*first, *second):
        other = found.get(each.count, Limit(each.count))
        low, highs = max(each.low, other.low), [h for h in (each.high, other.high) if h is not None]
        if highs and min(highs) < low:
            raise Conflict(f"at least {low} and at most {min(highs)} exclude each other")
        found[each.count] = Limit(each.count, low, min(highs, default=None))
    return tuple(found.values())


def _at_least(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    more = [text for text in dict.fromkeys(second) for _ in range(second.count(text) - first.count(text))]
    return (*first, *more)


def _laid_out(first: Layout, second: Layout) -> Layout:
    given = [(layout.parts, layout.more, layout.mark, layout.between) for layout in (first, second)]
    parts, more, mark, between = _one(*(each if each[0] else () for each in given)) or (0, False, "", "")
    start = _one(*(layout.first if layout.first[0] else () for layout in (first, second))) or (0, "")
    slots = _at_least(first.slots, second.slots)
    return Layout(first.title or second.title, parts, more, mark, between, start, slots)


def joined(forms: Iterable[tuple[str, Form]]) -> tuple[Form, tuple[str, ...]]:
    """Join the forms of checks. A form that conflicts with earlier forms is left out.

    Args:
        forms: The name and the form of each check.

    Returns:
        The joined form, and the names of the checks whose forms were joined.
    """
    form, names = Form(), []
    for name, each in forms:
        try:
            form = form & each
        except Conflict:
            continue
        names.append(name)
    return form, tuple(names)
