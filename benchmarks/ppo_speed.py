"""Measure the speed of rollouts, beside the engine alone."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import cast

from material import questions, write_prompts
from measure import Goal, Rates, Row, in_turn
from ppo_memory import command
from redraft.chain import Chain
from redraft.engines.hf.engine import HfEngine
from redraft.engines.hf.folders import folder_for
from redraft.train.options import PpoOptions, parse
from redraft.train.ppo import Ppo
from redraft.train.rl.policy import unwrapped
from redraft.train.rl.rewards import Rewards
from redraft.train.run import Ready, get_ready

MEASURE = "rollout tokens/s of PPO over those of the transformers engine alone"
HOW = (
    "The default model with an adapter, as `redraft train ppo` loads it on this machine, answers {rollouts} "
    "everyday questions: {chunk} answers at once, at most {tokens} tokens, temperature 1, the same seeds. "
    "redraft's rollouts replace peft's layers, start the engine, write the answers, judge each chunk "
    "(instantly) and record the samples. Their time ends when the last answer is judged. The engine alone "
    "(`engines/hf`) has the same model, gets all prompts at once, and starts the next answer as soon as one "
    "ends. {rounds} pairs are measured in turn in one process, after a first one that does not count."
)
GOAL = Goal("≥", 0.9)


def run(*, quick: bool) -> Row:
    rollouts, chunk, tokens, rounds = (4, 2, 8, 1) if quick else (32, 16, 128, 8)
    how = HOW.format(rollouts=rollouts, chunk=chunk, tokens=tokens, rounds=rounds)
    with tempfile.TemporaryDirectory(prefix="redraft-bench-") as work:
        ready = get(Path(work), folder_for("default"), rollouts, chunk, tokens)
        return Row(MEASURE, how, (compared(ready, rounds).figure("all answers", GOAL, "rollouts", "engine"),))


def get(work: Path, model: str, rollouts: int, chunk: int, most: int) -> Ready:
    words = command(
        "ppo",
        model_name_or_path=model,
        data_path=write_prompts(work / "prompts.jsonl", questions(rollouts)),
        output_dir=work / "out",
        reward="words<=5",
        num_rollouts=rollouts,
        chunk_size=chunk,
        per_device_train_batch_size=chunk,
        max_new_tokens=most,
        report_to="none",
    )
    return get_ready(parse(words[5:], PpoOptions), model, work / "cache", say=lambda _: None)


def compared(ready: Ready, rounds: int) -> Rates:
    """Measure both sides in turn, with new answers in each pair. The first pair does not count."""
    rates = Rates()
    for pair in range(rounds + 1):
        for our_turn in in_turn(pair):
            (rates.ours if our_turn else rates.theirs).append(
                (by_rollouts if our_turn else by_engine)(ready, pair)
            )
    return Rates(rates.ours[1:], rates.theirs[1:])


def by_rollouts(ready: Ready, epoch: int) -> tuple[int, float]:
    source, judged = cast(Ppo, ready.loop.data), [0.0]

    async def reward(chains: Sequence[Chain]) -> list[float]:
        judged[0] = time.perf_counter()
        return [0.0] * len(chains)

    source.reward = Rewards({"nothing": (1.0, reward)})
    start = time.perf_counter()
    next(source.batches(epoch))
    lines = (ready.loop.folder / "samples.jsonl").read_bytes().splitlines()[-source.own.num_rollouts :]
    return sum(len(json.loads(line)["tokens"]) for line in lines), judged[0] - start


def by_engine(ready: Ready, epoch: int) -> tuple[int, float]:
    source = cast(Ppo, ready.loop.data)
    own, asked = source.own, source._asked(epoch)  # noqa: SLF001  (the same prompts and seeds)

    async def one(engine: HfEngine, row: int) -> int:
        made = 0
        sampling = source._sampling(epoch, row, asked[row])  # noqa: SLF001
        async with aclosing(engine.stream(asked[row].tokens, sampling)) as deltas:
            async for delta in deltas:
                made += len(delta.tokens)
        return made

    async def all_of(engine: HfEngine) -> tuple[int, float]:
        start = time.perf_counter()
        made = await asyncio.gather(*(one(engine, row) for row in range(len(asked))))
        seconds = time.perf_counter() - start
        await engine.aclose()
        return sum(made), seconds

    with unwrapped(source.policy.model) as bare:
        ctx = max(len(each.tokens) for each in asked) + own.max_new_tokens
        tokenizer = ready.loop.trained.tokenizer
        ends = frozenset({int(tokenizer.eos_token_id)})
        engine = HfEngine(bare, tokenizer, name="policy", ctx=ctx, parallel=own.chunk_size, ends=ends)
        return asyncio.run(all_of(engine))
