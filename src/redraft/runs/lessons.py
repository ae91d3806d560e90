"""What the ways of writing came to in a run: mode `adaptive` learns from it (`revision.choose`).

What a chain is told depends neither on speed nor on stops. The records are in blocks, in the order of the
file. A chain is told of every block but its own and the one before, and waits until these are done.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from redraft.chain import Chain
from redraft.revision.choose import Counts, counts_of

BLOCK = 64
"""Records of a block; more if more are made at once. A choice: a run of 200 learns, and a chain waits for
another only if that took longer than 64 others."""


class Lessons:
    """Counts over the chains of a run. Records are numbered from 0."""

    def __init__(self, parallel: int) -> None:
        self._size = max(BLOCK, parallel)
        self._found: dict[str, Counts] = {}  # of chains that an earlier run made, by id
        self._blocks: defaultdict[int, dict[str, Counts]] = defaultdict(dict)
        self._sums: list[Counts] = [{}]
        self._open: Counter[int] = Counter()
        self._closed = asyncio.Event()

    def found(self, chain: Chain) -> None:
        """Take a chain that an earlier run made."""
        if counts := counts_of(chain.steps):
            self._found[chain.id] = counts

    def place(self, number: int, item_id: str) -> None:
        """Say which record has an id, before those after it begin."""
        if counts := self._found.pop(item_id, None):
            self._blocks[number // self._size][item_id] = counts

    def add(self, number: int, chain: Chain) -> None:
        """Take a chain of this run, before its record ends."""
        self._blocks[number // self._size][chain.id] = counts_of(chain.steps)

    @asynccontextmanager
    async def told(self, number: int) -> AsyncGenerator[Counts]:
        """Yield the counts that the chain of a record is told. Records begin in order."""
        block = number // self._size
        self._open[block] += 1
        try:
            while any(each < block - 1 for each in self._open):
                self._closed.clear()
                await self._closed.wait()
            yield self._sum(block)
        finally:
            self._open -= Counter([block])  # without it at 0
            self._closed.set()

    def _sum(self, block: int) -> Counts:
        """Return the counts of all blocks that the chains of a block are told of."""
        while len(self._sums) <= block:
            total = dict(self._sums[-1])
            for counts in self._blocks.pop(len(self._sums) - 2, {}).values():
                for way, (passed, tried) in counts.items():
                    before = total.get(way, (0, 0))
                    total[way] = (before[0] + passed, before[1] + tried)
            self._sums.append(total)
        return self._sums[block]
