"""A text in progress. Text that has not been sent to the reader can still be removed."""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache

import regex

from redraft.chain import loop
from redraft.engines.base import Delta, Tokens

STOPS = ".!?。！？…"
CLOSERS = "\"'”’)*_]»」』"
_END = re.compile(
    rf"(?<![{STOPS}])[{STOPS}]++[{re.escape(CLOSERS)}]*(?=\s|\Z)|[。！？]|(?<=[^\s,:;，：；、-])(?=[ \t]*\n)"
)
_NO_END = re.compile(
    r"(?:^|[\s(\"'*])(?:[A-Z]|\d{1,3}|[A-Za-z](?:\.[A-Za-z])+"
    r"|Mr|Mrs|Ms|Dr|Prof|Sr|Jr|St|vs|No|Fig|approx|etc)\.\Z|```\w+\Z|^```\Z"  # or the fence of a code block
)
_MARK = re.compile(r"\s*(?:(?:[-*+•>]|#{1,6}|\d{1,3}[.)])\s+)*")  # markers of an item, heading or quotation
_WORD = re.compile(r"\w+,? ")
LONG = re.compile(r"(?:[^\W\d_](?:[^\w\n]|[\d_])*+){15}")  # a sentence too long to be repeated on purpose
_LETTERS = regex.compile(r"\A[\p{L}\p{M}\p{N}]+")
_WIDE = "\u2e80"  # the first character of the scripts without spaces
STRING = re.compile(r'"(?:[^"\\]|\\.)*+"(\s*:)?')  # a string of JSON; a colon follows a name
RUN = re.compile(r"([^\w\s.=*_-])\1{7,}\Z")  # a punctuation mark or emoji, eight times or more
CLOSING = {"{": "}", "[": "]"}
_BRACKET = re.compile(r"[\[\]{}]")
_PLACE = re.compile(r"[\s,]|(?<!\w)\Z")  # after a word
_ENDED = re.compile(rf"[{STOPS}][{re.escape(CLOSERS)}]*\Z|[]*_'’»」』]\Z|\A[\"“(]")  # or a quotation
_LONE = re.compile(r"(?:1[.)]|[-*•]) .*\Z")
_TITLE = 6  # words; a longer last line is a sentence
_ENDINGS = f"{STOPS}।॥۔؟"  # marks that end a sentence, in other scripts too
_LEFT = 8  # a JSON string this many characters short of its bound may have been cut
_LOOPED = re.compile(r"(?=.{30})(.{1,60}?)\1{2,}\Z", re.DOTALL)  # the same text three times or more
_SEEN = 1000  # characters that are searched for a repeated sentence


