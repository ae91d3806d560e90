"""On Ctrl-C or SIGTERM, end the work between two lines of output, or after the current step.

SIGKILL cannot be caught, but does not damage outputs.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from functools import partial
from types import FrameType
from typing import Any, Self, TypeVar

AGAIN = 75  # the exit status of saved work after SIGTERM: EX_TEMPFAIL of sysexits.h, "try again later".

T = TypeVar("T")

_LOOK = 0.1  # seconds between two checks for a signal while work waits
_GRACE = 0.4  # seconds that the work then has to finish, so that everything ends within a second


class EndedBySignal(KeyboardInterrupt):
    """A signal ended the work."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.exit_status = 128 + signum  # as in shells: 130 for Ctrl-C, 143 for SIGTERM


def run_until_signal(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine like `asyncio.run`, but cancel it on a signal. A second signal cancels the clean-up.

    If a loop is already running, as in a notebook, the coroutine runs in a new thread.
    """
    if asyncio._get_running_loop() is not None:  # noqa: SLF001  (the public one raises)
        return _run_in_thread(work)
    caught: list[int] = []

    async def watched() -> T:
        task = asyncio.get_running_loop().create_task(work)

        def stop(signum: int) -> None:
            caught.append(signum)
            task.cancel()

        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                on_signal(signum, partial(stop, signum))
        return await task

    try:
        return asyncio.run(watched())
    except asyncio.CancelledError:
        if not caught:
            raise
        raise EndedBySignal(caught[0]) from None


def on_signal(signum: int, do: Callable[[], None]) -> Callable[[], object]:
    """Call `do` in the running event loop at each signal. Return a function that removes this handler."""
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(signum, do)
    except NotImplementedError:
        before = signal.signal(signum, lambda *_: loop.call_soon_threadsafe(do) and None)
        return partial(signal.signal, signum, before)
    return partial(loop.remove_signal_handler, signum)


def _run_in_thread(work: Coroutine[Any, Any, T]) -> T:
    runner, tasks = ThreadPoolExecutor(1), list[asyncio.Task[T]]()

    async def noted() -> T:
        tasks.append(asyncio.current_task())  # type: ignore[arg-type]
        return await work

    future = runner.submit(asyncio.run, noted())
    try:
        return future.result()
    except KeyboardInterrupt:
        for task in tasks:
            task.get_loop().call_soon_threadsafe(task.cancel)
        wait([future])
        raise EndedBySignal(signal.SIGINT) from None
    finally:
        runner.shutdown(wait=False)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM raise `SystemExit` in a `with` block, so that partial outputs are removed."""

    def end(signum: int, _: FrameType | None) -> None:
        raise SystemExit(128 + signum)

    with handled(end, signal.SIGTERM):
        yield


class Signals(ExitStack):
    """Store the first signal during a `with` block, so that work can be saved after the current step.

    A later SIGTERM is ignored. A later Ctrl-C stops at once, without saving.
    """

    received: int | None = None  # the first signal, or None

    def __enter__(self) -> Self:
        _noting.append(self)
        self.callback(_noting.remove, self)

        def take(signum: int, _: FrameType | None) -> None:
            if self.received is not None:
                if signum == signal.SIGINT:
                    os.write(2, b"\nredraft: stopped without saving. The last checkpoint, if any, remains.\n")
                    raise KeyboardInterrupt
                return  # schedulers repeat SIGTERM
            self.received = signum
            again = " again" if signum == signal.SIGINT else ""
            name = signal.Signals(signum).name
            line = f"redraft: {name}: finishing the current step, then saving. Ctrl-C{again} stops at once."
            os.write(2, f"\n{line}\n".encode())  # not `print`, which the signal may have interrupted

        self.enter_context(handled(take, signal.SIGINT, signal.SIGTERM))
        return self


async def unless_stopped(work: Coroutine[Any, Any, T]) -> T | None:
    """Return a coroutine's result, or None if the coroutine does not end soon after a signal to `Signals`."""
    task = asyncio.ensure_future(work)
    try:
        while not (task.done() or any(each.received is not None for each in _noting)):
            await asyncio.wait([task], timeout=_LOOK)
        await asyncio.wait([task], timeout=_GRACE)
        return task.result() if task.done() else None
    finally:
        task.cancel()


_noting: list[Signals] = []  # instances inside their `with` block


def exit_status(signum: int) -> int:
    """Return the exit status for a program that saved its work and stopped after a signal."""
    return AGAIN if signum == signal.SIGTERM else 128 + signum


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None], *signums: int) -> Iterator[None]:
    """Handle signals in a `with` block, but only in the main thread: other threads may not set handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, handler) for signum in signums}
    try:
        yield
    finally:
        for signum, each in before.items():
            signal.signal(signum, each)


def in_daemon_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Run `work` in a new daemon thread. Cancelling the future does not stop the work.

    Unlike in `asyncio.to_thread`, hanging work does not keep the program from ending.
    """
    result: Future[T] = Future()
    result.set_running_or_notify_cancel()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            result.set_result(context.run(work))
        except BaseException as error:  # noqa: BLE001  (raised again where it is awaited)
            result.set_exception(error)

    threading.Thread(target=run, name="redraft-work", daemon=True).start()
    return asyncio.wrap_future(result)
