"""Measure the preparation of as much data as SelFee's: time, memory, and packing efficiency."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from material import default_model, shared
from measure import Figure, Goal, Row
from train_material import Chains, Scale, write_chains
from weights_run import MB, Took, remove, run_command, weights

HOW = (
    "Chains with SelFee's mix of lengths (`train_material.py`, {size:,.0f} MB), with the default model's "
    "tokenizer, in SelFee's format, objective `accepted`, rows of {tokens:,} tokens. A process imports its "
    "modules, loads the tokenizer, reads and renders records, tokenises them in {workers} processes, and "
    "writes and packs the tokens. Memory is the sum of the peaks of all processes (the kernel's `VmHWM`). "
    "Packing efficiency is the share of positions in rows that have a token; conala and mbpp are the chains "
    "that SelFee released."
)
TOKENS = 2048
TIME, FLAT, FULL = Goal("≤", 180.0), Goal("≤", 100.0), Goal("≥", 98.0)


def run(scale: Scale) -> Row:
    measure = f"preparing {scale.records:,} records for training"
    folder = shared()
    weights("from-gguf", default_model(), "-o", scale.work / "model")
    data, chains = scale.work / "chains.jsonl", Chains(folder)
    write_chains(data, chains, scale.records // 2)
    half, _ = prepare([data], scale)
    size = write_chains(data, chains, scale.records) / MB
    whole, made = prepare([data], scale)
    _, released = prepare(
        [folder / "selfee" / "chains" / f"{name}.jsonl" for name in ("conala", "mbpp")], scale
    )
    for name in ("model", "chains.jsonl", "cache", "prepared.json"):
        remove(scale.work / name)
    sides = f"{made['tokens']:,} tokens, {scale.records / whole.seconds:,.0f} records/s"
    figures = (
        Figure("time", (whole.seconds,), "s", TIME, sides),
        Figure("memory", (whole.resident / MB,), "MB"),
        Figure("memory, of all less of half", ((whole.resident - half.resident) / MB,), "MB", FLAT),
        Figure("packing efficiency", (100 * made["efficiency"],), "%", None, f"{made['rows']:,} rows"),
        Figure("packing efficiency, conala and mbpp", (100 * released["efficiency"],), "%", FULL),
    )
    return Row(measure, HOW.format(size=size, tokens=TOKENS, workers=scale.workers), figures)


def prepare(data: list[Path], scale: Scale) -> tuple[Took, dict[str, Any]]:
    out = scale.work / "prepared.json"
    took = run_command(
        [
            *(sys.executable, str(Path(__file__).with_name("train_prepare_run.py")), *map(str, data)),
            *("--tokenizer", str(scale.work / "model"), "--cache", str(scale.work / "cache")),
            *("--workers", str(scale.workers), "--tokens", str(TOKENS), "--out", str(out)),
        ]
    )
    found: dict[str, Any] = json.loads(out.read_text("utf-8"))
    return took, found
