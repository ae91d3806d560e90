"""Spreads work on many records over processes, in order and in bounded memory.

Results come in the order of the records whatever the number of processes, so that a run with one and a run
with eight write the same bytes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from redraft.errors import RedraftError

T = TypeVar("T")
R = TypeVar("R")

BATCH = 64
"""Records that go to a process at a time: sending them one by one would cost more than most work on them."""

BATCH_BYTES = 1 << 20
"""Bytes of records at which a batch is closed, however few they are: some have megabytes of tests."""

WAITING = 4
"""Batches a process that may be under way."""

WAITING_BYTES = 1 << 26
"""Bytes of records that may be under way, 64 MiB: that bounds the memory. One record may have more."""


def spread(function: Callable[[T], R], items: Iterable[T], workers: int = 1) -> Iterator[R]:
    """The function's result for each item, in the items' order.

    Args:
        function: What to do; with several workers a function of a module, or a `partial` of one.
        items: Read as they are needed.
        workers: Processes. With one, the work is done in this process.

    Raises:
        Exception: Whatever the function raises, at its item's place.
        RedraftError: A process was killed.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_ignore_interrupts) as pool:
        waiting: deque[tuple[Future[list[R]], int]] = deque()
        held = 0

        def first() -> list[R]:
            nonlocal held
            future, size = waiting.popleft()
            held -= size
            return future.result()

        try:
            for batch, size in _batches(items):
                while waiting and held + size > WAITING_BYTES:
                    yield from first()
                waiting.append((pool.submit(_each, function, batch), size))
                held += size
                if len(waiting) >= WAITING * workers:
                    yield from first()
            while waiting:
                yield from first()
        except BrokenProcessPool:
            raise RedraftError(
                "a process was killed while it worked on records; often the memory was full.",
                hint="Use fewer of them: --workers 1",
            ) from None
        finally:
            for future, _ in waiting:
                future.cancel()


def _ignore_interrupts() -> None:
    """Leaves Ctrl-C, which every process is sent, to the one that waits for the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def all_cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _each(function: Callable[[T], R], batch: list[T]) -> list[R]:
    return [function(item) for item in batch]


def _batches(items: Iterable[T]) -> Iterator[tuple[list[T], int]]:
    """Neighbouring items, and how many bytes they have."""
    batch: list[T] = []
    size = 0
    for item in items:
        batch.append(item)
        size += _bytes_in(item)
        if len(batch) >= BATCH or size >= BATCH_BYTES:
            yield batch, size
            batch, size = [], 0
    if batch:
        yield batch, size


def _bytes_in(item: object) -> int:
    """Bytes of what is not decoded yet: a record, or several. Other values are taken to be small."""
    if isinstance(item, bytes):
        return len(item)
    return sum(map(_bytes_in, item)) if isinstance(item, tuple) else 0
