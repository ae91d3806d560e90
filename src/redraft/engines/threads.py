"""Run blocking work in a daemon thread.

The interpreter waits for threads of `asyncio.to_thread` at exit, so a hanging download or check would keep
the program from ending, even after Ctrl-C. It does not wait for daemon threads.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def in_daemon_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Run `work` in a new thread. Cancelling the future does not stop the work."""
    result: concurrent.futures.Future[T] = concurrent.futures.Future()
    result.set_running_or_notify_cancel()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            result.set_result(context.run(work))
        except BaseException as error:  # noqa: BLE001  (raised again where it is awaited)
            result.set_exception(error)

    threading.Thread(target=run, name="redraft-work", daemon=True).start()
    return asyncio.wrap_future(result)
