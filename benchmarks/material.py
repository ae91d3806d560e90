"""What benchmarks work on: questions, data, the default model, and how much of one text another copies."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measure import Size
from redraft.engines.llamacpp.engine import LlamaCppEngine
from redraft.engines.load import local_file, parse_reference
from redraft.options import MachineOptions

QUESTIONS = Path(__file__).with_name("questions.txt").read_text("utf-8").splitlines()
"""Forty everyday questions, written for this."""
SHARED = Path(os.environ.get("REDRAFT_SHARED") or Path(__file__).resolve().parents[2] / "shared")
MISSING = "Not measured: the shared data is not here; set REDRAFT_SHARED."


def shared() -> Path | None:
    """The folder of the shared data, if it is there."""
    folder = SHARED / "data"
    return folder if folder.is_dir() else None


def records(most: int | None = None) -> list[dict[str, Any]]:
    """The first records of IFEval; all by default."""
    path = SHARED / "data" / "constraints" / "ifeval_541.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()[:most]]


def default_model() -> Path:
    """The file of the default model.

    Raises:
        ModelError: It was not fetched yet.
    """
    return local_file(parse_reference("default"))


async def start_engine(size: Size, *, parallel: int, speculate: bool | None) -> LlamaCppEngine:
    """The default model, with so many streams at once."""
    return await LlamaCppEngine.start(
        default_model(), parallel=parallel, machine=MachineOptions(speculate=speculate, threads=size.threads)
    )


def copied_share(text: Sequence[int], source: Sequence[int], n: int = 4) -> float:
    """Share of a text's tokens, 0 to 1, that lie in a run of `n` tokens which the source has too."""
    runs = {tuple(source[i : i + n]) for i in range(len(source) - n + 1)}
    copied: set[int] = set()
    for i in range(len(text) - n + 1):
        if tuple(text[i : i + n]) in runs:
            copied.update(range(i, i + n))
    return len(copied) / len(text) if text else 0.0
