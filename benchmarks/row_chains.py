"""Measure new tokens per second of `redraft answer` beside chains by the released SelFee code."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import selfee_peer
from material import QUESTIONS, answered, default_model, write_prompts
from measure import Goal, NotMeasured, Rates, Row, Size, blocks
from redraft.chain import Prompt
from redraft.chain.selfee import render_prompt

MEASURE = "chains: redraft answer vs as the released SelFee code makes them, new tokens/s"
HOW = (
    "Both make native chains with one enforced revision of the same questions, at temperature 0.7, with "
    "the same weights. The peer (`selfee_peer.py`) runs in transformers on one prompt at a time, and "
    "decodes and searches the whole text for every token; its weights are unpacked to bfloat16, and the time "
    "to load them is not counted. redraft is the real command, and the whole life of its process is counted: "
    "start, model, output. In each round, redraft answers three questions a stream, with at most {tokens} "
    "new tokens a chain. The peer answers the first {few} of them once, because its rate does not depend on "
    "their number."
)
MANY = {8: Goal("≥", 8.0), 32: Goal("≥", 16.0)}  # goals by number of streams
MISSING = "the peer needs more packages: pip install torch transformers gguf accelerate"


def run(size: Size, streams: Mapping[int, Goal]) -> Row:
    few = max(size.questions // 2, 1)
    try:
        sampler = selfee_peer.load(default_model(), size.threads)
    except ImportError as error:
        raise NotMeasured(f"{MISSING} ({error})") from None
    rates = {parallel: Rates() for parallel in streams}
    for number in range(size.rounds):
        ordered = QUESTIONS[number:] + QUESTIONS[:number]
        theirs = by_peer(sampler, ordered[:few], size)
        for parallel, found in rates.items():
            found.ours.append(by_redraft(next(blocks(ordered, 3 * parallel, 1)), size, parallel))
            found.theirs.append(theirs)
    figures = (
        found.figure(f"{parallel} streams", streams[parallel], "redraft", "SelFee's way")
        for parallel, found in rates.items()
    )
    return Row(MEASURE, HOW.format(tokens=size.tokens, few=few), tuple(figures))


def by_peer(sampler: selfee_peer.TorchSampler, questions: Sequence[str], size: Size) -> tuple[int, float]:
    tokens, start = 0, time.perf_counter()
    for question in questions:
        prompt = render_prompt(Prompt(instruction=question))
        tokens += selfee_peer.write_chain(sampler.fresh(), prompt, revisions=1, limit=size.tokens)[1]
    return tokens, time.perf_counter() - start


def by_redraft(questions: Sequence[str], size: Size, parallel: int) -> tuple[int, float]:
    with tempfile.TemporaryDirectory() as folder:
        return answered(
            write_prompts(Path(folder, "questions.jsonl"), questions),
            *("--model", default_model(), "--mode", "native", "--min-revisions", 1, "--max-revisions", 1),
            *("--parallel", parallel, "--max-tokens", size.tokens),
            *(("--threads", size.threads) if size.threads else ()),
        )
