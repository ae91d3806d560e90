"""Material of benchmarks: questions, data, the default model, and a measure of copied text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from measure import NotMeasured, Size
from redraft.chain import read_jsonl
from redraft.engines.llamacpp.engine import LlamaCppEngine
from redraft.engines.load import local_file, parse_reference
from redraft.options import MachineOptions

QUESTIONS = Path(__file__).with_name("questions.txt").read_text("utf-8").splitlines()
"""Forty everyday questions, written for the benchmarks."""
SHARED = Path(os.environ.get("REDRAFT_SHARED") or Path(__file__).resolve().parents[2] / "shared")


def shared() -> Path:
    """Return the folder of the shared data.

    Raises:
        NotMeasured: The folder is missing.
    """
    folder = SHARED / "data"
    if not folder.is_dir():
        raise NotMeasured("the folder of shared data is missing: set REDRAFT_SHARED.")
    return folder


def records(most: int | None = None) -> list[dict[str, Any]]:
    path = SHARED / "data" / "constraints" / "ifeval_541.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()[:most]]


def questions(count: int) -> list[str]:
    return [QUESTIONS[number % len(QUESTIONS)] for number in range(count)]


def write_prompts(path: Path, prompts: Iterable[str]) -> Path:
    path.write_text("".join(json.dumps({"prompt": each}) + "\n" for each in prompts), "utf-8")
    return path


def answered(prompts: Path, *words: object) -> tuple[int, float]:
    """Run `redraft answer` on a file of prompts with these flags.

    Return the chains' new tokens, and the lifetime of the process in seconds.
    """
    out = prompts.with_name("chains.jsonl")
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", "redraft", "answer", prompts, "-o", out, "--quiet", *words]
    start = time.perf_counter()
    ended = subprocess.run([str(word) for word in command], check=False)
    seconds = time.perf_counter() - start
    assert ended.returncode <= 1  # 1: some chain did not pass, or had no room for its revision
    chains = list(read_jsonl(out))
    assert len(chains) == len(prompts.read_bytes().splitlines())
    return sum(chain.usage.completion_tokens for chain in chains), seconds


def printed(script: str, *words: object) -> str:
    command = [sys.executable, str(Path(__file__).with_name(script)), *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def default_model() -> Path:
    """Return the path of the default model.

    Raises:
        ModelError: The model was not fetched yet.
    """
    return local_file(parse_reference("default"))


async def start_engine(size: Size, *, parallel: int, speculate: bool | None) -> LlamaCppEngine:
    return await LlamaCppEngine.start(
        default_model(), parallel=parallel, machine=MachineOptions(speculate=speculate, threads=size.threads)
    )


def copied_share(text: Sequence[int], source: Sequence[int], n: int = 4) -> float:
    runs = {tuple(source[i : i + n]) for i in range(len(source) - n + 1)}
    copied: set[int] = set()
    for i in range(len(text) - n + 1):
        if tuple(text[i : i + n]) in runs:
            copied.update(range(i, i + n))
    return len(copied) / len(text) if text else 0.0
