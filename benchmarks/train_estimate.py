"""How near the estimate of a run's memory comes to what the run then takes, in four settings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from material import default_model
from measure import Figure, Goal, Row
from train_material import ALLOCATOR, Scale
from weights_run import remove, weights

MEASURE = "memory estimate against measured peak, four settings"
HOW = (
    "The default model's shapes with random weights, in a process of its own a setting. The estimate is made "
    "before the first step, as in a run (`redraft.train.memory`); then four steps of AdamW are made on "
    "batches of that many tokens, half of them with loss, as packed rows are, with memory as `redraft train` "
    "has it ({allocator}). Measured is the most memory of "
    "the whole process that was resident (`VmHWM`), or, with a GPU, the most that torch allocated there. The "
    "figure is the difference, without its sign, over what was measured."
)
WITHIN = Goal("≤", 15.0)
SCRIPT = Path(__file__).with_name("train_estimate_run.py")
SETTINGS: tuple[tuple[str, tuple[str, ...], int, int], ...] = (
    ("all weights, float32", ("--dtype=float32",), 4, 256),
    ("all weights, bfloat16, two batches a step", ("--dtype=bfloat16", "--times=2"), 4, 256),
    ("an adapter on bfloat16, computing in bfloat16", ("--dtype=bfloat16", "--lora", "--bf16"), 4, 512),
    ("an adapter on bfloat16, activation checkpointing", ("--dtype=bfloat16", "--lora", "--again"), 8, 512),
)
"""In words and as flags, with the rows of a batch and their tokens."""


def run(scale: Scale) -> Row:
    """Measures the row."""
    model = scale.work / "model"
    weights("from-gguf", default_model(), "-o", model)
    figures = []
    for what, flags, rows, promised in SETTINGS:
        tokens = promised // scale.shrink
        found = measured(model, (*flags, f"--rows={rows}", f"--tokens={tokens}"))
        figures.append(_figure(f"{what}, {rows} × {tokens} tokens", found))
    remove(model)
    return Row(MEASURE, HOW.format(allocator=", ".join(ALLOCATOR)), tuple(figures))


def measured(model: Path, flags: tuple[str, ...]) -> dict[str, Any]:
    """What a setting was estimated to take, and what it took: `plan`, `parts` and `took`, in bytes."""
    command = ["env", *ALLOCATOR, sys.executable, str(SCRIPT), str(model), *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _figure(what: str, found: dict[str, Any]) -> Figure:
    plan, took = found["plan"], found["took"]
    parts = ", ".join(f"{name} {count / 1e6:,.0f}" for name, count in found["parts"].items())
    sides = f"estimated {plan / 1e6:,.0f} MB ({parts}); took {took / 1e6:,.0f} MB"
    return Figure(what, (100 * abs(plan - took) / took,), "%", WITHIN, sides)
