"""Whether packed rows have the loss of their parts, and a stopped run the losses of one that was not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from material import default_model, shared
from measure import Figure, Goal, Row
from train_material import Chains, Scale, write_chains
from weights_run import remove, run_command, weights

PACKED = "loss of packed rows minus loss of their parts"
HOW_PACKED = (
    "The default model in 32 bits, on chains with SelFee's mix of lengths (`train_material.py`), packed into "
    "rows of {tokens:,} tokens. A packed row goes through redraft's attention and loss. Its parts go one by "
    "one through transformers' own model, with the attention that it has by itself, and their loss is taken "
    "from all logits, in 64 bits. Compared are nats a trained token of each row; the figure is the largest "
    "difference, of {rows}."
)
RESUMED = "resume in the middle, against an unbroken run: loss curve"
HOW_RESUMED = (
    "`redraft train sft` on the same chains: an adapter of the default model in 32 bits, {steps} steps of a "
    "row of {tokens:,} tokens. One run is left alone. The other gets SIGTERM once step {stop} is done, "
    "saves, ends with 75, and the same command is typed again. Compared are the losses that both wrote down, "
    "to the last digit, and the bytes of the adapters."
)
EXACT, SAME = Goal("≤", 1e-5), Goal("≤", 0.0)
SCRIPT = Path(__file__).with_name("train_exact_run.py")
TOKENS, RECORDS, PACKED_ROWS = 2048, 60, 6
STEPS, STOP, RUN_TOKENS = 8, 3, 512
"""Of the run that is stopped: all its steps, after which one, and the tokens of a row."""
AGAIN = 75


def run_packed(scale: Scale) -> Row:
    """Measures the loss of packed rows."""
    tokens = TOKENS // scale.shrink
    how = HOW_PACKED.format(tokens=tokens, rows=PACKED_ROWS)
    _material(scale)
    out = scale.work / "losses.json"
    places = ("--model", scale.work / "model", "--data", scale.work / "chains.jsonl", "--out", out)
    numbers = ("--tokens", tokens, "--rows", PACKED_ROWS)
    run_command([sys.executable, str(SCRIPT), *map(str, (*places, *numbers))])
    rows: list[dict[str, Any]] = json.loads(out.read_bytes())
    _clean(scale, "losses.json", "losses.cache")
    largest = max(abs(row["packed"] - row["parts"]) for row in rows)
    sides = ", ".join(f"{row['examples']} examples of {row['parts']:.4f}" for row in rows)
    return Row(PACKED, how, (Figure("largest of all rows", (largest,), "nats", EXACT, sides),))


def run_resumed(scale: Scale) -> Row:
    """Measures a run that was stopped."""
    tokens = max(RUN_TOKENS // scale.shrink, 256)  # in fewer, most chains have no room for an answer
    how = HOW_RESUMED.format(steps=STEPS, tokens=tokens, stop=STOP)
    _material(scale)
    whole, stopped = scale.work / "whole", scale.work / "stopped"
    train(scale, whole, tokens)
    stop_after = train(scale, stopped, tokens, stop=STOP)
    train(scale, stopped, tokens)
    ours, theirs = losses(stopped), losses(whole)
    differ = sum(a != b for a, b in zip(ours, theirs, strict=True))
    adapters = [(folder / "adapter_model.safetensors").read_bytes() for folder in (whole, stopped)]
    _clean(scale, *(name for each in ("whole", "stopped") for name in (each, f"{each}.run.json")), "cache")
    figures = (
        Figure("losses", (differ,), "differ", SAME, f"{len(ours)} steps, stopped after step {stop_after}"),
        Figure("adapters", (float(adapters[0] != adapters[1]),), "differ", SAME),
    )
    return Row(RESUMED, how, figures, (f"Losses of the run that was stopped: {', '.join(map(str, ours))}.",))


def _material(scale: Scale) -> None:
    """Makes the model's folder and the chains."""
    chains = Chains(shared())
    weights("from-gguf", default_model(), "-o", scale.work / "model", "--dtype", "fp32")
    write_chains(scale.work / "chains.jsonl", chains, RECORDS)


def _clean(scale: Scale, *names: str) -> None:
    for name in ("model", "chains.jsonl", *names):
        remove(scale.work / name)


def train(scale: Scale, output: Path, tokens: int, *, stop: int | None = None) -> int:
    """Trains as a user would, to the end, or until a signal that comes once so many steps are done.

    Returns:
        The steps that are done.

    Raises:
        RuntimeError: It ended with another status than it should have.
    """
    command = [sys.executable, "-m", "redraft", "train", "sft", *map(str, _words(scale, output, tokens))]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        if stop is not None:
            while process.poll() is None and len(losses(output)) < stop:
                time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
        _, said = process.communicate()
    if process.returncode != (0 if stop is None else AGAIN):
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{said[-2000:]}")
    return len(losses(output))


def _words(scale: Scale, output: Path, tokens: int) -> Sequence[object]:
    return (
        *("--model_name_or_path", scale.work / "model", "--data_path", scale.work / "chains.jsonl"),
        *("--output_dir", output, "--cache_dir", scale.work / "cache", "--model_max_length", tokens),
        *("--per_device_train_batch_size", 1, "--max_steps", STEPS, "--lora", True),
        *("--dtype", "float32", "--bf16", False, "--quiet"),
    )


def losses(output: Path) -> list[float]:
    """The losses of all steps that a run has done so far."""
    log = output / "log.jsonl"
    lines = log.read_bytes().splitlines(keepends=True) if log.exists() else []
    return [json.loads(line)["loss"] for line in lines if line.endswith(b"\n")]
