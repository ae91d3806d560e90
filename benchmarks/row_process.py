"""What the command itself costs, without a model: memory over many prompts, and how fast commands and answers start."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from statistics import median

from measure import Figure, Goal, NotMeasured, Row, Size, over
from redraft import arevise, load_engine
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
START = "start: wall time of a new process"
START_HOW = (
    "Each command in turn, after one round that is not counted; {bare} alone takes {seconds:.2f} s, and the "
    "ratios are to it. The peer is `llm` with its plugin `llm-echo`, which answers without a model, too."
)
BARE, USE = "import httpx, pydantic", "import redraft; redraft.revise"
GOALS = {
    "--help": 0.12,
    "-V": 0.08,
    USE: 0.25,
    "ask, scripted model": 0.45,
    "ask, default model, one token": 0.9,
}
FIRST = "the first answer of a loaded model over the second"
FIRST_HOW = (
    "48 tokens for two prompts of one length, greedily; the default model is loaded anew for each pair."
)


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


def run_start(size: Size) -> Row:
    """Measures how long commands take, from the start of their process to its end."""
    if (llm := shutil.which("llm")) is None:
        raise NotMeasured("pip install llm llm-echo, and put it on the PATH")
    with tempfile.TemporaryDirectory() as name:
        script = Path(name) / "script.jsonl"
        script.write_text(json.dumps(REPLIES[1]), "utf-8")
        redraft = [sys.executable, "-m", "redraft"]
        ask = [*redraft, "ask", "Name a colour.", "--max-tokens", "1"]
        commands = {
            BARE: [sys.executable, "-c", BARE],
            **{word: [*redraft, word] for word in ("--help", "-V")},
            USE: [sys.executable, "-c", USE],
            "ask, scripted model": [*redraft, "ask", "Name a colour.", "-m", f"script:{script}"],
            "ask, default model, one token": ask,
            "llm --help": [llm, "--help"],
            "llm, echo": [llm, "-m", "echo", "--no-log", "Name a colour."],
        }
        rounds = [
            {what: seconds_of(words) for what, words in commands.items()} for _ in range(2 * size.rounds + 1)
        ]
    times = {what: tuple(each[what] for each in rounds[1:]) for what in commands}
    bare = times.pop(BARE)
    figures = [
        Figure(what, found, "s", Goal("≤", GOALS[what]) if what in GOALS else None, _over(found, bare))
        for what, found in times.items()
    ]
    return Row(START, START_HOW.format(bare=BARE, seconds=median(bare)), tuple(figures))


def _over(times: Sequence[float], bare: Sequence[float]) -> str:
    return f"{median(over(times, bare)):.2f}× a bare import"


def seconds_of(command: Sequence[str]) -> float:
    """How long one command takes."""
    start = time.perf_counter()
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
    return time.perf_counter() - start


def run_first(size: Size) -> Row:
    """Measures whether the first answer of a loaded model waits for what the second does not."""
    ratios = tuple(asyncio.run(_first_over_second()) for _ in range(size.rounds))
    return Row(FIRST, FIRST_HOW, (Figure("default model", ratios, "×", Goal("≤", 1.3)),))


async def _first_over_second() -> float:
    seconds = []
    async with aclosing(await load_engine("default")) as engine:
        for word in ("lighthouse", "waterwheel"):
            start = time.perf_counter()
            await arevise(f"Describe a {word}.", model=engine, temperature=0, max_tokens=48)
            seconds.append(time.perf_counter() - start)
    return seconds[0] / seconds[1]
