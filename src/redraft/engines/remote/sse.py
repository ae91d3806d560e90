r"""Server-sent events of OpenAI-compatible servers, and characters that are split between two events.

Bytes go in, cut anywhere; the data of complete events comes out. Only LF, CRLF and CR end a line: httpx's
line splitting would also split at a raw U+2028 inside JSON. Invalid UTF-8 becomes surrogate escapes, because
the rest of a character may be in the next event. Event names, ids and retry times are ignored.

A server that cuts its text by UTF-16 units sends 😀 as `\ud83d` in one delta and `\ude00` in the next. One
that cuts by bytes sends incomplete UTF-8, which is read as Python's surrogate escapes, U+DC80 to U+DCFF.
"""

from __future__ import annotations

import codecs
import re

_LINE_END = re.compile(rb"\r\n|\n|\r")
_HALF = re.compile("[\ud800-\udfff]")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_BYTES = re.compile("[\udc80-\udcff]+")
_LAST = re.compile("(?:[\ud800-\udbff]|[\udc80-\udcff]+)\\Z")


class EventParser:
    """Splits a stream of bytes into the data of its events."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[str]:
        """Return the data of the events that this piece completes."""
        buffer = self._rest + piece
        # A CR at the end may be half of a CRLF, so its line waits for the next piece.
        whole = buffer[:-1] if buffer.endswith(b"\r") else buffer
        *lines, last = _LINE_END.split(whole)
        self._rest = last + buffer[len(whole) :]
        return self._events(lines)

    def close(self) -> list[str]:
        """Return the data of a last event without its empty line."""
        lines = [*_LINE_END.split(self._rest), b""]
        self._rest = b""
        return self._events(lines)

    def _events(self, lines: list[bytes]) -> list[str]:
        events = []
        for line in lines:
            if not line and self._data:
                events.append(b"\n".join(self._data).decode("utf-8", errors="surrogateescape"))
                self._data.clear()
            name, _, value = line.removeprefix(b"\xef\xbb\xbf").partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
        return events


class Halves:
    """Joins the split characters of one stream."""

    def __init__(self) -> None:
        self._held = ""

    def add(self, text: str) -> str:
        """Return the complete text so far; half a character at the end is held back."""
        text, self._held = self._held + text, ""
        if text.isascii() or not _HALF.search(text):
            return text
        text = _PAIR.sub(_joined, text)
        last = _LAST.search(text)
        sure = len(text) - (_open(last[0]) if last else 0)
        self._held = text[sure:]
        return whole(text[:sure])

    def end(self) -> str:
        """Return a replacement character if half a character is left."""
        text, self._held = self._held, ""
        return whole(text)


def _joined(pair: re.Match[str]) -> str:
    return pair[0].encode("utf-16", "surrogatepass").decode("utf-16")


def _open(last: str) -> int:
    """Return how many of the last halves later text may complete."""
    if last < "\udc00":
        return len(last)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(last.encode("utf-8", "surrogateescape"))
    return len(decoder.getstate()[0])


def whole(text: str) -> str:
    """Decode escaped bytes, and replace each lone half by U+FFFD."""
    text = _BYTES.sub(lambda run: run[0].encode("utf-8", "surrogateescape").decode("utf-8", "replace"), text)
    return _HALF.sub("\ufffd", text)
