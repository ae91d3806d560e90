"""Measure hundreds of streams at once, with a scripted engine that writes without delay."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from measure import Figure, Goal, Row
from processor import resident
from serve_client import Address, chat
from serve_server import Serving, serving

PORT = 8392
WORD, WORDS = " rain", 200  # the words of an answer. Each is a token, and a delta of the engine.

MEASURE = "scripted engine, {streams} concurrent streams, {seconds:g} s: errors, tokens/s, memory growth"
HOW = (
    f"The engine writes a reply of {WORDS} words with no delay; each word is a delta, counts as one token, "
    "and is one event of the stream, so nothing is joined. Each connection asks again as soon as its answer "
    "has ended. The client is a process on the same cores. An error is an answer without all its words, a "
    "status other than 200, or a lost connection. The growth of memory is the server's peak during the load "
    "minus its memory before the first request."
)
END = b"\r\n0\r\n\r\n"


@dataclass
class Count:
    until: float  # when the load ends, on the loop's clock
    tokens: int = 0
    events: int = 0
    answers: int = 0
    errors: int = 0
    peaks: list[float] = field(default_factory=list)


class Stream(asyncio.Protocol):
    def __init__(self, request: bytes, count: Count) -> None:
        self._request, self._count = request, count
        self._tail, self._words, self._going = b"", 0, True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        word = WORD.strip().encode()
        if not self._tail and not data.startswith(b"HTTP/1.1 200"):
            self._count.errors += 1
        found = (self._tail[1 - len(word) :] + data).count(word)
        self._words += found
        self._count.tokens += found
        self._count.events += data.count(b"data: {")
        self._tail = (self._tail + data)[-len(END) :]
        if self._tail == END:
            self._count.answers += 1
            self._count.errors += self._words != WORDS
            self._tail, self._words = b"", 0
            self._going = asyncio.get_running_loop().time() < self._count.until
            self._transport.write(self._request) if self._going else self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._count.errors += self._going and asyncio.get_running_loop().time() < self._count.until


def measure(streams: int, seconds: float) -> Row:
    with tempfile.TemporaryDirectory() as name:
        script = Path(name) / "script.jsonl"
        script.write_text(f'{{"settings": {{"chunk": {len(WORD)}}}}}\n{json.dumps(WORD * WORDS)}\n')
        with serving("--model", f"script:{script}", "--parallel", str(streams), port=PORT) as server:
            before = resident(server.pid)
            start = time.perf_counter()
            count = asyncio.run(_load(server, streams, seconds))
            took = time.perf_counter() - start
    told = f"{count.events / took:,.0f} events/s, {count.answers:,} whole answers, {count.tokens:,} tokens"
    figures = (
        Figure("errors", (float(count.errors),), "errors", Goal("≤", 0)),
        Figure("rate", (count.tokens / took,), "tokens/s", Goal("≥", 10_000), told),
        Figure("memory growth", (max(count.peaks) - before,), "MB", Goal("≤", 50), f"from {before:.0f} MB"),
    )
    return Row(MEASURE.format(streams=streams, seconds=seconds), HOW, figures)


async def _load(server: Serving, streams: int, seconds: float) -> Count:
    loop = asyncio.get_running_loop()
    count = Count(loop.time() + seconds)
    request = Address(server.port).request(
        chat("Describe it.", 10 * WORDS * len(WORD), "script"), close=False
    )
    await asyncio.gather(
        *(
            loop.create_connection(lambda: Stream(request, count), "127.0.0.1", server.port)
            for _ in range(streams)
        )
    )
    while loop.time() < count.until:
        count.peaks.append(resident(server.pid))
        await asyncio.sleep(0.5)
    return count
