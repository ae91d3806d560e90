"""Server-sent events, as the streams of OpenAI-compatible servers use them.

Bytes go in as they arrive, cut anywhere; the data of whole events comes out. Lines end with LF, CRLF or CR,
and with nothing else: a raw U+2028 inside of JSON is not a line break, which is why this does not use httpx's
splitting into lines. Bytes that are not UTF-8 become surrogate escapes, because the rest of a character may
be in the next event (`halves`). Event names, ids and retry times are passed over: these streams give them no
meaning.
"""

from __future__ import annotations

import re

_LINE_END = re.compile(rb"\r\n|\n|\r")


class EventParser:
    """Cuts a stream of bytes into the data of its events."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[str]:
        """The data of the events that this piece completes."""
        buffer = self._rest + piece
        # A CR at the very end may be the first half of a CRLF, so its line waits for the next piece.
        whole = buffer[:-1] if buffer.endswith(b"\r") else buffer
        *lines, last = _LINE_END.split(whole)
        self._rest = last + buffer[len(whole) :]
        return self._events(lines)

    def close(self) -> list[str]:
        """The data of a last event whose empty line never came."""
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
