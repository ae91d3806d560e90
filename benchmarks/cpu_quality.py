"""Whether OpenVINO answers as well as llama.cpp."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

import redraft
from material import QUESTIONS, default_model
from measure import Figure, Goal, Row
from processor import spent
from redraft.engines.base import Engine, Sampling
from redraft.engines.load import load_engine
from redraft.stats import difference
from steer import SHARED, checks_in

ENGINES = ("llamacpp", "openvino")
PROMPTS, TOKENS, PARALLEL = 300, 256, 8
GREEDY = 64  # tokens of a greedy answer


def records(most: int) -> list[dict[str, Any]]:
    """Returns the first records of IFEval."""
    path = SHARED / "data" / "constraints" / "ifeval_541.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()[:most]]


@asynccontextmanager
async def opened(
    model: Path, engine: Any, parallel: int, *, threads: int | None = None
) -> AsyncIterator[Engine]:
    """Opens a file with an engine."""
    loaded = load_engine(str(model), engine=engine, parallel=parallel, threads=threads)
    async with aclosing(await loaded) as found:
        yield found


async def passed(
    engine: Engine, asked: Sequence[dict[str, Any]], seed: int, tokens: int = TOKENS, parallel: int = PARALLEL
) -> list[bool]:
    """Returns whether one plain answer to each prompt passes its checks."""
    slots = asyncio.Semaphore(parallel)

    async def one(number: int, record: dict[str, Any]) -> bool:
        more: dict[str, Any] = {"max_revisions": 0, "steer": False, "tell_checks": False}
        async with slots:
            chain = await redraft.arevise(
                record["prompt"],
                model=engine,
                checks=checks_in(record),
                max_tokens=tokens,
                seed=seed * 10_000 + number,
                **more,
            )
        return bool(chain.passed)

    return list(await asyncio.gather(*(one(number, record) for number, record in enumerate(asked))))


def common_start(one: str, other: str) -> int:
    """Returns the number of characters that two texts begin with alike."""
    return next(
        (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


async def written(engine: Engine, question: str, sampling: Sampling) -> tuple[str, int]:
    """Returns an answer and its length in tokens."""
    text, count = "", 0
    async with aclosing(engine.chat([{"role": "user", "content": question}], sampling)) as deltas:
        async for delta in deltas:
            text, count = text + delta.text, delta.completion_tokens or count
    return text, count


async def speed(engine: Engine, streams: int, texts: int, tokens: int) -> float:
    """Returns tokens a second of processor time, of so many texts, `streams` of them at once."""
    slots = asyncio.Semaphore(streams)

    async def one(number: int) -> int:
        async with slots:
            question = f"{QUESTIONS[number % len(QUESTIONS)]} Answer at length."
            return (await written(engine, question, Sampling(max_tokens=tokens, seed=number)))[1]

    await one(0)
    start = spent()
    total = sum(await asyncio.gather(*map(one, range(1, texts + 1))))
    return total / (spent() - start)


def quality(*, quick: bool) -> Row:
    """Compares the answers of both engines."""
    asked, seeds = records(8 if quick else PROMPTS), (0,) if quick else (0, 1, 2)

    async def measured() -> tuple[dict[str, list[float]], dict[str, list[str]]]:
        shares: dict[str, list[float]] = {}
        greedy: dict[str, list[str]] = {}
        sampling = Sampling(temperature=0, max_tokens=GREEDY)
        for name in ENGINES:
            async with opened(default_model(), name, PARALLEL) as engine:
                runs = [await passed(engine, asked, seed) for seed in seeds]
                shares[name] = [100 * fmean(each) for each in zip(*runs, strict=True)]
                greedy[name] = [(await written(engine, question, sampling))[0] for question in QUESTIONS]
        return shares, greedy

    shares, greedy = asyncio.run(measured())
    found = difference(shares["llamacpp"], shares["openvino"])
    sides = f"{found.value:+.1f} points, {found.low:+.1f} to {found.high:+.1f}"
    pairs = list(zip(*greedy.values(), strict=True))
    common = [common_start(*pair) / max(map(len, pair)) for pair in pairs if any(pair)]
    figures = [
        *(Figure(f"passing answers, {name}", (fmean(shares[name]),), "%") for name in ENGINES),
        Figure("passing answers, openvino less llamacpp: upper end", (found.high,), "%", Goal("≥", 0), sides),
        Figure("equal greedy answers", (100 * fmean(one == two for one, two in pairs),), "%"),
        Figure("of a greedy answer until they part", (100 * fmean(common),), "%"),
    ]
    how = (
        f"The default model. {len(asked)} IFEval prompts, temperature 0.7, at most {TOKENS} tokens, "
        f"{len(seeds)} seeds, the checks neither told nor steering; intervals are at 95 %, paired by prompt. "
        f"Greedy: {len(pairs)} everyday questions, at most {GREEDY} tokens, lengths in characters."
    )
    return Row("answers of OpenVINO against llama.cpp's", how, tuple(figures))
