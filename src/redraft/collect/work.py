"""Spreads work on many records over processes, in order and in bounded memory.

Results come in the order of the records whatever the number of processes, so that a run with one and a run
with eight write the same bytes.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

BATCH = 64
"""Records that go to a process at a time: sending them one by one would cost more than most work on them."""

BATCH_BYTES = 1 << 20
"""Bytes of records at which a batch is closed, however few they are: some have megabytes of tests."""

WAITING = 4
"""Batches a process that may be under way: what bounds the memory."""


def spread(function: Callable[[T], R], items: Iterable[T], workers: int = 1) -> Iterator[R]:
    """The function's result for each item, in the items' order.

    Args:
        function: What to do; with several workers a function of a module, or a `partial` of one.
        items: Read as they are needed.
        workers: Processes. With one, the work is done in this process.

    Raises:
        Exception: Whatever the function raises, at its item's place.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        waiting: deque[Future[list[R]]] = deque()
        try:
            for batch in _batches(items):
                waiting.append(pool.submit(_each, function, batch))
                if len(waiting) >= WAITING * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def all_cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _each(function: Callable[[T], R], batch: list[T]) -> list[R]:
    return [function(item) for item in batch]


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    batch: list[T] = []
    size = 0
    for item in items:
        batch.append(item)
        size += _bytes_in(item)
        if len(batch) >= BATCH or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _bytes_in(item: object) -> int:
    """Bytes of what is not decoded yet: a record, or several. Other values are taken to be small."""
    if isinstance(item, bytes):
        return len(item)
    return sum(map(_bytes_in, item)) if isinstance(item, tuple) else 0
