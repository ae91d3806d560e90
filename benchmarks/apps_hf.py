"""Measure the hf engine beside plain batched `generate` of transformers, in one run.

    python benchmarks/apps_hf.py             everything; writes results/apps_hf.json
    python benchmarks/apps_hf.py --quick     tiny numbers, to see that it works; they mean nothing

The model is the default one, as a folder of transformers. The machine should otherwise be idle. The exit
status is 1 if a goal was not reached.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from material import answered, default_model, printed, questions, write_prompts
from measure import FULL, QUICK, Figure, Goal, Rates, Row, Size, alternate, in_turns
from redraft import arevise
from redraft.engines.hf.engine import HfEngine
from redraft.engines.hf.load import computes_in_bfloat16, load
from report import main, sized
from weights_run import weights

MEASURE = "hf engine vs plain batched transformers, same dtype, tokens/s"
HOW = (
    "Every stream answers one question with {tokens} new tokens, at temperature 0.7. redraft calls "
    "`arevise` without revisions for all questions at once, like `redraft answer --parallel N`. The peer "
    "calls `generate` of the same model object once for all questions, padded on the left. Nothing ends a "
    "text early on either side. Loading is not timed, but reading the prompts is. redraft has a new engine "
    "in each round, so that its cache is empty. {threads} threads."
)
COMMAND = "redraft answer on a model folder vs a script of plain transformers, same dtype, tokens/s"
COMMAND_HOW = (
    "Whole processes are measured, loading included: `redraft answer --parallel {streams} --max-revisions "
    "0` on {prompts} questions with at most {tokens} new tokens each, and `apps_hf_peer.py`, which calls "
    "`generate` on {streams} of them at a time. Both use {dtype}, the type that redraft chooses on this "
    "machine. Only generated tokens count; texts may end early on both sides."
)
STREAMS = (8, 32, 64)
GOAL = Goal("≥", 0.8)
TEMPERATURE = 0.7


@dataclass(frozen=True)
class Loaded:
    model: Any
    tokenizer: Any


def run(size: Size, streams: Sequence[int]) -> Row:
    """Measure the default model in float32 and, if the CPU supports it, in bfloat16."""
    dtypes = (torch.float32, torch.bfloat16) if computes_in_bfloat16() else (torch.float32,)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "model"
        weights("from-gguf", default_model(), "-o", folder)
        for dtype in dtypes:
            loaded = load(folder, None, torch.device("cpu"), dtype)
            both = Loaded(loaded.model, loaded.tokenizer)
            figures += [asyncio.run(compare(both, count, size)) for count in streams]
    return Row(MEASURE, HOW.format(tokens=size.tokens, threads=torch.get_num_threads()), tuple(figures))


def by_command(size: Size, streams: int) -> Row:
    dtype = "bfloat16" if computes_in_bfloat16() else "float32"
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "model"
        weights("from-gguf", default_model(), "-o", folder)
        prompts = write_prompts(Path(work) / "prompts.jsonl", asked := questions(4 * streams))
        words = ("--model", folder, "--max-revisions", 0, "--temperature", TEMPERATURE)

        def ours() -> tuple[int, float]:
            return answered(prompts, *words, "--parallel", streams, "--max-tokens", size.tokens)

        def theirs() -> tuple[int, float]:
            start = time.perf_counter()
            said = printed("apps_hf_peer.py", folder, prompts, streams, size.tokens, dtype)
            return int(said.split()[0]), time.perf_counter() - start

        rates = Rates(*in_turns(size.rounds, ours, theirs))
    how = COMMAND_HOW.format(streams=streams, prompts=len(asked), tokens=size.tokens, dtype=dtype)
    return Row(COMMAND, how, (rates.figure(f"{streams} streams", GOAL, "redraft", "transformers"),))


async def compare(both: Loaded, streams: int, size: Size) -> Figure:
    asked = questions(streams)

    async def ours() -> tuple[int, float]:
        return await by_redraft(both, asked, size.tokens)

    async def theirs() -> tuple[int, float]:
        tokenizer = both.tokenizer
        tokenizer.padding_side = "left"
        both.model.generation_config.eos_token_id = None
        start = time.perf_counter()
        texts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
            )
            for question in asked
        ]
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        with torch.inference_mode():
            made = both.model.generate(
                **batch,
                do_sample=True,
                temperature=TEMPERATURE,
                top_k=0,
                max_new_tokens=size.tokens,
                pad_token_id=tokenizer.pad_token_id,
            )
        seconds = time.perf_counter() - start
        return (made.shape[1] - batch.input_ids.shape[1]) * len(asked), seconds

    await alternate(1, ours, theirs)
    rates = await alternate(size.rounds, ours, theirs)
    dtype = str(both.model.dtype).removeprefix("torch.")
    return rates.figure(f"{streams} streams, {dtype}", GOAL, "redraft", "transformers")


async def by_redraft(both: Loaded, asked: Sequence[str], tokens: int) -> tuple[int, float]:
    engine = HfEngine(both.model, both.tokenizer, name="default", parallel=len(asked), ends=frozenset())
    try:
        start = time.perf_counter()
        chains = await asyncio.gather(
            *(
                arevise(
                    question,
                    model=engine,
                    max_revisions=0,
                    max_tokens=tokens,
                    temperature=TEMPERATURE,
                    seed=seed,
                )
                for seed, question in enumerate(asked)
            )
        )
        seconds = time.perf_counter() - start
    finally:
        await engine.aclose()
    return sum(chain.usage.completion_tokens for chain in chains), seconds


SIZE = replace(FULL, tokens=64), replace(QUICK, tokens=4)
ROWS = {
    "engine": sized(run, (SIZE[0], STREAMS), (SIZE[1], STREAMS[:1])),
    "command": sized(by_command, (SIZE[0], 32), (SIZE[1], 8)),
}

if __name__ == "__main__":
    sys.exit(main("benchmarks/apps_hf.py", __doc__, ROWS))
