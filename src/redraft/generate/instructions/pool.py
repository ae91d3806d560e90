"""The pool of instructions: seeds, and what requests added. A new one has to differ from all of them.

What a request shows of the pool does not depend on how fast others are: it shows seeds, and tasks of requests
at least `LAG` before it. Nor does what is kept: requests are judged in the order of their numbers (`Turns`).
So the same replies give the same output, for any number of requests at once and after any stop.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections.abc import Container, Sequence
from math import inf
from random import Random

from redraft.collect.dedupe.similarity import Pool
from redraft.generate.instructions.rules import Fault
from redraft.generate.instructions.tasks import Task

LAG = 32
"""A request shows no tasks of the 32 requests before it, so up to 32 can be made at once without waiting."""


class TaskPool:
    """Instructions that were generated, and the seeds.

    Args:
        seeds: The tasks to begin with.
        wanted: How many instructions are wanted, seeds not counted.
        similar: Instructions with a larger ROUGE-L F are not new.

    Attributes:
        kept: How many instructions are kept.
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
        """How many instructions are still wanted."""
        return max(self.wanted - self.kept, 0)

    def add(self, instruction: str) -> None:
        """Add an instruction without comparing it."""
        self._near.add(instruction)
        self._texts.append(instruction)

    def claim(self, instruction: str) -> tuple[Fault, str] | None:
        """Add an instruction, or return the fault that it is not new, and the nearest instruction."""
        near = self._near.nearest(instruction)
        if near is None:
            self.add(instruction)
            return None
        return Fault("similar", f"a ROUGE-L of {near.score:.2f} with another"), self._texts[near.place]

    def keep(self, request: int, number: int, instruction: str) -> None:
        """Note that an instruction of the pool is kept, with its request and its place there."""
        insort(self._made, (request, number, instruction))
        self.kept += 1

    def made_before(self, request: int, most: int, rng: Random) -> list[str]:
        """Draw kept instructions of requests that are at least `LAG` before this one."""
        ready = bisect_left(self._made, (request - LAG + 1,))
        return [self._made[i][2] for i in rng.sample(range(ready), min(most, ready))]


def drawn(tasks: Sequence[Task], most: int, rng: Random) -> list[Task]:
    """Draw different tasks."""
    return rng.sample(tasks, min(most, len(tasks)))


class Turns:
    """Let numbered requests pass in the order of their numbers.

    Args:
        before: Ids of requests that passed in earlier runs: their numbers as texts.

    Attributes:
        next: The first request that has not passed.
    """

    def __init__(self, before: Container[str] = ()) -> None:
        self._before, self._over, self.next, self._end = before, set[int](), 0, inf
        self._moved = asyncio.Event()
        self._advance()

    async def wait(self, number: int) -> bool:
        """Wait for all requests before this one. Return False if one of them is left to a later run."""
        while self.next < number <= self._end:
            await self._moved.wait()
        return number <= self._end

    @property
    def is_ended(self) -> bool:
        """Whether some requests are left to a later run."""
        return self._end < inf

    def passed(self, number: int) -> None:
        """Let a request pass, whether it was made or failed. It may pass twice."""
        self._over.add(number)
        self._advance()

    def ended(self, number: int) -> None:
        """Leave a request, and with it all later ones, to a later run."""
        self._end = min(self._end, number)
        self._advance()

    def _advance(self) -> None:
        while self.next in self._over or str(self.next) in self._before:
            self._over.discard(self.next)
            self.next += 1
        self._moved.set()
        self._moved = asyncio.Event()
