"""Collect the text of a paragraph, with spaces and marks where markdown needs them.

Spaces and opening marks are held back until more text comes. So no mark is next to a space or around nothing,
and no paragraph begins or ends with a space.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from redraft.collect.clean.html.tags import WHITE, decoded

_BLANKS = re.compile(r"[ \t\r\f\xa0]{2,}|[\t\r\f\xa0]")
_LINES = re.compile(r" ?\n[ \n]*")
_GAPS = ("", " ", "\n", "\n\n")


class Mark(NamedTuple):
    """The texts before and after marked text, such as `**` or the two halves of a link."""

    kind: str
    begin: str
    end: str


class Line:
    """A paragraph.

    Attributes:
        flat: Line breaks become spaces, as in headings and cells.
        parts: The text so far.
    """

    def __init__(self) -> None:
        self.flat = False
        self.parts: list[str] = []
        self._gap = 0  # of _GAPS
        self._broken = False
        self._open: list[Mark] = []
        self._waiting: list[Mark] = []

    def text(self, source: str) -> None:
        """Add text of the page's source: decode entities, and collapse white space."""
        if source == "\n":  # the most frequent text between tags
            self._gap = max(self._gap, 2)
            return
        text = decoded(source)
        rest = text.lstrip(WHITE)
        if not rest:
            self._widen(text)
            return
        begin = len(text) - len(rest)
        if begin:
            self._widen(text[:begin])
        core = rest.rstrip(WHITE)
        end = begin + len(core)
        if "  " in core or not core.isprintable():
            core = _BLANKS.sub(" ", core)
        self.write(_LINES.sub(self._break, core) if "\n" in core else core)
        if end < len(text):
            self._widen(text[end:])

    def write(self, text: str) -> None:
        """Add unchanged text after the held-back spaces and marks."""
        if self.parts and self._gap:
            self.parts.append(" " if self.flat else _GAPS[self._gap])
        self._gap, self._broken = 0, False
        if self._waiting:
            self.parts += [mark.begin for mark in self._waiting]
            self._open += self._waiting
            self._waiting = []
        self.parts.append(text)

    def line_break(self) -> None:
        """Add a `<br>`. Two of them are an empty line."""
        self._gap = 3 if self._broken else max(self._gap, 2)
        self._broken = True

    def begin(self, mark: Mark) -> None:
        """Begin a mark unless one of its kind is open."""
        if all(mark.kind != other.kind for other in (*self._open, *self._waiting)):
            self._waiting.append(mark)

    def finish(self, kind: str) -> None:
        """End a mark. Marks that began after it end too, and begin again."""
        if all(mark.kind != kind for mark in self._open):
            self._waiting = [mark for mark in self._waiting if mark.kind != kind]
            return
        again: list[Mark] = []
        while (mark := self._open.pop()).kind != kind:
            self.parts.append(mark.end)
            again.insert(0, mark)
        self.parts.append(mark.end)
        self._waiting = again + self._waiting

    def take(self) -> str:
        """End the paragraph and return its text. Open marks end with it, and begin again in the next one."""
        self._gap, self._broken = 0, False
        if not self.parts:
            return ""
        if self._open:
            self.parts += [mark.end for mark in reversed(self._open)]
            self._waiting, self._open = self._open + self._waiting, []
        text = "".join(self.parts)
        self.parts = []
        return text

    def _widen(self, blanks: str) -> None:
        if blanks:
            self._gap = max(self._gap, 1 + min(blanks.count("\n"), 2))

    def _break(self, found: re.Match[str]) -> str:
        return " " if self.flat else _GAPS[1 + min(found[0].count("\n"), 2)]