class Draft:
    """The text so far, in pieces with tokens. The first `sent` characters were sent to the reader."""

    def __init__(
        self,
        hand_on: Callable[[Delta], None],
        encode: Callable[[str], Awaitable[Tokens]],
        in_case: Callable[[str], str],
    ) -> None:
        self._hand_on, self._encode, self._in_case = hand_on, encode, in_case
        self.pieces: list[Delta] = []
        self._handed = 0  # number of pieces that were sent
        self._given, self._due = -1, ""  # the end of a given text, and its trailing spaces
        self.text, self.sent = "", 0

    def __len__(self) -> int:
        return len(self.text)

    def give(self, text: str) -> None:
        """Append a text that no model wrote. A space at its end is held back until the next piece."""
        if bare := text.rstrip(" "):
            self.add(Delta(text=bare))
        if text:
            self._given, self._due = len(self), text[len(bare) :]

    def add(self, delta: Delta) -> None:
        """Append a piece from the model. Letters that would extend a word appended by `give` are dropped."""
        text = delta.text
        if text and len(self) == self._given:
            if self._due:
                text = text if text[0].isspace() else f" {text}"
            elif self.text.endswith("\n"):
                text = text.removeprefix(" ")
            elif text[0] < _WIDE and self.text[-1:].isalnum():  # the piece would extend the given word
                text = _LETTERS.sub("", text)
        if not text and (delta.text or delta.finish):  # for example, the token that ends an answer
            return
        piece = Delta(self._in_case(text), unsteered=delta.unsteered)
        if piece.text == delta.text:
            piece = replace(piece, tokens=delta.tokens, logprobs=delta.logprobs, likeliest=delta.likeliest)
        self.pieces.append(piece)
        self.text += piece.text

    def give_word(self, text: str) -> None:
        """Append a text that begins with a word. If needed, put a space before it and capitalise the word."""
        before, is_link = self.text, re.match(r"\S+(?:://|[.@])\w", text)
        if not is_link and (not before or before.endswith("\n") or self.is_whole):
            text = text[0].upper() + text[1:]
        self.give(text if not before or re.search(r"[\n(“]\Z|(?:^|\s)[\"']\Z", before) else f" {text}")

    def put(self, place: int, pieces: Sequence[Delta]) -> None:
        """Replace the text from index `place` on with the given pieces."""
        self.cut(place)
        for piece in pieces:
            self.add(piece)

    def cut(self, place: int) -> None:
        """Remove the text from index `place` on, except text that was sent."""
        if place >= len(self):
            return
        kept: list[Delta] = []
        left = place = max(place, self.sent)
        for piece in self.pieces:
            if len(piece.text) > left:
                kept += [Delta(text=piece.text[:left])] * bool(left)
                break
            kept.append(piece)
            left -= len(piece.text)
        self.pieces, self.text = kept, self.text[:place]
        self._given = self._given if self._given <= place else -1

    def token_at(self, place: int) -> frozenset[int]:
        """Return a set with the first token of the piece at index `place`; empty if unknown."""
        end = 0
        for piece in self.pieces:
            end += len(piece.text)
            if end > place:
                return frozenset(piece.tokens[:1])
        return frozenset()

    async def release(self, place: int) -> None:
        """Send the reader all pieces that end at or before index `place`."""
        for piece in self.pieces[self._handed :]:
            if self.sent + len(piece.text) > place:
                return
            tokens = piece.tokens or (await self._encode(piece.text) if piece.text else ())
            self._handed, self.sent = self._handed + 1, self.sent + len(piece.text)
            self._hand_on(replace(piece, tokens=tokens))

    def ends(self, begin: int, *, whole: bool = False) -> Sequence[int]:
        """Return the indices where sentences and lines end after `begin` (see `ends_of`)."""
        return ends_of(self.text, begin, whole=whole)

    @property
    def open_string(self) -> int:
        """The index at which the open string of cut JSON begins, or the text's length if there is none."""
        end = max((found.end() for found in STRING.finditer(self.text)), default=0)
        begin = self.text.find('"', end)
        return len(self) if begin < 0 else begin

    @property
    def unlooped(self) -> int:
        """The index where the open string of cut JSON begins to repeat a phrase, or the text's length."""
        found = _LOOPED.search(self.text, max(self.open_string, len(self) - 200))
        return found.end(1) if found else len(self)

    @property
    def is_whole(self) -> bool:
        """Whether the text ends at the end of a sentence."""
        return len(self) in self.ends(max(len(self) - 200, 0), whole=True)

    @property
    def is_answer(self) -> bool:
        """Whether the text ends with a sentence or is as short as a title. False for a list of one item."""
        return (self.is_whole or len(self.text.split()) <= _TITLE) and not _LONE.match(self.text)

    @property
    def is_open(self) -> bool:
        """Whether the last line begins a sentence and leaves it unfinished."""
        before, _, last = self.text.rpartition("\n")
        apart = before.rstrip()[-1:] in STOPS or before.endswith("\n")
        return apart and len(last.split()) > _TITLE and not _ENDED.search(last)

    @property
    def last(self) -> int:
        """The index at which the last sentence begins."""
        at = max(len(self) - 1, 0)
        return segment_of(self.text, at, at, led=False)[0]

    def repeats(self, begin: int, *, whole: bool) -> int | None:
        """Return the index where a sentence or a looping phrase is first repeated, or None."""
        begin = max(begin, len(self) - _SEEN)
        if self.text.count("```") % 2:  # code repeats lines
            return None
        *_, first, second, third = [begin, begin, begin, *self.ends(begin, whole=whole)]
        last = self.text[second:third].strip()
        if second >= self.sent and self.text[first:second].strip() == last and LONG.search(last):
            return second
        kept = max(begin, self.sent)
        again = loop(self.text[kept:])
        return None if again is None else kept + again


