"""Measure a server under a mixed load for a long time: wrong replies, and the growth of memory."""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

from measure import Figure, Goal, Row
from processor import family, resident
from serve_client import CHAT, Address, chat, events
from serve_server import Serving, serving

PORT = 8394
PAUSE = 0.02  # seconds between two requests of a worker

WARM_UP = 0.2
"""The share of the time after which memory must be flat, because all caches are full."""

MEASURE = "a soak of {seconds:g} s: wrong replies, and memory"
HOW = (
    "Workers ask without a break: streamed chats, chats that are revised, completions, responses, streams "
    "that are closed after three pieces, requests with eight kinds of faults, bytes that are not HTTP, and "
    "the default model through llama.cpp. A reply is wrong if it is not the one that belongs to its "
    "request. Memory is read every second; growth is from the mean of the tenth after the warm-up (a fifth "
    "of the time) to the mean of the last tenth. One of the faults is a body of 9 MB, which comes and goes: "
    "{most} MB are flat."
)
LONG, SHORT = "Rain is water, and it is wet, and it is cold. " * 8, "Rain is water."
MOST = 8

FAULTS: tuple[tuple[bytes, bytes], ...] = (
    (b"{", b"400"),
    (b'{"model": "none", "messages": [{"role": "user", "content": "Hi."}]}', b"404"),
    (b'{"model": "plain", "messages": []}', b"400"),
    (b'{"model": "plain", "messages": [{"role": "user", "content": "Hi."}], "temprature": 0}', b"400"),
    (b'{"model": "plain", "messages": [{"role": "user", "content": "Hi."}], "n": -1}', b"400"),
    (b"\xff\xfe", b"400"),
    (b"[" * 10_000, b"400"),
    (b"x" * (9 << 20), b"413"),
)
"""Faulty bodies, and the status that the server should give each."""


class Soak:
    def __init__(self, address: Address, until: float) -> None:
        self._address, self._until = address, until
        self.replies: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()

    async def run(self) -> None:
        kinds: list[Callable[[], Coroutine[Any, Any, bool]]] = [
            *(self.stream, self.stream, self.revised, self.completion, self.response),
            *(self.cut, self.cut, self.fault, self.garbage, self.default),
        ]
        await asyncio.gather(*map(self._work, kinds))

    async def _work(self, kind: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        while time.monotonic() < self._until:
            try:
                right = await kind()
            except (RuntimeError, OSError, EOFError):
                right = False
            self.replies[kind.__name__] += 1
            self.wrong[kind.__name__] += not right
            await asyncio.sleep(PAUSE)

    async def stream(self) -> bool:
        return await self._content(self._stream("plain")) == LONG.strip()

    async def revised(self) -> bool:
        return await self._content(self._stream("revised")) in (SHORT, LONG.strip())

    async def default(self) -> bool:
        return bool(await self._content(self._stream("small", 8)))

    async def completion(self) -> bool:
        body = {"model": "plain", "prompt": "Rain", "max_tokens": 1000, "stream": True}
        pieces = [
            choice["text"]
            async for event in events(self._address, body, "/v1/completions")
            for choice in event["choices"]
        ]
        return "".join(pieces) == LONG

    async def response(self) -> bool:
        body = {"model": "plain", "input": "Rain?", "stream": True}
        kinds = [event["type"] async for event in events(self._address, body, "/v1/responses")]
        return kinds[-1] == "response.completed"

    async def cut(self) -> bool:
        async with aclosing(self._stream("plain")) as stream:
            return all([await anext(stream) for _ in range(3)])

    async def fault(self) -> bool:
        body, status = FAULTS[self.replies["fault"] % len(FAULTS)]
        head = b"POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" % CHAT.encode()
        return await self._status(
            head + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body, status
        )

    async def garbage(self) -> bool:
        return await self._status(b"\x16\x03\x01 not HTTP at all\r\n\r\n", b"400")

    def _stream(self, model: str, tokens: int = 1000) -> AsyncGenerator[dict[str, Any], None]:
        return events(self._address, chat("Describe rain.", tokens, model))

    async def _content(self, stream: AsyncGenerator[dict[str, Any], None]) -> str:
        choices = [choice async for event in stream for choice in event["choices"]]
        return "".join(choice["delta"].get("content", "") for choice in choices)

    async def _status(self, request: bytes, status: bytes) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._address.port)
        try:
            writer.write(request)
            return (await reader.readuntil(b"\r\n")).split()[1] == status
        except ConnectionError:
            return status == b"413"
        finally:
            writer.close()


def measure(seconds: float, _rounds: int) -> Row:
    with tempfile.TemporaryDirectory() as name:
        script, models = Path(name) / "script.jsonl", Path(name) / "models.yaml"
        script.write_text(f"{json.dumps(LONG)}\n{json.dumps(SHORT)}\n")
        plain = Path(name) / "plain.jsonl"
        plain.write_text(f"{json.dumps(LONG)}\n")
        offered = {
            "plain": {"model": f"script:{plain}", "max-revisions": 0},
            "revised": {"model": f"script:{script}", "check": ["words<=5"], "max-revisions": 1},
            "small": {"model": "default", "max-revisions": 0},
        }
        models.write_text(json.dumps(offered))  # YAML holds JSON
        with serving("--models", str(models), "--parallel", "8", port=PORT) as server:
            soak, ours, engines = asyncio.run(_soak(server, seconds))
    asked = ", ".join(f"{count:,} × {kind}" for kind, count in soak.replies.items())
    wrong = ", ".join(f"{count} × {kind}" for kind, count in soak.wrong.items() if count)
    figures = (
        Figure("wrong replies", (float(soak.wrong.total()),), "errors", Goal("≤", 0), wrong or "none"),
        growth("memory growth of the server", ours, seconds, Goal("≤", MOST)),
        growth("memory growth of the engine's process", engines, seconds, None),
    )
    return Row(MEASURE.format(seconds=seconds), HOW.format(most=MOST), figures, (f"Requests: {asked}.",))


async def _soak(server: Serving, seconds: float) -> tuple[Soak, list[float], list[float]]:
    soak, ours, engines = Soak(Address(server.port), time.monotonic() + seconds), [], []
    working = asyncio.create_task(soak.run())
    while not working.done():
        ours.append(resident(server.pid))
        engines.append(sum(map(resident, family(server.pid, itself=False))))
        await asyncio.wait({working}, timeout=1)
    await working
    return soak, ours, engines


def growth(what: str, found: list[float], seconds: float, goal: Goal | None) -> Figure:
    flat = found[int(len(found) * WARM_UP) :]
    tenth = max(len(flat) // 10, 1)
    before, after = statistics.mean(flat[:tenth]), statistics.mean(flat[-tenth:])
    told = f"{before:.0f} to {after:.0f} MB within {seconds * (1 - WARM_UP):.0f} s, {max(found):.0f} at most"
    return Figure(what, (after - before,), "MB", goal, told)
