"""Server-sent events, as the streams of OpenAI-compatible servers use them.

Bytes go in, cut anywhere; the data of complete events comes out. Only LF, CRLF and CR end a line: httpx's
line splitting would also split at a raw U+2028 inside JSON. Invalid UTF-8 becomes surrogate escapes, because
the rest of a character may be in the next event (`halves`). Event names, ids and retry times are ignored.
"""

from __future__ import annotations

import re

_LINE_END = re.compile(rb"\r\n|\n|\r")


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
