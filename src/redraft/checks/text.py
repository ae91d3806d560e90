"""Checks of an answer's text: length, lines, case, phrases, beginning and end.

A line within a code fence, such as the comment `# x`, is not a bullet, item or heading. Later text never
changes whether a line is counted, so counts only grow.

Phrases match whole words (`steering.phrase`): `lacks:light` finds "Light" and "light's", but neither
"lighthouse" nor "light2". Case, the kind of apostrophe, spacing, Unicode normalisation, invisible characters
and Markdown emphasis around a word make no difference.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any, ClassVar, Literal, Self

import regex

from redraft.chain import Prompt, visible
from redraft.checks import pattern as patterns
from redraft.checks import segment
from redraft.checks.base import MOST_PLACES, Outcome, Prospect, failed, passed
from redraft.checks.json_reading import NotJson, read_json
from redraft.checks.kinds import Written
from redraft.checks.pattern import BadPattern, compiled, search
from redraft.checks.segment import line_of, sentences, settled, unix
from redraft.engines.steering.form import Form, Layout, Limit
from redraft.engines.steering.phrase import BEGINS, ENDS, pattern_for
from redraft.errors import CheckError, CheckSyntaxError

_FENCE = regex.compile(r"\s*(`{3,}|~{3,})(.*)")
_BULLET = regex.compile(r"\s*(?:[-*+–]\s+|[•‣◦▪●]\s*)(?=.*[^\s\-*_+–])")  # not a line such as `* * *`
_NUMBERED = regex.compile(r"\s*(?:\*\*|__)?\d{1,3}[.)](?:\*\*|__)?\s+\S")
_HEADING = regex.compile(r"\s*#{1,6}\s+\S")
_MARK = regex.compile(r"\s*(?:(?:[-*+–]|#{1,6}|(?:\*\*|__)?\d{1,3}[.)](?:\*\*|__)?)\s+|[•‣◦▪●]\s*)*")
_OTHER = {"uppercase": regex.compile(r"\p{Ll}+"), "lowercase": regex.compile(r"\p{Lu}+")}
"""For each check of case, a pattern of letters in the wrong case."""
_CASED = regex.compile(r"[\p{Ll}\p{Lu}]")
_SAYS = regex.compile(r"[\p{L}\p{N}]")
_MARKS = regex.compile(r"(?!-\Z)\s*\p{P}[\s\p{P}]*")  # only punctuation, such as `...`; a lone `-` is a sign


def bullets(text: str) -> int:
    """Count the lines that begin with a bullet: `•`, or one of `-`, `*`, `+` and `–` before a space."""
    return sum(bool(_BULLET.match(line)) for line in _outside_fences(text))


def items(text: str) -> int:
    """Count bullets and the lines that begin with a number: `1.` or `1)`."""
    return sum(bool(_BULLET.match(line) or _NUMBERED.match(line)) for line in _outside_fences(text))


def headings(text: str) -> int:
    """Count the lines that begin with one to six `#` and a space."""
    return sum(bool(_HEADING.match(line)) for line in _outside_fences(text))


def lines(text: str) -> int:
    """Count the lines that are not empty."""
    return sum(bool(line.strip()) for line in unix(text).split("\n"))


def _outside_fences(text: str) -> Iterator[str]:
    fence = ""
    for line in unix(text).split("\n"):
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence) and not mark[2].strip():
                fence = ""
        elif mark and "`" not in mark[2]:
            fence = mark[1]
        else:
            yield line


def count_sentences(text: str) -> int:
    """Count the sentences of a text."""
    return len(sentences(text))


COUNTERS: dict[str, Callable[[str], int]] = {
    "words": segment.count_words,
    "sentences": count_sentences,
    "characters": segment.count_characters,
    "paragraphs": lambda text: len(segment.paragraphs(text)),
    "lines": lines,
    "bullets": bullets,
    "items": items,
    "headings": headings,
}
"""Maps each unit of a `Count` to a function that counts the unit."""

LEAST: dict[str, Callable[[str], int]] = {**COUNTERS, "sentences": lambda text: len(sentences(settled(text)))}
"""For each unit, a function that returns the least count in any continuation of a text."""

WRITTEN = {
    "bullets": 'A bullet is a line that begins with "- ".',
    "items": 'An item is a line that begins with "- ", or with a number such as "1. ".',
    "headings": 'A heading is a line that begins with "# " or "## ".',
}
"""For each unit, a sentence that describes the notation."""

_NO_WORD = "The answer has no word."
PARTS = {"paragraphs": ("", "\n\n"), "lines": ("", "\n"), "bullets": ("- ", "\n"), "items": ("{}. ", "\n")}
"""Maps units to the prefix of each, and to the separator between two."""


@dataclass(frozen=True)
class Count:
    """`words<=50`, `words=10..20`: the answer has `low` to `high` units (`COUNTERS`). None sets no limit.

    If the answer is JSON with strings, only their text is counted, except for the unit `lines`.
    """

    unit: str
    low: int | None = None
    high: int | None = None

    @property
    def name(self) -> str:
        """The check as written: `words<=50`."""
        if self.low == self.high:
            return f"{self.unit}=={self.low}"
        if self.low is None:
            return f"{self.unit}<={self.high}"
        return f"{self.unit}>={self.low}" if self.high is None else f"{self.unit}={self.low}..{self.high}"

    @property
    def demand(self) -> str:
        """A sentence with the bounds: `Write at most 50 words.`"""
        only = self.high if self.low in (None, self.high) else self.low
        written = f" {WRITTEN[self.unit]}" if self.unit in WRITTEN and self.high != 0 else ""
        return f"Write {self._bounds()} {self.unit[:-1] if only == 1 else self.unit}.{written}"

    def _bounds(self) -> str:
        if self.low is None:
            return f"at most {self.high}"
        if self.high is None:
            return f"at least {self.low}"
        return f"exactly {self.low}" if self.low == self.high else f"{self.low} to {self.high}"

    @property
    def form(self) -> Form:
        """A `Form` that steers a model to an answer within the bounds."""
        limits = (Limit(COUNTERS[self.unit], self.low or 0, self.high),)
        if not self.low or self.unit not in PARTS:
            return Form(limits=limits)
        mark, between = PARTS[self.unit]
        layout = Layout(parts=self.low, more=self.low != self.high, mark=mark, between=between)
        return Form(limits=limits, layout=layout)

    def prefix(self, text: str) -> Prospect:
        """Return `lost` if the count is above the upper bound, except in JSON."""
        over = self.high is not None and LEAST[self.unit](text) > self.high
        return "lost" if over and not is_json(text) else "open"

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002  (every check takes the prompt)
        """Pass if the count is within the bounds."""
        apart = "" if self.unit == "characters" else "\n\n"
        count = COUNTERS[self.unit](answer if self.unit == "lines" else _prose(answer, apart))
        has = f"The answer has {count} {self.unit[:-1] if count == 1 else self.unit}"
        verb = "allowed" if self.low is None else "needed" if self.high is None else "wanted"
        bounds = f"{self._bounds()} are {verb}"
        if self.low is not None and count < self.low:
            written = f" {WRITTEN[self.unit]}" if self.unit in WRITTEN else ""
            few = f"{has}, and {bounds}: {self.low - count} too few.{written}"
            return failed(few, score=count / self.low)
        if self.high is not None and count > self.high:
            return failed(f"{has}, and {bounds}: {count - self.high} too many.", score=self.high / count)
        silent = self.low is None and self.high and not count and _MARKS.fullmatch(answer)
        return failed(_NO_WORD) if silent else passed(f"{has}.")


def _prose(answer: str, apart: str) -> str:
    if answer.lstrip()[:1] in ("{", "["):
        with suppress(NotJson):
            value, text = read_json(answer)
            return (apart.join(_strings(value)) if text == answer.strip() else "") or answer
    return answer


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        yield from chain.from_iterable(map(_strings, value.values() if isinstance(value, dict) else value))


@dataclass(frozen=True)
class Unique:
    """`unique`: no line with a letter or digit occurs twice.

    Case, spacing and the marks of lists and headings are ignored.
    """

    name: str = field(default="unique", init=False)
    demand: str = field(default="Write no line twice.", init=False, repr=False)

    def prefix(self, text: str) -> Prospect:
        """Return `lost` once a line has occurred twice."""
        return "lost" if next(_repeats(unix(text).rpartition("\n")[0]), None) else "open"

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002  (every check takes the prompt)
        """Pass if no line occurs twice. The score is 1 / (1 + repeats)."""
        if not (found := list(_repeats(answer))):
            return passed("No line occurs twice.")
        lines = [f'{again} ("{line[:40].rstrip()}", as line {first})' for first, again, line, _ in found[:3]]
        named, more = ", ".join(lines), f", and {len(found) - 3} more" if len(found) > 3 else ""
        one = len(found) == 1
        message = f"{'This line repeats' if one else 'These lines repeat'} an earlier one: {named}{more}."
        places = [place for *_, place in found] if len(unix(answer)) == len(answer) else []
        return failed(message, score=1 / (1 + len(found)), places=places)


@dataclass(frozen=True)
class Case:
    """`uppercase`: no letter is lowercase. `lowercase`: no letter is uppercase."""

    name: Literal["uppercase", "lowercase"]

    @property
    def demand(self) -> str:
        """A sentence that asks for uppercase or lowercase letters."""
        return f"Write in {'capital' if self.name == 'uppercase' else 'small'} letters only."

    @property
    def form(self) -> Form:
        """A `Form` that steers a model to uppercase letters only, or to lowercase letters only."""
        return Form(case="upper" if self.name == "uppercase" else "lower")

    def prefix(self, text: str) -> Prospect:
        """Return `lost` if a letter has the wrong case."""
        return "lost" if _OTHER[self.name].search(text) else "open"

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002  (every check takes the prompt)
        """Pass if no letter has the wrong case. The score is the share of letters in the right case."""
        places = [match.span() for match in _OTHER[self.name].finditer(answer)]
        if not places:
            return failed(_NO_WORD) if _MARKS.fullmatch(answer) else passed(f"All letters are {self.name}.")
        word = next(word for word in answer.split() if _OTHER[self.name].search(word))
        score = 1 - sum(end - begin for begin, end in places) / len(_CASED.findall(answer))
        return failed(f'"{word[:40]}" is not {self.name}.', score=score, places=places)


def _repeats(text: str) -> Iterator[tuple[int, int, str, tuple[int, int]]]:
    seen: dict[str, int] = {}
    begin = end = -1
    for number, line in enumerate(unix(text).split("\n"), start=1):
        begin, end = end + 1, end + 1 + len(line)
        bare = _MARK.sub("", line, count=1)
        said = " ".join(bare.casefold().split())
        if not _SAYS.search(said):
            continue
        first = seen.setdefault(said, number)
        if first != number:
            yield first, number, line.strip(), (end - len(bare), begin + len(line.rstrip()))


@dataclass(frozen=True)
class _Phrase:
    text: str
    part: bool = False  # whether the phrase may be a part of a word
    asks: ClassVar[str]

    @property
    def name(self) -> str:
        kind = type(self).__name__.lower()
        return f"{kind}{'[part]' * self.part}:{quoted(self.text, kind)}"

    @property
    def demand(self) -> str:
        return f"{self.asks.format(self.text)}{', alone or within a word' * self.part}."

    def _pattern(self, around: str = "{}") -> regex.Pattern[str]:
        text, wanted = plain(self.text).strip() or self.text, not isinstance(self, Lacks)
        return pattern_for(text, part=self.part, around=around, wanted=wanted)


class Contains(_Phrase):
    """`contains:TEXT`: the answer contains this word or phrase. `contains[part]:TEXT`: also within a word."""

    asks = 'Use "{}" in the answer'

    @property
    def form(self) -> Form:
        """A `Form` that steers a model to use the phrase."""
        return Form(has=(self.text,))

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002
        """Pass if the phrase is found."""
        readable = plain(answer)
        if found := self._pattern().search(readable):
            return passed(f'The answer contains "{self.text}" on line {line_of(readable, found.start())}.')
        return failed(f'The answer does not contain "{self.text}".')


class Lacks(_Phrase):
    """`lacks:TEXT`: the answer lacks this word or phrase. `lacks[part]:TEXT`: also as a part of a word."""

    asks = 'Do not use "{}" in the answer'

    @property
    def form(self) -> Form | None:
        """A `Form` that steers a model to avoid the phrase. With `part`, only for a mark such as `;`."""
        sign = self.text.strip()
        if len(sign) == 1 and not sign.isalnum():
            return Form(without=frozenset(sign))
        return None if self.part else Form(lacks=(self.text,))

    def prefix(self, text: str) -> Prospect:
        """Return `lost` once the phrase occurs."""
        return "lost" if self._pattern().search(plain(settled(text))) else "open"

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002
        """Pass if the phrase is not found. The score is 1 / (1 + occurrences)."""
        readable = plain(answer)
        places = [match.span() for match in self._pattern().finditer(readable)]
        if not places:
            word = "the word " * (self.text.isalpha() and not self.part)  # "refunds" may be there
            return passed(f'The answer does not contain {word}"{self.text}".')
        lines = list(dict.fromkeys(line_of(readable, begin) for begin, _ in places[:5]))
        where = f"on line{'s' if len(lines) > 1 else ''} {', '.join(map(str, lines))}"
        more = ", and more after that" if len(places) > 5 else ""
        times = "once" if len(places) == 1 else f"{len(places)} times"
        message = f'The answer contains "{self.text}" {times}, {where}{more}. It must not.'
        found = places if len(readable) == len(answer) else []  # otherwise, positions in the answer differ
        return failed(message, score=1 / (1 + len(places)), places=found)


class Starts(_Phrase):
    """`starts:TEXT`: the answer begins with this text."""

    asks = 'Begin the answer with "{}"'

    @property
    def form(self) -> Form:
        """A `Form` that steers a model to begin with the phrase."""
        return Form(opening=self.text)

    def prefix(self, text: str) -> Prospect:
        """Return `lost` once the text has as many words as the phrase, but does not begin with the phrase."""
        begins = plain(settled(text)).lstrip()
        enough = len(begins.split()) >= len(plain(self.text).split())
        return "lost" if enough and not self._pattern(BEGINS).search(begins) else "open"

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002
        """Pass if the stripped answer begins with the text."""
        if self._pattern(BEGINS).search(plain(answer)):
            return passed(f'The answer begins with "{self.text}".')
        begins = " ".join(answer.split()[:6])
        return failed(f'The answer begins with "{begins}" and not with "{self.text}".')


class Ends(_Phrase):
    """`ends:TEXT`: the answer ends with this text."""

    asks = 'End the answer with "{}"'

    @property
    def form(self) -> Form:
        """A `Form` that steers a model to end with the phrase."""
        return Form(closing=self.text)

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002
        """Pass if the stripped answer ends with the text."""
        if self._pattern(ENDS).search(plain(answer)):
            return passed(f'The answer ends with "{self.text}".')
        ends = " ".join(answer.split()[-6:])
        return failed(f'The answer ends with "{ends}" and not with "{self.text}".')


def phrase_of(written: Written) -> Contains | Lacks | Starts | Ends | Matches:
    """Parse `contains`, `lacks`, `starts` or `ends`. Quotation marks around the text are removed.

    Raises:
        CheckSyntaxError: The option is unknown, or the text looks like a list.
    """
    kind, text = written.kind, unwrapped(written.text)
    if (kind, written.option) == ("lacks", "regex"):
        return Matches.of(written.text, absent=True)
    if written.option not in (None, "part"):
        raise written.error(f"{kind}[{written.option}]: write {kind}[part]:TEXT for a part of a word")
    if text == written.text and kind in ("contains", "lacks") and _is_list(text, kind):
        first = regex.split(r"\s*[,;|、]\s*", text)[0]
        hint = f"For several words, write a check for each: {kind}:{unwrapped(first)}. For the whole text,"
        raise CheckSyntaxError(f"{kind}:{text} looks like a list.", hint=f'{hint} quote it: {kind}:"{text}"')
    maker = next(each for each in (Contains, Lacks, Starts, Ends) if each.__name__.lower() == kind)
    return maker(text, part=written.option == "part")


_QUOTES = [(pair[0], pair[1]) for pair in ('""', "''", "“”", "‘’", "„“", "«»", "「」")]


def unwrapped(text: str) -> str:
    """Remove quotation marks around a whole phrase. `"a", "b"` stays unchanged."""
    for first, last in _QUOTES:
        inside = text[1:-1]
        one = not {first, last} & {*inside} or (inside[0] == first and inside[-1] == last and len(inside) > 1)
        if len(text) > 2 and text[0] == first and text[-1] == last and one:
            return inside
    return text


_QUOTED_LIST = regex.compile(r"""(["'“‘]).+?["'”’](?:\s*[,;、]\s*(["'“‘]).+?["'”’])+""")
_WORD_LIST = regex.compile(r"(?![\d.,]+\Z)[\w'’.+#-]+(?:(?:[,;|、][\w'’.+#-]+)+|(?:[,;] [\w'’.+#-]+){2,})")

