"""Keep the pool of seed and generated instructions. A new instruction must differ from the whole pool.

A request's examples are seeds and, for Self-Instruct, results of requests with numbers at least `LAG` lower.
Replies are judged in order. So the same replies give the same output, at any parallelism and after any stop.
"""

from __future__ import annotations

import asyncio
import json
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Container, Sequence
from contextlib import AbstractContextManager
from math import inf
from pathlib import Path
from random import Random
from typing import Any

from redraft.data.generate.instructions.rules import Fault
from redraft.data.generate.instructions.tasks import Task
from redraft.data.similarity import Pool
from redraft.jobs.files import replacing
from redraft.jobs.lines import LineFile, own_lines

LAG = 32
"""Generated examples in a request come from at least 32 requests earlier, so 32 requests can run at once."""


class TaskPool:
    """The seeds and the generated instructions. `wanted` is the number of instructions to generate.

    An instruction is new if its ROUGE-L F with each other instruction is at most `similar`.
    """

    def __init__(self, seeds: Sequence[Task], wanted: int, similar: float) -> None:
        self.seeds, self.wanted, self.kept = seeds, wanted, 0
        self._texts: list[str] = []
        self._near = Pool(similar)
        self._made: list[tuple[int, int, str]] = []
        for task in seeds:
            self.add(task.instruction)

    @property
    def missing(self) -> int:
        """The number of instructions still to generate."""
        return max(self.wanted - self.kept, 0)

    @property
    def last(self) -> int:
        """The number of the last request with a kept instruction, or -1."""
        return self._made[-1][0] if self._made else -1

    def add(self, instruction: str) -> None:
        """Add an instruction without a comparison."""
        self._near.add(instruction)
        self._texts.append(instruction)

    def claim(self, instruction: str) -> tuple[Fault, str] | None:
        """If an instruction is new, add it. Otherwise, return a fault and the most similar instruction."""
        if (near := self._near.nearest(instruction)) is None:
            self.add(instruction)
            return None
        return Fault("similar", f"ROUGE-L {near.score:.2f} with another instruction"), self._texts[near.place]

    def keep(self, request: int, number: int, instruction: str) -> None:
        """Record a kept instruction. `number` is its position in the reply to `request`."""
        insort(self._made, (request, number, instruction))
        self.kept += 1

    def made_before(self, request: int, most: int, rng: Random) -> list[str]:
        """Draw up to `most` instructions kept from requests at least `LAG` before `request`."""
        ready = bisect_left(self._made, (request - LAG + 1,))
        return [self._made[i][2] for i in rng.sample(range(ready), min(most, ready))]


def drawn(tasks: Sequence[Task], most: int, rng: Random) -> list[Task]:
    """Draw up to `most` distinct tasks."""
    return rng.sample(tasks, min(most, len(tasks)))


class Turns:
    """Let numbered requests take turns in order. `next` is the lowest number of an unfinished request.

    `before` contains the requests that earlier runs finished: numbers as strings.
    """

    def __init__(self, before: Container[str] = ()) -> None:
        self._before, self._over, self.next, self._end = before, set[int](), 0, inf
        self._moved = asyncio.Event()
        self._advance()

    async def wait(self, number: int) -> bool:
        """Wait for all earlier requests. Return False if an earlier request is left to a later run."""
        while self.next < number <= self._end:
            await self._moved.wait()
        return number <= self._end

    @property
    def is_ended(self) -> bool:
        """Whether this run leaves requests to a later run, because it stopped or needs no more tasks."""
        return self._end < inf

    def passed(self, number: int) -> None:
        """Mark a request as over, after success or failure. A second call does nothing."""
        self._over.add(number)
        self._advance()

    def ended(self, number: int) -> None:
        """Leave a request and all later requests to a later run."""
        self._end = min(self._end, number)
        self._advance()

    def _advance(self) -> None:
        while self.next in self._over or str(self.next) in self._before:
            self._over.discard(self.next)
            self.next += 1
        self._moved.set()
        self._moved = asyncio.Event()


class Rejects(AbstractContextManager["Rejects"]):
    """The rejected tasks of an output, stored in `OUT.rejected.jsonl`. The caller must lock the output.

    If the output is not `complete`, the file loses the rejected tasks of requests that are not in `done`.

    Raises:
        OutputError: The file cannot be written, or contains other records.
    """

    def __init__(self, output: Path, done: Container[str], *, complete: bool = False) -> None:
        self.path = output.with_name(output.name + ".rejected.jsonl")
        self.counts: Counter[str] = Counter()  # by rule
        # Request, position and text of each new instruction whose answers were all rejected.
        self.claimed: list[tuple[int, int, str]] = []
        self._lines: LineFile | None = None
        if self.path.exists():
            with replacing(self.path) as file:
                for record in own_lines(
                    self.path,
                    "rejects",
                    lambda found: found.keys() >= {"rule", "request", "number", "record"},
                ):
                    if complete or str(record["request"]) in done:
                        file.write(f"{_line(record)}\n".encode())
                        self._count(record)

    def _count(self, record: dict[str, Any]) -> None:
        self.counts[str(record["rule"])] += 1
        if record.get("claimed"):
            self.claimed.append((record["request"], record["number"], record["record"]["instruction"]))

    def add(self, *records: dict[str, Any]) -> None:
        """Count and write the rejected tasks of a request."""
        if not records:
            return
        if self._lines is None:
            self._lines = LineFile(self.path, made_up=True)
        self._lines.append(*map(_line, records))
        for record in records:
            self._count(record)

    def __exit__(self, *_: object) -> None:
        if self._lines:
            self._lines.close()


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False)
