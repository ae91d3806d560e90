"""Measure the cost of orchestration: CPU time per call, beside a bare loop of httpx, and memory."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable

from generate_job import working
from measure import Figure, Goal, Row, in_turns, over
from row_process import answer_peak
from teacher import Teacher

PARALLEL = 50
OVERHEAD = "CPU time of a call, beside a bare loop of httpx"
OVERHEAD_HOW = (
    "The stand-in teacher has 50 ms latency, and {parallel} calls are made at once. Ours is `redraft answer "
    "--cache`, one call a chain; theirs is one httpx client that streams the same requests and decodes each "
    "event. The figure is the CPU time of the whole process for {many:,} calls minus that for {few:,}, per "
    "call. {rounds} pairs in turn."
)
MEMORY_HOW = (
    "The real command as a process, with a scripted engine, one call a chain, eight at a time. The peak is "
    "the kernel's own (`VmHWM`). Flat means that a further prompt needs almost no memory."
)


def overhead(calls: int, rounds: int) -> Row:
    few = calls // 5
    with Teacher(delay=0.05) as teacher:

        def each(measure: Callable[[Teacher, int], float]) -> float:
            return 1000 * (measure(teacher, calls) - measure(teacher, few)) / (calls - few)

        ours, theirs = in_turns(rounds, lambda: each(_ours), lambda: each(_theirs))
    figures = (
        Figure("redraft, CPU time a call", tuple(ours), "ms", Goal("≤", 3.0)),
        Figure("redraft over bare httpx", over(ours, theirs), "×", Goal("≤", 3.0)),
        Figure("bare httpx, CPU time a call", tuple(theirs), "ms"),
    )
    return Row(OVERHEAD, OVERHEAD_HOW.format(parallel=PARALLEL, many=calls, few=few, rounds=rounds), figures)


def _ours(teacher: Teacher, calls: int) -> float:
    with working(calls) as job:
        run = job.run(teacher, "--parallel", str(PARALLEL), "--max-revisions", "0", *job.cache())
        assert run.status == 0, run
        return run.cpu


def _theirs(teacher: Teacher, calls: int) -> float:
    command = [sys.executable, __file__, teacher.url, str(calls)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


async def bare(url: str, calls: int) -> None:
    import httpx

    numbers = iter(range(calls))

    async def worker() -> None:
        for number in numbers:
            message = {"role": "user", "content": f"Describe lighthouse {number}."}
            body = {"model": "teacher", "messages": [message], "stream": True, "max_tokens": 2048}
            async with client.stream("POST", f"{url}/chat/completions", json=body) as response:
                lines = [line async for line in response.aiter_lines() if line.startswith("data: {")]
            choices = [json.loads(line.removeprefix("data: "))["choices"] for line in lines]
            assert [choice["delta"].get("content", "") for each in choices for choice in each]

    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=None), timeout=60) as client:
        await asyncio.gather(*(worker() for _ in range(PARALLEL)))


def memory(prompts: int, _: int) -> Row:
    reply = ["A tower with a lamp at its top."]
    many, few = (answer_peak(count, reply, revisions=0)[0] for count in (prompts, prompts // 10))
    figures = (
        Figure(f"{prompts:,} prompts", (many,), "MB", Goal("≤", 300.0)),
        Figure(f"{prompts // 10:,} prompts", (few,), "MB"),
    )
    note = f"Memory grows by {(many - few) / (prompts - prompts // 10) * 1e6:.0f} bytes a prompt."
    return Row("memory of redraft answer over many prompts", MEMORY_HOW, figures, (note,))


if __name__ == "__main__":
    asyncio.run(bare(sys.argv[1], int(sys.argv[2])))
    print(time.process_time())
