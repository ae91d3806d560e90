"""Process many records in several processes, in order and in bounded memory.

Results keep the order of the records for any number of processes, so every run writes the same bytes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import TypeVar

from redraft.errors import RedraftError

T = TypeVar("T")
R = TypeVar("R")

BATCH = 64  # records per message to a process: sending one by one would cost more than most work
BATCH_BYTES = 1 << 20  # bytes that close a batch early: some records have megabytes of tests
WAITING = 4  # batches in progress per process
WAITING_BYTES = 1 << 26  # bytes of records in progress, 64 MiB, unless one record has more


def spread(function: Callable[[T], R], items: Iterable[T], workers: int = 1) -> Iterator[R]:
    """Yield the function's result for each item, in order.

    Args:
        function: With several workers, a module-level function or a `partial` of a module-level function.
        items: The inputs, read lazily.
        workers: The number of processes. A single worker runs in this process.

    Raises:
        Exception: The function raised this exception for an item.
        RedraftError: A process was killed or could not start.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
    pool = ProcessPoolExecutor(workers, context, _begin)
    waiting: deque[tuple[Future[list[R]], int]] = deque()
    try:
        for batch, size in batches(items, _bytes_in, BATCH, BATCH_BYTES):
            while waiting and sum(held for _, held in waiting) + size > WAITING_BYTES:
                yield from waiting.popleft()[0].result()
            with _uninterrupted():
                waiting.append((pool.submit(_results, function, batch), size))
            if len(waiting) >= WAITING * workers:
                yield from waiting.popleft()[0].result()
        while waiting:
            yield from waiting.popleft()[0].result()
    except BrokenProcessPool:
        raise RedraftError(
            "a process ended early, often because memory was full. Its error, if any, is above.",
            hint="Use fewer processes: --workers 1. Processes import your script, so put its code under: "
            'if __name__ == "__main__":',
        ) from None
    finally:
        for process in list((pool._processes or {}).values()):  # noqa: SLF001  (`kill_workers` came with 3.14)
            process.kill()
        pool._call_queue.cancel_join_thread()  # type: ignore[attr-defined]  # noqa: SLF001  (gh-94777)
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Ignore Ctrl-C, which the parent process handles, and exit when the parent exits or is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def end() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(0)

    threading.Thread(target=end, daemon=True).start()


def _results(function: Callable[[T], R], batch: list[T]) -> list[R]:
    return list(map(function, batch))


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM while a process starts, because the pool cannot end a starting process."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # this unblocks the signal, so it comes first
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def batches(
    items: Iterable[T], size_of: Callable[[T], int], most: int, most_bytes: int
) -> Iterator[tuple[list[T], int]]:
    """Yield each batch with its size in bytes. A batch ends at `most` items, or at `most_bytes` or more."""
    batch: list[T] = []
    size = 0
    for item in items:
        batch.append(item)
        size += size_of(item)
        if len(batch) >= most or size >= most_bytes:
            yield batch, size
            batch, size = [], 0
    if batch:
        yield batch, size


def _bytes_in(item: object) -> int:
    if isinstance(item, bytes):
        return len(item)
    return sum(map(_bytes_in, item)) if isinstance(item, tuple) else 0
