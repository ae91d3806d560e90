"""Measure the peak memory of a training step, beside a step that keeps the logits of all tokens."""

from __future__ import annotations

import sys
from pathlib import Path

from material import default_model
from measure import Figure, Goal, Row
from train_material import ALLOCATOR, Scale
from weights_run import MB, remove, run_command, weights

MEASURE = "peak memory of a step at batch 8 × 1,024 tokens, vocabulary 49,152"
HOW = (
    "The default model's shapes with random weights, in one process per side. A short step first creates "
    "the gradients and the state of AdamW. Then comes a step of 8 examples of 1,024 tokens, all with loss, "
    "and with activation checkpointing. The figure is the peak anonymous memory of the whole process "
    "(`RssAnon` and `RssShmem`, read every 10 ms): weights, gradients, optimizer, activations and all of "
    "Python. Both sides configure memory like `redraft train` ({allocator}). Without this, the holes of the "
    "heap, which both sides have, are half of the figure. The peer is transformers' own loss, from all "
    "logits."
)
ROWS, TOKENS = 8, 1024
SCRIPT = Path(__file__).with_name("train_memory_run.py")
KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("all weights, float32", ("--dtype", "float32")),
    ("all weights, bfloat16", ("--dtype", "bfloat16")),
    ("an adapter on bfloat16", ("--dtype", "bfloat16", "--lora")),
)


def run(scale: Scale) -> Row:
    model = scale.work / "model"
    weights("from-gguf", default_model(), "-o", model)
    figures = []
    for what, flags in KINDS:
        ours, whole = (peak(model, side, flags, TOKENS // scale.shrink) for side in ("ours", "whole"))
        sides = f"redraft {ours / MB:,.0f} MB; all logits {whole / MB:,.0f} MB"
        figures.append(Figure(what, (ours / whole,), "×", Goal("≤", 0.5), sides))
    remove(model)
    return Row(MEASURE, HOW.format(allocator=", ".join(ALLOCATOR)), tuple(figures))


def peak(model: Path, side: str, flags: tuple[str, ...], tokens: int) -> int:
    size = ["--rows", str(ROWS), "--tokens", str(tokens)]
    command = [sys.executable, str(SCRIPT), str(model), side, *flags, *size]
    return run_command(["env", *ALLOCATOR, *command]).anonymous