_TWO = regex.compile(r"[\w'’.+#-]+, [\w'’.+#-]+")


def _is_list(text: str, kind: str) -> bool:
    """Return whether a text looks like a list, not a phrase: `a,b`, `"a", "b"` or `a, b, c`.

    Two words are a phrase for `contains` (`Hello, world`), but a list for `lacks` (`Tom, Ann`).
    """
    return any(each.fullmatch(text) for each in (_QUOTED_LIST, _WORD_LIST, *[_TWO] * (kind == "lacks")))


def quoted(text: str, kind: str) -> str:
    """Return a phrase as written in a check's short form, with quotation marks if necessary."""
    free = (pair for pair in _QUOTES if not {*pair} & {*text})
    first, last = next(free, _QUOTES[0]) if unwrapped(text) != text or _is_list(text, kind) else ("", "")
    return f"{first}{text}{last}"


_ONE = str.maketrans(dict.fromkeys("’‘ʼʻ′", "'") | dict.fromkeys("‐‑", "-"))


def plain(text: str) -> str:
    """Normalise a text's characters, and replace JSON escapes, so that phrases can be found."""
    text = visible(unescaped(text))
    if not text.isascii():  # superscripts are not changed: "light²" and "light™" contain the word "light"
        kept = (
            char
            if char in "™℠" or (unicodedata.category(char) == "No" and not "₀" <= char <= "₉")
            else unicodedata.normalize("NFKC", char)
            for char in unicodedata.normalize("NFC", text.translate(_ONE))
        )
        text = unicodedata.normalize("NFC", "".join(kept))
    return text


