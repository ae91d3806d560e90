"""Ctrl-C and SIGTERM as a cancellation of the work, so that it ends between two lines of its output.

A second signal cancels the cleaning up as well. SIGKILL cannot be caught: the ledger is made to bear it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Interrupted(KeyboardInterrupt):
    """The work was ended by a signal.

    Attributes:
        exit_status: As shells have it: 130 for Ctrl-C, 143 for SIGTERM.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.exit_status = 128 + signum


def run_until_signal(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, and a signal cancels the work.

    Raises:
        Interrupted: A signal came, and the work has ended.
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
