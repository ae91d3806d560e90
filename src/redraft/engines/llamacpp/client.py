"""Send requests to the llama.cpp process.

The HTTP client is minimal, for one known server on 127.0.0.1: a general client takes more time for a token
than this whole module. Each request has its own connection, so that closing it cancels the work, and so that
nothing is tied to an event loop. `engine` knows what the requests mean.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from redraft.engines.process import ModelProcess

_REASON = re.compile(r"(?:error loading model|\bE srv .*?init: init): (.+)")


class ChildRefusal(Exception):
    """A reply with another status than 200, with its error object."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(str(error.get("message", error)))
        self.status = status
        self.error = error


class Child(ModelProcess):
    """A running llama.cpp process. Make one with `start`."""

    module = "redraft.engines.llamacpp.child"
    library = "llama.cpp"
    extra = "local"
    hint = "Check the file with its sha256, try a smaller --ctx, or --gpu-layers 0."

    def _opened(self, reply: Mapping[str, Any]) -> None:
        address = urlsplit(reply["address"])
        self._host, self._port = str(address.hostname), int(address.port or 0)

    def _reason(self, error: str) -> str:
        found = _REASON.search(self._last_words())
        return found[1].strip() if found else error

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """Send JSON and return the JSON of the reply."""
        async with self._exchange(path, body) as reader:
            return json.loads(await reader.read())

    async def events(self, path: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Send JSON and yield the objects of the event stream. Closing the stream cancels the work."""
        async with self._exchange(path, body) as reader:
            rest = b""
            while piece := await _chunk(reader):
                *events, rest = (rest + piece).split(b"\n\n")
                for event in events:
                    if event.startswith(b"data: {"):
                        yield json.loads(event[6:])

    @asynccontextmanager
    async def _exchange(self, path: str, body: dict[str, Any]) -> AsyncIterator[asyncio.StreamReader]:
        if self._closed:
            raise self._was_closed()
        content = json.dumps(body).encode()
        try:
            async with _connection(self._host, self._port) as (reader, writer):
                head = (
                    f"POST {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nConnection: close\r\n"
                    f"Authorization: Bearer {self._key}\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
                )
                writer.write(head.encode() + content)
                answer = (await reader.readuntil(b"\r\n\r\n")).lower()
                status = int(answer.split(None, 2)[1])
                if status != 200:
                    chunked = b"\r\ntransfer-encoding: chunked" in answer
                    raw = b"" if chunked else await reader.read()
                    while chunked and (piece := await _chunk(reader)):
                        raw += piece
                    try:
                        refused = error_of(json.loads(raw))
                    except (ValueError, KeyError, TypeError):
                        refused = {"message": raw.decode("utf-8", "replace")[:500]}
                    raise ChildRefusal(status, refused)
                yield reader
        except (OSError, EOFError) as error:
            if self._closed:
                raise self._was_closed() from None
            raise await asyncio.to_thread(self._crash) from error


@asynccontextmanager
async def _connection(
    host: str, port: int
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _chunk(reader: asyncio.StreamReader) -> bytes:
    size = int(await reader.readuntil(b"\r\n"), 16)
    return (await reader.readexactly(size + 2))[:-2]


def error_of(record: dict[str, Any]) -> dict[str, Any]:
    """Return the `error` of a record. It has a `message`, of the whole error if the server gave none."""
    error = record["error"]
    return {"message": str(error), **(error if isinstance(error, dict) else {})}
