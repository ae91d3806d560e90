"""Spread work on many records over processes, in order and in bounded memory.

Results keep the order of the records for any number of processes, so every run writes the same bytes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Generic, NamedTuple, TypeVar, cast

from redraft.errors import RedraftError
from redraft.jobs.signals import handled

T = TypeVar("T")
R = TypeVar("R")

BATCH = 64  # records per message to a process: sending one by one would cost more than most work
BATCH_BYTES = 1 << 20  # bytes that close a batch early: some records have megabytes of tests
WAITING = 4  # batches in progress per process
AT_ONCE = 2  # batches that a process holds: the current one and the next
WAITING_BYTES = 1 << 26  # bytes of records in progress, 64 MiB, unless one record has more


def spread(function: Callable[[T], R], items: Iterable[T], workers: int = 1) -> Iterator[R]:
    """Give the function's result for each item, in order.

    Args:
        function: With several workers, a function of a module or a `partial` of one.
        items: Read as they are needed.
        workers: Processes. One worker runs in this process.

    Raises:
        Exception: Whatever the function raises, at its item's place.
        RedraftError: A process was killed or could not start.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    with closing(_Pool(function, workers)) as pool:
        for batch, size in batches(items, _bytes_in, BATCH, BATCH_BYTES):
            while pool.waiting and pool.held + size > WAITING_BYTES:
                yield from pool.first()
            pool.add(batch, size)
            if len(pool.waiting) >= WAITING * workers:
                yield from pool.first()
        while pool.waiting:
            yield from pool.first()


class _Raised(NamedTuple):
    """An error that replaces a batch's results."""

    error: Exception


class _Worker(NamedTuple):
    process: BaseProcess
    connection: Connection
    has: deque[int]


class _Pool(Generic[T, R]):
    """Processes that work on batches, started as needed.

    Unlike the pools of the standard library, this uses no threads or locks: an interrupt at any moment may
    leave those waiting for each other for ever.
    """

    def __init__(self, function: Callable[[T], R], most: int) -> None:
        self.waiting: deque[tuple[int, int]] = deque()
        self.held = 0
        self._function, self._most = function, most
        self._workers: list[_Worker] = []
        self._unsent: deque[tuple[int, list[T]]] = deque()
        self._done: dict[int, list[R] | _Raised] = {}
        self._count = 0

    def add(self, batch: list[T], size: int) -> None:
        """Add a batch."""
        self.waiting.append((self._count, size))
        self._unsent.append((self._count, batch))
        self._count += 1
        self.held += size
        self._receive(timeout=0)
        if len(self._workers) < self._most and all(worker.has for worker in self._workers):
            self._begin()
        self._send()

    def first(self) -> list[R]:
        """Return the results of the oldest batch."""
        number, size = self.waiting.popleft()
        self.held -= size
        while number not in self._done:
            self._receive(timeout=None)
        done = self._done.pop(number)
        if isinstance(done, _Raised):
            raise done.error
        return done

    def close(self) -> None:
        """Kill the processes."""
        with _uninterrupted():
            for worker in self._workers:
                worker.process.kill()
            for worker in self._workers:
                worker.process.join()
                worker.connection.close()

    def _begin(self) -> None:
        """Start a process."""
        with _uninterrupted():
            begin = multiprocessing.get_context
            context = begin("forkserver") if hasattr(os, "fork") else begin("spawn")
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, self._function), daemon=True)
            with theirs:
                try:
                    process.start()
                except BrokenPipeError:
                    ours.close()
                    raise _unbegun() from None
            self._workers.append(_Worker(process, ours, deque()))

    def _send(self) -> None:
        """Send each process its current and next batch, so that it need not wait."""
        for depth in range(AT_ONCE):
            for worker in self._workers:
                if self._unsent and len(worker.has) <= depth:
                    number, batch = self._unsent.popleft()
                    worker.has.append(number)
                    with _explaining_end(worker.process):
                        worker.connection.send(batch)

    def _receive(self, timeout: float | None) -> None:
        busy = {worker.connection: worker for worker in self._workers if worker.has}
        for connection in wait(list(busy), timeout):
            worker = busy[cast(Connection, connection)]
            with _explaining_end(worker.process):
                self._done[worker.has.popleft()] = worker.connection.recv()
        self._send()


@contextmanager
def _explaining_end(process: BaseProcess) -> Iterator[None]:
    """Raise a RedraftError if a process ended: only a kill or a failed start can end it."""
    try:
        yield
    except (EOFError, OSError):
        process.join(_TO_END)
        if (process.exitcode or 0) > 0:
            raise _unbegun() from None
        raise RedraftError(
            "a process was killed while it worked on records, often because memory was full.",
            hint="Use fewer processes: --workers 1",
        ) from None


_TO_END = 5.0  # seconds for a process to end after closing its connection


def _unbegun() -> RedraftError:
    return RedraftError(
        "a worker process could not start; its error is above.",
        hint='Worker processes import your script. Put its code under: if __name__ == "__main__":',
    )


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Delay SIGINT and SIGTERM, so that every process that starts is registered.

    Processes started meanwhile inherit the blocked SIGINT. Ctrl-C reaches all of them, and only the parent
    handles it.
    """
    caught: list[int] = []
    try:
        with handled(lambda number, _: caught.append(number), signal.SIGINT, signal.SIGTERM):
            if not hasattr(signal, "pthread_sigmask"):  # Windows
                yield
                return
            resource_tracker.ensure_running()  # it unblocks them again, so it comes first
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                yield
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    finally:
        for number in caught:
            signal.raise_signal(number)


def _work(connection: Connection, function: Callable[[T], R]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    batches: SimpleQueue[list[T]] = SimpleQueue()

    def take_in() -> None:
        try:
            while True:
                batches.put(connection.recv())
        finally:
            os._exit(0)  # the parent has gone

    threading.Thread(target=take_in, daemon=True).start()  # batches come while others are worked on
    with suppress(ConnectionError):  # the parent has gone
        while True:
            try:
                connection.send([function(item) for item in batches.get()])
            except Exception as error:  # noqa: BLE001  (raised again in the parent)
                error.add_note(f"In a process that worked on records:\n{traceback.format_exc()}")
                connection.send(_Raised(error))


def batches(
    items: Iterable[T], size_of: Callable[[T], int], most: int, most_bytes: int
) -> Iterator[tuple[list[T], int]]:
    """Yield batches of at most `most` items, each with its size. One of `most_bytes` or more is full."""
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
    """Count bytes of undecoded records. Other values are assumed to be small."""
    if isinstance(item, bytes):
        return len(item)
    return sum(map(_bytes_in, item)) if isinstance(item, tuple) else 0
