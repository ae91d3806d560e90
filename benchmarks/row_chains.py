"""Chains as the released SelFee code makes them, against `redraft answer --parallel 8`: new tokens per
second.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import selfee_peer
from material import QUESTIONS, default_model
from measure import Goal, Rates, Row, Size, blocks, in_turn
from redraft.chain import Prompt, read_jsonl
from redraft.formats.selfee import render_prompt

MEASURE = "chains: redraft answer --parallel 8 vs as the released SelFee code makes them, new tokens/s"
HOW = (
    "Both make native chains with one enforced revision of the same questions, at temperature 0.7, with "
    "the same weights. The peer (`selfee_peer.py`) runs in transformers on one prompt at a time, and "
    "decodes and searches the whole text for every token; its weights are unpacked, in the number format "
    "that was fastest in a trial, and the time to load them is not counted. redraft is the real command, "
    "and the whole life of its process is counted: start, model, output. Each pair has {questions} "
    "questions, of at most {tokens} new tokens a chain."
)
GOAL = Goal("≥", 8.0)
PARALLEL = 8
MISSING = "the peer needs more packages: pip install torch transformers gguf accelerate"


def run(size: Size) -> Row:
    """Measures the row."""
    how = HOW.format(questions=size.questions, tokens=size.tokens)
    try:
        samplers = selfee_peer.load(default_model(), size.threads)
    except ImportError as error:
        return Row(MEASURE, how, (), (f"Not measured: {MISSING} ({error})",))
    trial = render_prompt(Prompt(instruction=QUESTIONS[-1]))
    name, speeds = selfee_peer.fastest(samplers, trial, size.tokens // 8)
    sampler = samplers[name]
    samplers.clear()
    rates = Rates()
    for pair, questions in enumerate(blocks(QUESTIONS, size.questions, size.rounds)):
        for our_turn in in_turn(pair):
            if our_turn:
                rates.ours.append(by_redraft(questions, size))
            else:
                rates.theirs.append(by_peer(sampler, questions, size))
    tried = ", ".join(f"{each} {speed:.1f}" for each, speed in speeds.items())
    notes = (
        f"The peer in a trial, before text is decoded and searched, in tokens/s: {tried}.",
        f"Mean new tokens of a chain: redraft {mean(rates.ours, size)}, peer {mean(rates.theirs, size)}.",
    )
    return Row(MEASURE, how, (rates.figure("8 streams", GOAL, "redraft", "SelFee's way"),), notes)


def mean(measured: Sequence[tuple[int, float]], size: Size) -> int:
    """Mean new tokens of a chain."""
    return round(sum(tokens for tokens, _ in measured) / (len(measured) * size.questions))


def by_peer(sampler: selfee_peer.TorchSampler, questions: Sequence[str], size: Size) -> tuple[int, float]:
    """New tokens, and seconds."""
    tokens, start = 0, time.perf_counter()
    for question in questions:
        prompt = render_prompt(Prompt(instruction=question))
        tokens += selfee_peer.write_chain(sampler.fresh(), prompt, revisions=1, limit=size.tokens)[1]
    return tokens, time.perf_counter() - start


def by_redraft(questions: Sequence[str], size: Size) -> tuple[int, float]:
    """New tokens as the chains say, and the seconds that the process lived."""
    with tempfile.TemporaryDirectory() as folder:
        prompts, out = Path(folder, "questions.jsonl"), Path(folder, "out.jsonl")
        prompts.write_text("".join(json.dumps({"prompt": q}) + "\n" for q in questions), "utf-8")
        start = time.perf_counter()
        subprocess.run(command(prompts, out, size), check=True)
        seconds = time.perf_counter() - start
        chains = list(read_jsonl(out))
    assert len(chains) == len(questions)
    return sum(chain.usage.completion_tokens for chain in chains), seconds


def command(prompts: Path, out: Path, size: Size) -> list[str]:
    """What is typed."""
    return [
        *(sys.executable, "-m", "redraft", "answer", os.fspath(prompts), "-o", os.fspath(out), "--quiet"),
        *("--mode", "native", "--min-revisions", "1", "--max-revisions", "1"),
        *("--parallel", str(PARALLEL), "--max-tokens", str(size.tokens)),
        *(("--threads", str(size.threads)) if size.threads else ()),
    ]
