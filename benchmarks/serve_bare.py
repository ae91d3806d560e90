"""Measure `redraft serve` beside llama.cpp's own server: the same engine process, asked directly."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from material import QUESTIONS, default_model
from measure import Figure, Goal, Rates, Row, blocks, in_turn
from redraft.engines.llamacpp.child import ChildSettings
from serve_client import Address, chat, timed
from serve_server import serving

PORT = 8391
STREAMS = 8
MODEL = "default-base"  # the other side has no adapters
TOKENS = 96  # most new tokens of an answer

SIDES = (
    "The bare side is the process that redraft itself starts for a model, with the same settings, asked at "
    "its own `/v1/chat/completions` with the same bodies by the same client. Both are loaded during the "
    "whole run, and take turns."
)
RATE = "tokens/s through our API at 8 concurrent streams against the bare engine"
RATE_HOW = f"Greedy answers of at most {TOKENS} tokens to 8 questions at once, {{rounds}} pairs. {SIDES}"
FIRST = "added latency to the first token, at 1 stream"
FIRST_HOW = (
    "One question is asked on both sides in turn, in {rounds} rounds of {pairs} pairs. The added latency is "
    f"the difference of a pair. Both sides have the question in their cache. {SIDES}"
)


@contextmanager
def bare() -> Iterator[Address]:
    settings: ChildSettings = {
        "model": str(default_model()), "adapters": [], "context": 4096, "parallel": STREAMS, "threads": None,
        "gpu_layers": None, "gpu": False, "speculate": False, "key": "bare",
    }  # fmt: skip
    command = [sys.executable, "-P", "-m", "redraft.engines.llamacpp.child"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{json.dumps(settings)}\n")
        process.stdin.flush()
        yield Address(urlsplit(json.loads(process.stdout.readline())["address"]).port or 0, "bare")
        process.kill()


@contextmanager
def both() -> Iterator[tuple[Address, Address]]:
    with bare() as theirs, serving("--model", MODEL, "--parallel", str(STREAMS), port=PORT) as ours:
        yield Address(ours.port), theirs


def rate(rounds: int, tokens: int) -> Row:
    with both() as sides:
        rates = asyncio.run(_rates(sides, rounds, tokens))
    figure = rates.figure("8 streams", Goal("≥", 0.95), "redraft serve", "bare")
    return Row(RATE, RATE_HOW.format(rounds=rounds), (figure,))


async def _rates(sides: tuple[Address, Address], rounds: int, tokens: int) -> Rates:
    rates = Rates()
    for side in sides:
        await _answers(side, QUESTIONS[-STREAMS:], tokens)  # warms it up
    for pair, questions in enumerate(blocks(QUESTIONS, STREAMS, rounds)):
        for our_turn in in_turn(pair):
            measured = await _answers(sides[0 if our_turn else 1], questions, tokens)
            (rates.ours if our_turn else rates.theirs).append(measured)
    return rates


async def _answers(side: Address, questions: list[str], tokens: int) -> tuple[int, float]:
    start = time.perf_counter()
    replies = await asyncio.gather(*(timed(side, chat(question, tokens, MODEL)) for question in questions))
    return sum(reply.tokens for reply in replies), time.perf_counter() - start


def first(rounds: int, pairs: int) -> Row:
    with both() as sides:
        found = asyncio.run(_firsts(sides, rounds, pairs))
    added = [[(ours - theirs) * 1000 for ours, theirs in each] for each in found]
    each_side = [statistics.median(pair[i] for each in found for pair in each) * 1000 for i in (0, 1)]
    told = "redraft serve {:.1f} ms; bare {:.1f} ms".format(*each_side)
    figures = (
        Figure("median", tuple(map(statistics.median, added)), "ms", Goal("≤", 5.0), told),
        Figure(
            "99th percentile",
            tuple(sorted(each)[int(len(each) * 0.99)] for each in added),
            "ms",
            Goal("≤", 15.0),
        ),
    )
    return Row(FIRST, FIRST_HOW.format(rounds=rounds, pairs=pairs), figures)


async def _firsts(sides: tuple[Address, Address], rounds: int, pairs: int) -> list[list[tuple[float, float]]]:
    for pair in range(4):
        await _pair(sides, pair)  # warms them up
    return [[await _pair(sides, pair) for pair in range(pairs)] for _ in range(rounds)]


async def _pair(sides: tuple[Address, Address], pair: int) -> tuple[float, float]:
    found = {
        our_turn: await timed(sides[0 if our_turn else 1], chat(QUESTIONS[0], 2, MODEL))
        for our_turn in in_turn(pair)
    }
    return found[True].first, found[False].first
