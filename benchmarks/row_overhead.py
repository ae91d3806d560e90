"""Measure the cost of the loop: tokens per second of chains, beside raw completions of the same engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from material import QUESTIONS, start_engine
from measure import Figure, Goal, Rates, Row, Size, alternate
from redraft.engines.base import Engine, Sampling
from redraft.revision.api import arevise
from redraft.revision.keywords import RevisionKeywords
from taps import Request, Tap, replay

MEASURE = "loop overhead, speculation off: tokens/s of chains vs raw completions of the same engine"
HOW = (
    "Each chain is made once, to warm the cache and to record its requests. Then two runs take turns: the "
    "same chain with the same seed, and its recorded requests, which are sent directly to the engine. The "
    "cache begins in the same state for both. Native chains have one enforced revision; verified chains "
    "have checks that they rarely pass. With one stream, a pair is one chain. With eight, it is eight "
    "chains at once, which may differ by some tokens between runs. {rounds} pairs for each chain or group, "
    "at most {tokens} new tokens a text."
)
GOAL = Goal("≥", 0.95)
WAYS: dict[str, RevisionKeywords] = {
    "native": {"mode": "native", "min_revisions": 1, "max_revisions": 1},
    "verified": {"mode": "verified", "checks": ["words<=20", "ends:Thank you."], "max_revisions": 2},
}


@dataclass(frozen=True)
class Recorded:
    question: str
    options: RevisionKeywords
    requests: tuple[Request, ...]


def run(size: Size) -> Row:
    figures = asyncio.run(_figures(size))
    return Row(MEASURE, HOW.format(rounds=size.rounds, tokens=size.tokens // 4), tuple(figures))


async def _figures(size: Size) -> list[Figure]:
    figures = []
    for streams in (1, 8):
        engine = await start_engine(size, parallel=streams, speculate=False)
        count = size.questions // 2 if streams == 1 else max(size.questions, streams)
        questions = QUESTIONS[:count]
        for way in WAYS:
            rates = await measure_way(engine, way, questions, size, streams)
            many = "one stream" if streams == 1 else f"{streams} streams"
            figures.append(rates.figure(f"{way}, {many}", GOAL, "loop", "raw"))
        await engine.aclose()
    return figures


async def measure_way(engine: Engine, way: str, questions: Sequence[str], size: Size, streams: int) -> Rates:
    rates = Rates()
    options: RevisionKeywords = {**WAYS[way], "max_tokens": size.tokens // 4, "seed": 1}
    for start in range(0, len(questions), streams):
        group = questions[start : start + streams]
        chains = await asyncio.gather(*(record(engine, question, options) for question in group))
        pairs = await compare(engine, chains, size.rounds)
        rates.ours += pairs.ours
        rates.theirs += pairs.theirs
    return rates


async def compare(engine: Engine, chains: Sequence[Recorded], rounds: int) -> Rates:
    return await alternate(
        rounds,
        lambda: timed([again(engine, chain) for chain in chains]),
        lambda: timed([replay(engine, chain.requests) for chain in chains]),
    )


async def record(engine: Engine, question: str, options: RevisionKeywords) -> Recorded:
    tap = Tap(engine)
    await arevise(question, **with_model(options, tap))
    return Recorded(question, options, tuple(tap.requests))


async def again(engine: Engine, chain: Recorded) -> int:
    return (await arevise(chain.question, **with_model(chain.options, engine))).usage.completion_tokens


def with_model(options: RevisionKeywords, engine: Engine) -> RevisionKeywords:
    options = options.copy()
    options["model"] = engine
    return options


GRAMMAR_HOW = (
    "The answers to {count} questions as a JSON array of texts, and without a schema. Both sides write up "
    "to {tokens} tokens each, with the same seeds; {rounds} pairs. Tokens behind the last sentence that "
    "fits are dropped from a text in JSON, but count here."
)
TEXTS = {"type": "array", "items": {"type": "string"}, "minItems": 100}


def grammar(size: Size) -> Row:
    return Row(
        "a JSON Schema: tokens/s of constrained answers vs free ones of the same engine",
        GRAMMAR_HOW.format(count=size.questions, tokens=size.tokens, rounds=size.rounds),
        tuple(asyncio.run(_grammar(size))),
    )


async def _grammar(size: Size) -> list[Figure]:
    figures = []
    for streams in (1, 8):
        engine = await start_engine(size, parallel=streams, speculate=False)

        questions = QUESTIONS[: max(size.questions, streams)]
        free = partial(
            answers, engine, questions, streams, Sampling(max_tokens=size.tokens, seed=1, unending=True)
        )
        bound = partial(
            answers, engine, questions, streams, Sampling(max_tokens=size.tokens, seed=1, schema=TEXTS)
        )
        rates = await alternate(size.rounds, bound, free)
        figures.append(rates.figure(f"{streams} at once", GOAL, "with a schema", "without"))
        await engine.aclose()
    return figures


async def answers(
    engine: Engine, questions: Sequence[str], streams: int, sampling: Sampling
) -> tuple[int, float]:
    start, tokens = time.perf_counter(), 0
    for first in range(0, len(questions), streams):
        group = questions[first : first + streams]
        tokens += sum(await asyncio.gather(*(written(engine, each, sampling) for each in group)))
    return tokens, time.perf_counter() - start


async def written(engine: Engine, question: str, sampling: Sampling) -> int:
    messages = ({"role": "user", "content": f"{question} Write at length."},)
    async with aclosing(engine.chat(messages, sampling)) as stream:
        return sum([delta.completion_tokens or 0 async for delta in stream])


async def timed(work: Sequence[Awaitable[int]]) -> tuple[int, float]:
    start = time.perf_counter()
    return sum(await asyncio.gather(*work)), time.perf_counter() - start