@lru_cache(maxsize=4)  # `segment_of` needs it for each place in a line
def ends_of(text: str, begin: int = 0, *, whole: bool = True) -> Sequence[int]:
    """Return the indices where sentences and lines end after `begin`; with `whole`, also the text's end."""
    found: list[int] = []
    for match in _END.finditer(text, begin):
        end = match.end()
        if end == len(text) and not whole and text[end - 1] not in "。！？":
            break
        if end > max([begin, *found[-1:]]) and not _NO_END.search(text, max(0, end - 12), end):
            found.append(end)
    return found


def cut_texts(text: str, schema: str) -> tuple[list[tuple[int, int, bool]], int]:
    """Return the JSON strings that seem cut, and an index before which no string was cut.

    A string that does not end with a sentence seems cut if it is about as long as a `maxLength`, or if it is
    prose (five words or more) and ends with a space or comma. For each, return its start, its end, and
    whether it is prose.
    """
    # Prose that was cut is almost always longer than a minLength of one digit, and has no `format`.
    free, formats = not re.search(r'"(pattern|minLength)":(?! \d\b)', schema), '"format":' in schema
    bounds = [int(found) for found in re.findall(r'"maxLength": (\d+)', schema) if free]
    cut = list[tuple[int, int, bool]]()
    for found in STRING.finditer(text):
        length, prose = len(found[0]) - 2, found[0].count(" ") > 3
        whole = found[0].rstrip(f"{CLOSERS}\\")[-1:] in _ENDINGS
        if whole or found[1] or found[0] in schema or (formats and not prose):
            continue
        if (free and prose and found[0][-2] in " ,") or any(0 <= bound - length < _LEFT for bound in bounds):
            cut.append((*found.span(), prose))
    begin = cut[0][0] if cut else text.rfind('"')
    return cut, begin + min(bounds, default=2 * len(text)) // 2


def closed(text: str, begin: int) -> tuple[int, str] | None:
    """Return the last index after `begin` where JSON can be cut, and the closing marks to add; or None."""
    text = RUN.sub(r"\1", text)
    for found in reversed([*_PLACE.finditer(text, begin)]):
        marks, (outside, quote, _) = "", STRING.sub("", text[: found.start()]).partition('"')
        for mark in _BRACKET.findall(outside):
            marks = CLOSING[mark] + marks if mark in CLOSING else marks[1:]
        with suppress(ValueError):
            json.loads(text[: found.start()] + quote + marks)
            return found.start(), quote + marks
    return None


def marked(text: str, *, capitals: bool, count: int) -> str:
    """Put a text's longest words in capitals or stars, so that the text has `count` such words."""
    has = re.findall(r"\b[A-Z]{2,}\b" if capitals else r"\*[^\n*]+\*", text)
    words = dict.fromkeys(re.findall(r"(?<![\w*])[^\W\d_]{4,}(?![\w*])", text))
    plain = sorted((word for word in words if not (capitals and word.isupper())), key=len, reverse=True)
    for word in plain[: max(count - len(has), 0)]:
        text = re.sub(rf"(?<![\w*]){word}(?![\w*])", word.upper() if capitals else f"*{word}*", text, count=1)
    return text


def segment_of(text: str, begin: int, end: int, *, led: bool = True) -> tuple[int, int]:
    """Return the begin and end of the sentence, list item, line or table cell around a range.

    A marker, such as `-` or `#`, is left out. With `led`, so is a line's first word before the range.
    """
    start, stop = text.rfind("\n", 0, begin) + 1, text.find("\n", end)
    stop = max(len(text[: None if stop < 0 else stop].rstrip()), end)
    if text[start:begin].lstrip().startswith("|") and (bar := text.find("|", end, stop)) >= 0:
        cell = text[text.rfind("|", start, begin) + 1 : bar]
        return bar - len(cell.lstrip()), bar - len(cell) + len(cell.rstrip())
    ends = ends_of(text[start:stop])
    passed, behind = bisect_right(ends, begin - start), bisect_left(ends, end - start)
    first = start + ends[passed - 1] if passed else start
    mark = _MARK.match(text, first)
    # A model that continues from an empty line might end the answer there.
    word = _WORD.match(text, mark.end()) if led and mark and first == start else None
    first = word.end() if word and word.end() <= begin else min(mark.end() if mark else first, begin)
    return first, start + ends[behind] if behind < len(ends) else stop
