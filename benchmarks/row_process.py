"""Measure the cost of the command itself: its memory over many prompts, and the time of short commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median

from measure import Figure, Goal, Row, Size, over
from weights_run import MB, run_command

MEMORY = "memory of redraft answer over {many:,} prompts (scripted engine)"
MEMORY_HOW = (
    "The real command as a process, in prompted mode, eight chains at a time. Each chain is an answer, a "
    "criticism and a revision from a script. The peak is the kernel's own (`VmHWM`). Flat means that a "
    "further prompt needs almost no memory, so {few:,} prompts are measured too."
)
REPLIES = (
    {"settings": {"chunk": 200}},
    "A lighthouse is a tower with a lamp at its top, which shows ships the way at night.",
    "The answer says nothing about the coast. Revision is needed.",
    "A lighthouse is a tower on the coast, whose lamp shows ships the way at night.",
)
START = "wall time of a new process, in turn"
START_HOW = "`python -c '{}'` and `llm` with llm-echo, which runs no model either, are there to compare."
MYPY = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", os.devnull]  # nothing cached
BARE, USE = "import httpx, pydantic", "import redraft; redraft.revise"
GOALS = (None, None, 0.12, 0.08, 0.25, 0.45, 0.9, 25.0)  # seconds, by command
USER = """import redraft

chain = redraft.revise("Describe a lighthouse.", model="default", checks=["words<=30"])
print(chain.answer, chain.passed, chain.revisions)
for step in chain.steps:
    print(step.answer, step.criticism)
    if step.feedback:
        print(step.feedback.verdict)
words: int = len(chain.answer.split())
print(words)
"""
AGAIN = "the first answer of a loaded model, of 48 tokens, over the second"
ANSWERS = """
import asyncio, time, redraft
from redraft.engines.load import load_engine
async def main():
    engine = await load_engine("default")
    for asked in ("Describe a lighthouse.", "Describe a river."):
        start = time.perf_counter()
        await redraft.arevise(asked, model=engine, max_tokens=48, temperature=0.0)
        print(time.perf_counter() - start)
    await engine.aclose()
asyncio.run(main())
"""


def run_memory(size: Size) -> Row:
    few, many = size.prompts
    peaks = {count: answer_peak(count) for count in (few, many)}
    growth = (peaks[many][0] - peaks[few][0]) / (many - few) * 1e6
    figures = (
        Figure(f"{many:,} prompts", (peaks[many][0],), "MB", Goal("≤", 150.0), _pace(many, peaks[many][1])),
        Figure(f"{few:,} prompts", (peaks[few][0],), "MB", None, _pace(few, peaks[few][1])),
    )
    note = f"Memory grows by {growth:.0f} bytes a prompt."
    return Row(MEMORY.format(many=many), MEMORY_HOW.format(few=few), figures, (note,))


def _pace(count: int, seconds: float) -> str:
    return f"{count / seconds:,.0f} chains/s"


def answer_peak(
    count: int, replies: Sequence[object] = REPLIES, *, revisions: int = 1
) -> tuple[float, float]:
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


def run_start(size: Size) -> Row:
    named = partial(tempfile.NamedTemporaryFile, "w")
    with named(suffix=".jsonl") as script, named(suffix=".py") as user:
        print(json.dumps(REPLIES[1]), file=script, flush=True)
        print(USER, file=user, end="", flush=True)
        redraft, ask = [sys.executable, "-m", "redraft"], ["ask", "Name a colour."]
        commands = {
            BARE: [sys.executable, "-c", BARE],
            "llm, echo": ["llm", "-m", "echo", "--no-log", "Name a colour."],
            "--help": [*redraft, "--help"],
            "-V": [*redraft, "-V"],
            USE: [sys.executable, "-c", USE],
            "ask, a script": [*redraft, *ask, "-m", f"script:{script.name}"],
            "ask, one token": [*redraft, *ask, "--max-tokens", "1"],
            "mypy --strict of ten lines": [*MYPY, user.name],
        }
        rounds = [[*map(seconds_of, commands.values())] for _ in range(size.rounds + 1)][1:]
    figures = []
    for what, most, times in zip(commands, GOALS, zip(*rounds, strict=True), strict=True):
        sides = f"{median(over(times, [each[0] for each in rounds])):.2f}× the bare import"
        figures.append(Figure(what, times, "s", most and Goal("≤", most), sides))
    ratios = tuple(first / second for first, second in (answers() for _ in range(size.rounds)))
    return Row(START, START_HOW.format(BARE), (*figures, Figure(AGAIN, ratios, "×", Goal("≤", 1.3))))


def answers() -> list[float]:
    done = subprocess.run([sys.executable, "-c", ANSWERS], stdout=subprocess.PIPE, text=True, check=True)
    return [*map(float, done.stdout.split())]


def seconds_of(command: list[str]) -> float:
    start = time.perf_counter()
    nowhere = subprocess.DEVNULL
    done = subprocess.run(command, stdin=nowhere, stdout=nowhere, stderr=nowhere, check=False)
    assert done.returncode in (0, 1), command
    return time.perf_counter() - start
