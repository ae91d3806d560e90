"""Kills the model's process under `redraft serve`, again and again, and counts what that costs the clients.

python benchmarks/serve_kills.py          20 kills under 4 streams of chains
python benchmarks/serve_kills.py --quick  2 kills
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from measure import Figure, Goal, Row
from report import main

MEASURE = "kill -9 of the engine process, {kills} times under load"
HOW = (
    "`redraft serve --model default` answers {streams} clients at once, which stream chains of up to three "
    "answers of 24 tokens, with the feedback of a check that they fail. The process of the model is killed "
    "once each stream has got {between} pieces since the last kill. A step is complete once the stream shows "
    "the heading of the next one, and is lost if the chain at the end lacks it. A chain is lost if its "
    "stream ends without it. `/health` is asked every 50 ms and has to answer within 2 s."
)
BETWEEN = 4
HEADING = re.compile(r"\n*(Draft|Feedback|Revision \d+):\n")
PROMPTS = ("Describe rain.", "Describe snow.", "Describe a river.", "Describe the sea.")


@dataclass
class Found:
    """What the clients and the watch of `/health` have seen."""

    chains: int = 0
    lost: int = 0
    steps: int = 0
    steps_lost: int = 0
    down: int = 0
    asked: int = 0
    restarts: int = 0
    pieces: list[int] = field(default_factory=list)


def measure(kills: int, streams: int) -> Row:
    """Kill the model's process so many times under so many streams."""
    found = asyncio.run(_killed(kills, streams))
    figures = (
        Figure("chains lost", (float(found.lost),), "chains", Goal("≤", 0.0), f"of {found.chains:,}"),
        Figure(
            "complete steps lost", (float(found.steps_lost),), "texts", Goal("≤", 0.0), f"of {found.steps:,}"
        ),
        Figure(
            "server down", (float(found.down),), "calls", Goal("≤", 0.0), f"of {found.asked:,} to /health"
        ),
        Figure("restarts of the process", (float(found.restarts),), "calls", Goal("≥", float(kills))),
    )
    how = HOW.format(streams=streams, between=BETWEEN)
    return Row(MEASURE.format(kills=kills), how, figures)


async def _killed(kills: int, streams: int) -> Found:
    found = Found(pieces=[0] * streams)
    with _serving(streams) as (address, pid):
        async with httpx.AsyncClient(base_url=address, timeout=httpx.Timeout(120)) as client:
            over = asyncio.Event()
            clients = [asyncio.create_task(_client(client, number, found, over)) for number in range(streams)]
            watch = asyncio.create_task(_watch(client, found, over))
            for _ in range(kills):
                due = [pieces + BETWEEN for pieces in found.pieces]
                while any(map(int.__lt__, found.pieces, due)):  # noqa: ASYNC110  (an event a piece costs more)
                    await asyncio.sleep(0.02)
                os.kill(_model_of(pid), signal.SIGKILL)
            over.set()
            await asyncio.gather(*clients, watch)
            figures = (await client.get("/metrics")).text
    restarts = re.search(r"^redraft_engine_restarts_total\{.*\} ([\d.]+)$", figures, re.MULTILINE)
    found.restarts = int(float(restarts[1])) if restarts else 0
    return found


@contextmanager
def _serving(streams: int) -> Iterator[tuple[str, int]]:
    """Start the server, and yield its address and process id."""
    revisions = ("--check", "words<=3", "--max-revisions", "2")
    machine = ("--parallel", str(streams), "--max-tokens", "24", "--threads", "2")
    command = [sys.executable, "-m", "redraft", "serve", "--port", "0", "--model", "default"]
    with subprocess.Popen([*command, *machine, *revisions], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        said = process.stderr.readline()
        address = re.search(r" at (http://\S+)/v1$", said)
        assert address, said
        reading = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)  # its log
        try:
            yield address[1], process.pid
        finally:
            process.terminate()
            process.wait(30)
            reading.wait()


def _model_of(pid: int) -> int:
    """Return the process of the model that a server has now. It may be starting."""
    while True:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split():
            if b"redraft.engines.llamacpp.child" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)


async def _client(client: httpx.AsyncClient, number: int, found: Found, over: asyncio.Event) -> None:
    """Ask for one chain after the other, until it is over."""
    while not over.is_set():
        body = {
            "model": "default-revise",
            "messages": [{"role": "user", "content": PROMPTS[number % len(PROMPTS)]}],
            "seed": found.chains,
            "stream": True,
            "redraft": True,
        }
        found.chains += 1
        shown: list[str] = []
        try:
            async with aclosing(_events(client, body)) as events:
                chain = await _chain_of(events, shown, partial(_count, found, number))
        except (httpx.HTTPError, ValueError):
            found.lost += 1
            continue
        texts = [
            text for step in chain["steps"] for text in (step["answer"], (step["feedback"] or {}).get("text"))
        ]
        found.steps += len(shown)
        found.steps_lost += sum(text.strip() not in "\n".join(filter(None, texts)) for text in shown)
        found.lost += chain["stop"] in ("error", "cancelled", "budget")


def _count(found: Found, number: int) -> None:
    found.pieces[number] += 1


async def _events(client: httpx.AsyncClient, body: Any) -> AsyncGenerator[dict[str, Any], None]:
    async with client.stream("POST", "/v1/chat/completions", json=body) as reply:
        reply.raise_for_status()
        async for line in reply.aiter_lines():
            if line.startswith("data: {"):
                yield json.loads(line.removeprefix("data: "))


async def _chain_of(
    events: AsyncGenerator[dict[str, Any], None], shown: list[str], count: Any
) -> dict[str, Any]:
    """Return the chain of a stream. The texts of steps that it shows as complete are added to `shown`.

    Raises:
        ValueError: It ends without one.
    """
    text = None
    async for event in events:
        if "redraft" in event:
            return dict(event["redraft"])
        if "choices" not in event:
            raise ValueError(event)
        piece = event["choices"][0]["delta"].get("reasoning_content")
        if piece is None:
            continue
        count()
        if HEADING.fullmatch(piece):
            if text is not None:
                shown.append(text)
            text = ""
        else:
            text = None if "written again.)" in piece else (text or "") + piece
    raise ValueError("the stream ended without a chain")


async def _watch(client: httpx.AsyncClient, found: Found, over: asyncio.Event) -> None:
    """Ask `/health` again and again."""
    while not over.is_set():
        found.asked += 1
        try:
            reply = await client.get("/health", timeout=2)
            found.down += reply.status_code != 200
        except httpx.HTTPError:
            found.down += 1
        await asyncio.sleep(0.05)


def kills(*, quick: bool) -> Row:
    """Measure the row."""
    return measure(*((2, 2) if quick else (20, 4)))


if __name__ == "__main__":
    sys.exit(main("benchmarks/serve_kills.py", __doc__, {"kills": kills}))
