"""Work that blocks, in a thread that does not hold up the end of the program.

`asyncio.to_thread` uses threads that the interpreter waits for at its end: a download or a user's check that
hangs would then keep the program from ending, also after Ctrl-C. A thread of this module is left behind.
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
    """Runs `work` in a thread of its own. Cancelling the future stops the waiting, and not the work."""
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
