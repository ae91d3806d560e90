"""Spreads work on many records over processes, in order and in bounded memory.

Results come in the order of the records whatever the number of processes, so that a run with one and a run
with eight write the same bytes.
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

T = TypeVar("T")
R = TypeVar("R")

BATCH = 64
"""Records that go to a process at a time: sending them one by one would cost more than most work on them."""

BATCH_BYTES = 1 << 20
"""Bytes of records at which a batch is closed, however few they are: some have megabytes of tests."""

WAITING = 4
"""Batches a process that may be under way."""

AT_ONCE = 2
"""Batches that a process is given: one that it works on, and the next."""

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
        RedraftError: A process was killed, or could not begin.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    with closing(_Pool(function, workers)) as pool:
        for batch, size in _batches(items):
            while pool.waiting and pool.held + size > WAITING_BYTES:
                yield from pool.first()
            pool.add(batch, size)
            if len(pool.waiting) >= WAITING * workers:
                yield from pool.first()
        while pool.waiting:
            yield from pool.first()


class _Raised(NamedTuple):
    """What a function raised, instead of its results."""

    error: Exception


class _Worker(NamedTuple):
    """A process, what it is reached by, and the numbers of the batches that it has."""

    process: BaseProcess
    connection: Connection
    has: deque[int]


class _Pool(Generic[T, R]):
    """Processes that work on batches, begun as they are needed.

    There are no threads here, nor locks, as in the pools of the standard library: Ctrl-C comes at any moment,
    and those may then wait for one another for ever.

    Attributes:
        waiting: Numbers of the batches that are under way, in order, and their bytes.
        held: Those bytes together.
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
        """Takes a batch in."""
        self.waiting.append((self._count, size))
        self._unsent.append((self._count, batch))
        self._count += 1
        self.held += size
        self._receive(timeout=0)
        if len(self._workers) < self._most and all(worker.has for worker in self._workers):
            self._begin()
        self._send()

    def first(self) -> list[R]:
        """The results of the batch that waits longest.

        Raises:
            Exception: Whatever the function raised.
            RedraftError: A process was killed, or could not begin.
        """
        number, size = self.waiting.popleft()
        self.held -= size
        while number not in self._done:
            self._receive(timeout=None)
        done = self._done.pop(number)
        if isinstance(done, _Raised):
            raise done.error
        return done

    def close(self) -> None:
        """Ends the processes, whatever they are doing."""
        with _uninterrupted():
            for worker in self._workers:
                worker.process.kill()
            for worker in self._workers:
                worker.process.join()
                worker.connection.close()

    def _begin(self) -> None:
        """Begins a process.

        Raises:
            RedraftError: It ended before it was told what to do.
        """
        with _uninterrupted():
            context = multiprocessing.get_context("forkserver")
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
        """Gives each process what it works on, and what is next, so that it need not wait for us."""
        for depth in range(AT_ONCE):
            for worker in self._workers:
                if self._unsent and len(worker.has) <= depth:
                    number, batch = self._unsent.popleft()
                    worker.has.append(number)
                    with _end_is_told(worker.process):
                        worker.connection.send(batch)

    def _receive(self, timeout: float | None) -> None:
        """Takes results in, of which there are some when the time is over, or at once without a time-out."""
        busy = {worker.connection: worker for worker in self._workers if worker.has}
        for connection in wait(list(busy), timeout):
            worker = busy[cast(Connection, connection)]
            with _end_is_told(worker.process):
                self._done[worker.has.popleft()] = worker.connection.recv()
        self._send()


@contextmanager
def _end_is_told(process: BaseProcess) -> Iterator[None]:
    """Says in our words that a process has gone: by itself, as none does that has begun, or killed."""
    try:
        yield
    except (EOFError, OSError):
        process.join(_TO_END)
        if (process.exitcode or 0) > 0:
            raise _unbegun() from None
        raise RedraftError(
            "a process was killed while it worked on records; often the memory was full.",
            hint="Use fewer of them: --workers 1",
        ) from None


_TO_END = 5.0
"""Seconds in which a process that closed what it is reached by has ended."""


def _unbegun() -> RedraftError:
    return RedraftError(
        "a process that was to work on records could not begin: above is why.",
        hint='They read the script that begins them. Put what it does under: if __name__ == "__main__":',
    )


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Puts off what Ctrl-C and SIGTERM do until all of this is done: a process half begun is known to nobody.

    Processes that are begun meanwhile are never interrupted: what is blocked is inherited. Ctrl-C, which all
    of them are sent, is left to the one that waits for the others.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, _: caught.append(number)) for number in numbers}
    try:
        resource_tracker.ensure_running()  # it unblocks them again, so it comes first
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for got in caught:
            signal.raise_signal(got)


def _work(connection: Connection, function: Callable[[T], R]) -> None:
    """What a process does: its function to every batch that it is sent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    batches: SimpleQueue[list[T]] = SimpleQueue()
    threading.Thread(target=_take_in, args=(connection, batches), daemon=True).start()
    with suppress(ConnectionError):  # nobody is there any more to take it
        while True:
            _answer(connection, function, batches.get())


def _take_in(connection: Connection, batches: SimpleQueue[list[T]]) -> None:
    """Takes batches while others are worked on. Ends the process when the one that sends them has gone."""
    try:
        while True:
            batches.put(connection.recv())
    finally:
        os._exit(0)


def _answer(connection: Connection, function: Callable[[T], R], batch: list[T]) -> None:
    try:
        connection.send([function(item) for item in batch])
    except Exception as error:  # noqa: BLE001  (it is raised where the results are waited for)
        error.add_note(f"In a process that worked on records:\n{traceback.format_exc()}")
        connection.send(_Raised(error))


def all_cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
