"""Measure the tokens per second of training, beside the methods of SelFee and TRL."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

from material import default_model, shared
from measure import Figure, Goal, Rates, Row, in_turns
from train_material import Chains, Scale, write_chains
from weights_run import remove, weights

HOW = (
    "The default model on chains with SelFee's mix of lengths (`train_material.py`), {tokens:,} tokens at "
    "most, {rows} rows a step, computing in bf16: all weights, with activation checkpointing as SelFee "
    "trained, or an adapter of rank 16 on every linear layer. Each side is a process with the same "
    "tokenised examples. {steps} steps are timed after a first one, {rounds} times in turn. Padding does "
    "not count. SelFee's method is transformers' Trainer on rows padded to the maximum length, with the "
    "loss from all logits in 32 bits. TRL's is its SFTTrainer with packing (`bfd`) and its loss "
    "`chunked_nll`, which is not its default, but faster."
)
SCRIPT = Path(__file__).with_name("train_speed_run.py")
FASTER, NO_SLOWER = Goal("≥", 3.0), Goal("≥", 1.1)
PAIRS: tuple[tuple[str, str, tuple[str, ...], Goal], ...] = (
    ("SelFee's way, all weights", "selfee", (), FASTER),
    ("TRL, all weights", "trl", (), NO_SLOWER),
    ("TRL, an adapter", "trl", ("--lora",), NO_SLOWER),
)
NO_TRL = "TRL is not installed, so redraft was not compared with it: pip install trl"


ROWS, TOKENS, RECORDS = 2, 2048, 400  # rows a step, tokens a row, and the number of chains


def run(scale: Scale) -> Row:
    how = HOW.format(tokens=TOKENS // scale.shrink, rows=ROWS, steps=scale.steps, rounds=scale.rounds)
    folder = shared()
    weights("from-gguf", default_model(), "-o", scale.work / "model")
    write_chains(scale.work / "chains.jsonl", Chains(folder), RECORDS // scale.shrink)
    has_trl = importlib.util.find_spec("trl") is not None
    pairs = [pair for pair in PAIRS if has_trl or pair[1] != "trl"]
    figures = tuple(compared(what, peer, flags, goal, scale) for what, peer, flags, goal in pairs)
    for name in ("model", "chains.jsonl", "cache"):
        remove(scale.work / name)
    return Row("useful tokens/s of training", how, figures, () if has_trl else (NO_TRL,))


def compared(what: str, peer: str, flags: tuple[str, ...], goal: Goal, scale: Scale) -> Figure:
    return Rates(
        *in_turns(scale.rounds, lambda: steps("ours", flags, scale), lambda: steps(peer, flags, scale))
    ).figure(what, goal, "redraft", what.partition(",")[0])


def steps(side: str, flags: tuple[str, ...], scale: Scale) -> tuple[int, float]:
    """Return the tokens (without padding) and the seconds of the steps of a side.

    Raises:
        RuntimeError: The process failed. The message contains its output.
    """
    work = scale.work
    places = ["--model", work / "model", "--data", work / "chains.jsonl", "--work", work]
    numbers = ["--steps", scale.steps, "--rows", ROWS, "--tokens", TOKENS // scale.shrink]
    command = [sys.executable, SCRIPT, side, *places, *numbers, *flags]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{side} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    remove(work / side)
    return found["tokens"], found["seconds"]