_JSON = regex.compile(r'\A\s*(?:```\w*\s*)?[\[{]\s*["\[{]|"\s*:')
_ESCAPE = regex.compile(r"\\(?:u([\da-fA-F]{4})|(.))")


def unescaped(text: str) -> str:
    """Decode the escapes in a JSON text. Return other texts unchanged."""
    return _ESCAPE.sub(_said, text) if "\\" in text and is_json(text) else text


@lru_cache(maxsize=16)
def is_json(text: str) -> bool:
    """Return whether a text looks like JSON."""
    return _JSON.search(text) is not None


def _said(escape: regex.Match[str]) -> str:
    if escape[1]:
        char = chr(int(escape[1], 16))
        return " " if "\ud800" <= char <= "\udfff" else char
    return " \n" if escape[2] in "nrtbf" else escape[2]


@dataclass(frozen=True)
class Matches:
    """`matches:REGEX`: the regular expression, in the syntax of `regex`, is found in the answer.

    If `absent` is True, the check is `lacks[regex]:REGEX`: the expression is not found in the answer.
    """

    pattern: str
    absent: bool = False

    @classmethod
    def of(cls, pattern: str, *, absent: bool = False) -> Self:
        """Make the check. Raise `CheckSyntaxError` if the pattern is invalid."""
        try:
            compiled(pattern)
        except BadPattern as problem:
            message = f"{cls(pattern, absent).name:.200} is not usable: {problem}."
            hint = r"Escape special characters with a backslash: matches:\(done\)"
            raise CheckSyntaxError(message, hint=hint) from None
        return cls(pattern, absent)

    @property
    def name(self) -> str:
        """The check as written: `matches:REGEX`."""
        return f"{'lacks[regex]' if self.absent else 'matches'}:{self.pattern}"

    @property
    def demand(self) -> str:
        """A sentence with the pattern, which must match or, if `absent`, must not match."""
        some = "No part of the answer may" if self.absent else "Some part of the answer has to"
        return f"{some} match the regular expression {self.pattern}"

    @property
    def form(self) -> Form | None:
        """A `Form` that steers a model to match a `^…$` pattern, if a grammar can express the pattern."""
        return None if self.absent else Form(pattern=self.pattern)

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002
        """Search for the pattern. If `absent`, the score is 1 / (1 + matches)."""
        try:
            found = search(self.pattern, answer, most=MOST_PLACES + 1 if self.absent else 1)
        except TimeoutError:
            raise CheckError(
                f"the check {self.name!r} was stopped after {patterns.REGEX_SECONDS:g} s"
                f" on an answer of {len(answer)} characters.",
                hint=patterns.BACKTRACKS,
            ) from None
        if not found:
            message = f"Nothing in the answer matches the pattern {self.pattern}"
            return passed(message) if self.absent else failed(message)
        where = f"on line {line_of(answer, found[0].start())}"
        if not self.absent:
            return passed(f"The pattern {self.pattern} is found {where}.")
        places, said = [match.span() for match in found], " ".join(found[0][0].split())
        message = f'The answer has "{said:.60}" {where}. Nothing in it may match the pattern {self.pattern}'
        return failed(message, score=1 / (1 + len(places)), places=places)
