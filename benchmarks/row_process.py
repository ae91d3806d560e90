"""What the command itself costs, without a model: memory over many prompts, and the time of `--help`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from measure import Figure, Goal, Row, Size
from weights_run import MB, run_command

MEMORY = "memory of redraft answer over {many:,} prompts (scripted engine)"
MEMORY_HOW = (
    "The real command in a process of its own, prompted mode, eight at a time: each chain is an answer, a "
    "criticism and a revision out of a script. The peak is the kernel's own (`VmHWM`). Flat means that a "
    "prompt more costs next to nothing: {few:,} prompts are measured too."
)
REPLIES = (
    {"settings": {"chunk": 200}},
    "A lighthouse is a tower with a lamp at its top, which shows ships the way at night.",
    "The answer says nothing about the coast. Revision is needed.",
    "A lighthouse is a tower on the coast, whose lamp shows ships the way at night.",
)
HELP = "redraft --help, wall time"
HELP_HOW = "A new process each time, after one that is not counted."


def run_memory(size: Size) -> Row:
    """Measures the peak memory with few and with many prompts."""
    few, many = size.prompts
    peaks = {count: answer_peak(count) for count in (few, many)}
    growth = (peaks[many][0] - peaks[few][0]) / (many - few) * 1e6
    figures = (
        Figure(f"{many:,} prompts", (peaks[many][0],), "MB", Goal("≤", 150.0), _pace(many, peaks[many][1])),
        Figure(f"{few:,} prompts", (peaks[few][0],), "MB", None, _pace(few, peaks[few][1])),
    )
    note = f"Between the two, {growth:.0f} bytes a prompt."
    return Row(MEMORY.format(many=many), MEMORY_HOW.format(few=few), figures, (note,))


def _pace(count: int, seconds: float) -> str:
    return f"{count / seconds:,.0f} chains/s"


def answer_peak(
    count: int, replies: Sequence[object] = REPLIES, *, revisions: int = 1
) -> tuple[float, float]:
    """Peak memory of `redraft answer` over so many prompts, in MB (10⁶ bytes), and its seconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script, prompts, out = folder / "script.jsonl", folder / "prompts.jsonl", folder / "out.jsonl"
        script.write_text("".join(json.dumps(reply) + "\n" for reply in replies), "utf-8")
        with prompts.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"prompt": f"Describe lighthouse {n}."}) + "\n" for n in range(count))
        took = run_command(
            [
                *(sys.executable, "-m", "redraft", "answer", str(prompts), "-o", str(out), "--quiet"),
                *("-m", f"script:{script}", "--max-revisions", str(revisions), "--parallel", "8"),
            ]
        )
        with out.open("rb") as file:
            written = sum(1 for _ in file)
        assert written == count, f"{written} chains of {count} prompts"
    return took.resident / MB, took.seconds


def run_help(size: Size) -> Row:
    """Measures how long the help takes to come."""
    script = Path(sys.executable).with_name("redraft")
    command = [str(script)] if script.exists() else [sys.executable, "-m", "redraft"]
    times = [help_seconds(command) for _ in range(2 * size.rounds + 1)][1:]
    return Row(HELP, HELP_HOW, (Figure("--help", tuple(times), "s", Goal("≤", 0.4)),))


def help_seconds(command: list[str]) -> float:
    """How long one `--help` takes."""
    start = time.perf_counter()
    subprocess.run([*command, "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start
