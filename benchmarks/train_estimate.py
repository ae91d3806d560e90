"""How near the estimate of a run's memory comes to what the run then takes, in four settings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from material import default_model
from measure import Figure, Goal, Row
from train_material import Scale
from weights_run import remove, weights

MEASURE = "memory estimate against measured peak, four settings"
HOW = (
    "The default model's shapes with random weights, in a process of its own a setting. The estimate is made "
    "before the first step, as in a run (`redraft.train.memory`); then four steps of AdamW are made on "
    "batches of that many tokens, half of them with loss, as packed rows are. Measured is the most memory of "
    "the whole process that was resident (`VmHWM`), or, with a GPU, the most that torch allocated there. The "
    "figure is the difference, without its sign, over what was measured."
)
WITHIN = Goal("≤", 15.0)
SCRIPT = Path(__file__).with_name("train_estimate_run.py")
SETTINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("all weights, float32, 4 × 256 tokens", ("--dtype=float32", "--rows=4", "--tokens=256")),
    (
        "all weights, bfloat16, two batches a step of 4 × 256 tokens",
        ("--dtype=bfloat16", "--rows=4", "--tokens=256", "--times=2"),
    ),
    ("an adapter on bfloat16, 4 × 512 tokens", ("--dtype=bfloat16", "--lora", "--rows=4", "--tokens=512")),
    (
        "an adapter on bfloat16, activation checkpointing, 8 × 512 tokens",
        ("--dtype=bfloat16", "--lora", "--again", "--rows=8", "--tokens=512"),
    ),
)


def run(scale: Scale) -> Row:
    """Measures the row."""
    model = scale.work / "model"
    weights("from-gguf", default_model(), "-o", model)
    figures = tuple(_figure(what, measured(model, flags)) for what, flags in SETTINGS)
    remove(model)
    return Row(MEASURE, HOW, figures)


def measured(model: Path, flags: tuple[str, ...]) -> dict[str, Any]:
    """What a setting was estimated to take, and what it took: `plan`, `parts` and `took`, in bytes."""
    command = [sys.executable, str(SCRIPT), str(model), *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _figure(what: str, found: dict[str, Any]) -> Figure:
    plan, took = found["plan"], found["took"]
    parts = ", ".join(f"{name} {count / 1e6:,.0f}" for name, count in found["parts"].items())
    sides = f"estimated {plan / 1e6:,.0f} MB ({parts}); took {took / 1e6:,.0f} MB"
    return Figure(what, (100 * abs(plan - took) / took,), "%", WITHIN, sides)
