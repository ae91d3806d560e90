"""Kill the model's process under `redraft serve` repeatedly, and count the clients' losses."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from measure import Figure, Goal, Row
from processor import family
from serve_client import Address, chat, events
from serve_server import Serving, serving

PORT = 8395
MEASURE = "kill -9 of the engine process, {kills} times under load"
HOW = (
    "`redraft serve --model default` answers {streams} clients at once, which stream chains of up to three "
    "answers of 24 tokens, with the feedback of a check that they fail. The process of the model is killed "
    "once each stream has got {between} pieces since the last kill. A step is complete once the stream shows "
    "the heading of the next one, and is lost if the chain at the end lacks it. A chain is lost if its "
    "stream ends without it. `/health` is asked every 50 ms and must answer within 2 s."
)
BETWEEN = 4
HEADING = re.compile(r"\n*(Draft|Feedback|Revision \d+):\n")
PROMPTS = ("Describe rain.", "Describe snow.", "Describe a river.", "Describe the sea.")


@dataclass
class Found:
    chains: int = 0
    lost: int = 0
    steps: int = 0
    steps_lost: int = 0
    down: int = 0
    asked: int = 0
    restarts: int = 0
    pieces: list[int] = field(default_factory=list)


def measure(kills: int, streams: int) -> Row:
    revisions = ("--check", "words<=3", "--max-revisions", "2")
    machine = ("--parallel", str(streams), "--max-tokens", "24", "--threads", "2")
    with serving("--model", "default", *machine, *revisions, port=PORT) as server:
        found = asyncio.run(_killed(server, kills, streams))
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
    return Row(MEASURE.format(kills=kills), HOW.format(streams=streams, between=BETWEEN), figures)


async def _killed(server: Serving, kills: int, streams: int) -> Found:
    found, over, address = Found(pieces=[0] * streams), asyncio.Event(), Address(server.port)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as watcher:
        clients = [asyncio.create_task(_client(address, number, found, over)) for number in range(streams)]
        watch = asyncio.create_task(_watch(watcher, found, over))
        for _ in range(kills):
            due = [pieces + BETWEEN for pieces in found.pieces]
            while any(map(int.__lt__, found.pieces, due)):  # noqa: ASYNC110  (an event a piece costs more)
                await asyncio.sleep(0.02)
            os.kill(_model_of(server.pid), signal.SIGKILL)
        over.set()
        await asyncio.gather(*clients, watch)
    restarts = re.search(
        r"^redraft_engine_restarts_total\{.*\} ([\d.]+)$", server.get("/metrics"), re.MULTILINE
    )
    found.restarts = int(float(restarts[1])) if restarts else 0
    return found


def _model_of(pid: int) -> int:
    while True:
        with suppress(FileNotFoundError):
            for child in family(pid, itself=False):
                if b"redraft.engines.llamacpp.child" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return child


async def _client(address: Address, number: int, found: Found, over: asyncio.Event) -> None:
    while not over.is_set():
        prompt, seed = PROMPTS[number % len(PROMPTS)], found.chains
        body = chat(prompt, 24, "default-revise", seed=seed, temperature=0.7, redraft=True)
        found.chains += 1
        shown: list[str] = []
        try:
            async with aclosing(events(address, body)) as stream:
                chain = await _chain_of(stream, shown, found, number)
        except (OSError, EOFError, RuntimeError, ValueError):
            found.lost += 1
            continue
        texts = [
            text for step in chain["steps"] for text in (step["answer"], (step["feedback"] or {}).get("text"))
        ]
        found.steps += len(shown)
        found.steps_lost += sum(text.strip() not in "\n".join(filter(None, texts)) for text in shown)
        found.lost += chain["stop"] in ("error", "cancelled", "budget")


async def _chain_of(
    events: AsyncGenerator[dict[str, Any], None], shown: list[str], found: Found, number: int
) -> dict[str, Any]:
    """Return the chain of a stream. The texts of its complete steps are added to `shown`.

    Raises:
        ValueError: The stream ends without a chain.
    """
    text = None
    async for event in events:
        if "redraft" in event:
            return dict(event["redraft"])
        if "choices" not in event:
            raise ValueError(event)
        if (piece := event["choices"][0]["delta"].get("reasoning_content")) is None:
            continue
        found.pieces[number] += 1
        if HEADING.fullmatch(piece):
            if text is not None:
                shown.append(text)
            text = ""
        else:
            text = None if "written again.)" in piece else (text or "") + piece
    raise ValueError("the stream ended without a chain")


async def _watch(client: httpx.AsyncClient, found: Found, over: asyncio.Event) -> None:
    while not over.is_set():
        found.asked += 1
        try:
            found.down += (await client.get("/health", timeout=2)).status_code != 200
        except httpx.HTTPError:
            found.down += 1
        await asyncio.sleep(0.05)
