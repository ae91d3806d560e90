"""Measures what steering by checks brings: passing first answers, their tokens, and what a grammar costs.

python benchmarks/steer.py          about an hour; writes its part of RESULTS.md
python benchmarks/steer.py --only held-out
python benchmarks/steer.py --quick  a few prompts, nothing written
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import redraft
from apps_constraints import held_out
from measure import Figure, Goal, Row, alternate
from redraft.engines.base import Engine, Sampling
from redraft.engines.load import load_engine
from redraft.stats import mean
from redraft.steering.form import Form
from redraft.verify.ifeval import Constraint
from report import main
from wording import SHARED

PARALLEL, SEEDS = 8, (0, 1, 2)
WAYS: dict[str, dict[str, Any]] = {
    "plain": {"steer": False, "drafts": 1},
    "best of 4": {"steer": False, "drafts": 4},
    "steered": {"steer": True, "drafts": 1},
}
HOW = (
    "{prompts}, the default model behind llama.cpp, temperature 0.7, at most {tokens} new tokens a text, "
    "seeds {seeds}. All ways have the same checks and are told their demands. An answer counts if it passes "
    "all of them and is no talk. Best of 4 stops at the first draft that passes. Differences are paired by "
    "prompt, their intervals at 95 %."
)


@dataclass(frozen=True)
class Made:
    """What one way made of a prompt: whether it passes, and its new tokens."""

    passed: bool
    tokens: int


async def run(
    engine: Engine, records: Sequence[dict[str, Any]], way: str, tokens: int, seed: int
) -> list[Made]:
    """Makes a chain of each record."""
    slots = asyncio.Semaphore(PARALLEL)

    async def make(number: int, record: dict[str, Any]) -> Made:
        kinds, values = record["instruction_id_list"], record["kwargs"]
        checks = [Constraint.of(kind, given) for kind, given in zip(kinds, values, strict=True)]
        options = {"mode": "best-of", "max_tokens": tokens, "seed": seed * 10_000 + number, **WAYS[way]}
        async with slots:
            chain = await redraft.arevise(record["prompt"], model=engine, checks=checks, **options)
        return Made(chain.passed, chain.usage.completion_tokens)

    return await asyncio.gather(*(make(number, record) for number, record in enumerate(records)))


async def compared(
    what: str, prompts: str, records: Sequence[dict[str, Any]], tokens: int, *, goals: bool
) -> Row:
    """Measures every way with every seed."""
    made: dict[str, list[list[Made]]] = {way: [] for way in WAYS}
    async with aclosing(await load_engine("default")) as engine:
        for seed in SEEDS:
            for way in WAYS:
                made[way].append(await run(engine, records, way, tokens, seed))
    figures = []
    for way, runs in made.items():
        share = tuple(100 * fmean(each.passed for each in some) for some in runs)
        spent = tuple(fmean(each.tokens for each in some) for some in runs)
        goal = way == "steered" and goals
        figures += [
            Figure(f"{way}: share that passes", share, "%", Goal("≥", 80) if goal else None),
            Figure(f"{way}: new tokens a prompt", spent, "tokens", Goal("≤", 120) if goal else None),
        ]
    figures += [_gain(made, other) for other in WAYS if other != "steered"]
    how = HOW.format(prompts=prompts, tokens=tokens, seeds=", ".join(map(str, SEEDS)))
    return Row(what, how, tuple(figures))


def _gain(made: dict[str, list[list[Made]]], other: str) -> Figure:
    ours, theirs = (
        [100 * fmean(run[number].passed for run in made[way]) for number in range(len(made[way][0]))]
        for way in ("steered", other)
    )
    gain = mean([our - their for our, their in zip(ours, theirs, strict=True)])
    sides = f"{gain.value:+.1f} points, {gain.low:+.1f} to {gain.high:+.1f}"
    return Figure(f"steered less {other}, lower end", (gain.low,), "%", Goal("≥", 0.1), sides)


def held_out_prompts(*, quick: bool) -> Row:
    """Measures the prompts that the wording was not chosen on."""
    records = held_out(100)[: 8 if quick else None]
    prompts = f"{len(records)} IFEval prompts whose constraints short answers can meet (`apps.py`)"
    return asyncio.run(compared("held-out prompts that pass", prompts, records, 128, goals=True))


def all_prompts(*, quick: bool) -> Row:
    """Measures all prompts of IFEval."""
    path = SHARED / "data" / "constraints" / "ifeval_541.jsonl"
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()][: 8 if quick else None]
    return asyncio.run(
        compared("prompts of IFEval that pass", f"all {len(records)} prompts", records, 256, goals=False)
    )


def speed(*, quick: bool) -> Row:
    """Measures tokens a second with and without a grammar."""
    form = Form(has=("lighthouse", "storm"), lacks=("sea", "boat"), closing="Good night.")
    rounds, tokens = (1, 40) if quick else (6, 160)

    async def written(engine: Engine, form: Form | None, streams: int) -> tuple[int, float]:
        async def one(seed: int) -> int:
            sampling = Sampling(max_tokens=tokens, seed=seed, form=form)
            message: Any = {"role": "user", "content": "Write a long story about a lighthouse in a storm."}
            async with aclosing(engine.chat([message], sampling)) as deltas:
                return [delta.completion_tokens async for delta in deltas][-1] or 0

        start = time.perf_counter()
        total = sum(await asyncio.gather(*map(one, range(streams))))
        return total, time.perf_counter() - start

    async def measured() -> list[Figure]:
        figures = []
        async with aclosing(await load_engine("default")) as engine:
            for streams in (1, 8):
                work = [partial(written, engine, each, streams) for each in (form, None)]
                rates = await alternate(rounds, work[0], work[1])
                goal = Goal("≥", 0.9) if streams == 8 else None
                figures.append(rates.figure(f"{streams} streams", goal, "steered", "plain"))
        return figures

    how = "the default model behind llama.cpp; a story that has two words, lacks two, and ends as given"
    return Row("tokens/s with a grammar, over those without", how, tuple(asyncio.run(measured())))


ROWS = {"held-out": held_out_prompts, "all": all_prompts, "speed": speed}

if __name__ == "__main__":
    sys.exit(main("benchmarks/steer.py", __doc__, ROWS))
