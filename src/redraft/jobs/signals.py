"""Let Ctrl-C and SIGTERM cancel the work, so that it ends between two lines of its output.

A second signal cancels the cleaning up too. SIGKILL cannot be caught, and the ledger survives it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Interrupted(KeyboardInterrupt):
    """A signal ended the work.

    Attributes:
        exit_status: 128 plus the signal, as in shells: 130 for Ctrl-C, 143 for SIGTERM.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.exit_status = 128 + signum


def run_until_signal(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine as `asyncio.run` does, and cancel it on a signal.

    Raises:
        Interrupted: A signal ended the work.
    """
    caught: list[int] = []

    async def watched() -> T:
        loop = asyncio.get_running_loop()
        task = loop.create_task(work)

        def stop(signum: int) -> None:
            caught.append(signum)
            task.cancel()

        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, stop, signum)
        return await task

    try:
        return asyncio.run(watched())
    except asyncio.CancelledError:
        if not caught:
            raise
        raise Interrupted(caught[0]) from None
