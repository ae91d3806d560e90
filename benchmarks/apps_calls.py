"""What redraft adds to a call: an answer without revising, against the same call of the bare openai SDK."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import redraft
from measure import Figure, Goal, Row, alternate, over
from redraft.engines.remote.engine import RemoteEngine

MEASURE = "seconds of a call over the bare openai SDK, scripted server without delay"
HOW = (
    "A server in a process of its own sends the same twenty pieces at once. Each side makes {calls} calls, "
    "one after the other on one client: the openai SDK with `stream=True`, and `arevise` without revisions. "
    "{rounds} pairs in turn."
)
ROUNDS, PIECES = 5, 20
CHAT = [{"role": "user", "content": "Describe rain."}]


def reply() -> bytes:
    """Returns the whole reply of the server."""
    pieces = [{"choices": [{"index": 0, "delta": {"content": "wet "}, "finish_reason": None}]}] * PIECES
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    counts = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": PIECES, "total_tokens": 25}}
    events = [f"data: {json.dumps({'id': 'x', **event})}\n\n" for event in (*pieces, last, counts)]
    body = ("".join(events) + "data: [DONE]\n\n").encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def serve() -> None:
    """Answers every request alike, and prints the port."""
    answer = reply()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lengths = [
                    line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
                ]
                await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def scripted() -> Iterator[str]:
    """Yields the address of the server."""
    with subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
        process.kill()


async def measure(calls: int) -> Row:
    from openai import AsyncOpenAI

    with scripted() as url:
        engine, client = RemoteEngine(url, "m"), AsyncOpenAI(base_url=url, api_key="none")

        async def revised() -> None:
            await redraft.arevise("Describe rain.", model=engine, max_revisions=0)

        async def bare() -> None:
            stream = await client.chat.completions.create(model="m", messages=CHAT, stream=True)  # type: ignore[arg-type]
            "".join([piece.choices[0].delta.content or "" async for piece in stream if piece.choices])

        await seconds(revised, 20), await seconds(bare, 20)
        rates = await alternate(ROUNDS, lambda: seconds(revised, calls), lambda: seconds(bare, calls))
        await engine.aclose()
        await client.close()
    ours, theirs = ([took for _, took in side] for side in (rates.ours, rates.theirs))
    sides = (
        f"redraft {1000 * min(ours) / calls:.2f} ms, SDK {1000 * min(theirs) / calls:.2f} ms a call at best"
    )
    figure = Figure("one call after the other", over(ours, theirs), "×", Goal("≤", 1.5), sides)
    return Row(MEASURE, HOW.format(calls=calls, rounds=ROUNDS), (figure,))


async def seconds(call: Callable[[], Awaitable[None]], count: int) -> tuple[int, float]:
    """Returns a number of calls, and the time that they took."""
    start = time.perf_counter()
    for _ in range(count):
        await call()
    return count, time.perf_counter() - start


if __name__ == "__main__":
    asyncio.run(serve())
