"""Measure the start of a server, and the time until it frees the engine when a client leaves."""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

from material import QUESTIONS
from measure import Figure, Goal, Row
from serve_client import Address, chat, events, timed
from serve_server import Serving, serving

PORT = 8393
CUT = "closing a client mid-stream: time until the engine's slot is free"
CUT_HOW = (
    "The default model through llama.cpp, with one slot. A stream of up to 2,000 tokens is closed after "
    "some pieces, and another request is sent at once. The time until its first token is measured, which "
    "the slot must write. This includes the time of the second request itself, which is also measured on a "
    "free server."
)
HEALTH = "/health while bodies of 8 MB are handled"
HEALTH_HOW = "A scripted model. A client keeps asking for `/health`; another sends 20 bodies, five times."
READY_HOW = (
    "A new process each time, until `/ready` answers with 200. In the first, Python has compiled no module "
    "yet: its cache of compiled modules begins empty."
)


def cut(times: int, pieces: int) -> Row:
    with serving("--model", "default", "--parallel", "1", "--queue", "1", port=PORT) as server:
        freed, alone = asyncio.run(_cuts(Address(server.port), times, pieces))
    figure = Figure("to the next request's first token", tuple(freed), "s", Goal("≤", 1.0))
    return Row(CUT, CUT_HOW, (figure, Figure("on a free server", tuple(alone), "s")))


async def _cuts(address: Address, times: int, pieces: int) -> tuple[list[float], list[float]]:
    freed, alone = [], []
    for number in range(times):
        body = chat(f"{QUESTIONS[number % len(QUESTIONS)]} Answer at great length.", 2000, temperature=1)
        async with aclosing(events(address, body)) as stream:
            for _ in range(pieces):
                await anext(stream)
        freed.append((await timed(address, chat("Say yes.", 2))).first)
        alone.append((await timed(address, chat("Say yes.", 2))).first)
    return freed, alone


def health(times: int, size: int) -> Row:
    """Measure `/health` while the server reads, checks and answers large bodies, one after the other."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as script:
        print('"Yes."', file=script, flush=True)
        with serving("--model", f"script:{script.name}", port=PORT) as server:
            body = chat("word " * (size // 5), 8, model=Path(script.name).stem)
            longest = tuple(max(asyncio.run(_health(server, times, body))) for _ in range(5))
    return Row(HEALTH, HEALTH_HOW, (Figure("the longest wait", longest, "s", Goal("≤", 0.2)),))


async def _health(server: Serving, times: int, body: Any) -> list[float]:
    waited = []
    for _ in range(times):
        busy = asyncio.create_task(timed(Address(server.port), body))
        while not busy.done():
            start = time.perf_counter()
            await asyncio.to_thread(server.get, "/health")
            waited.append(time.perf_counter() - start)
        await busy
    return waited


def ready(times: int, _tries: int) -> Row:
    seconds: dict[str, list[float]] = {"default": [], "script": []}
    with tempfile.TemporaryDirectory() as cache, tempfile.NamedTemporaryFile("w", suffix=".jsonl") as script:
        print('"Yes."', file=script, flush=True)
        for _ in range(times):
            env = {"PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}
            for model, each in seconds.items():
                named = f"script:{script.name}" if model == "script" else model
                with serving("--model", named, port=PORT, **env) as server:
                    each.append(server.seconds)
                time.sleep(0.2)
    first, *again = seconds["default"]
    figures = (
        Figure("nothing compiled", (first,), "s", Goal("≤", 5.0)),
        Figure("again", tuple(again), "s", Goal("≤", 5.0)),
        Figure("again, a scripted model", tuple(seconds["script"][1:]), "s", Goal("≤", 1.5)),
    )
    return Row("start to ready with the default model", READY_HOW, figures)
