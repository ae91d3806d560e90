"""Ends running chains from outside, and at a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class OutOfTime(Exception):
    """A deadline came, or the chain was cancelled. A TimeoutError would mix this up with an engine's own."""


class CancelToken:
    """Ends running chains from outside. They stop with `cancelled` and keep their steps."""

    def __init__(self) -> None:
        self.cancelled = False
        self._waits: dict[asyncio.Timeout, asyncio.AbstractEventLoop] = {}

    def cancel(self) -> None:
        """End the chains now. Any thread may call it; calling it twice is harmless."""
        self.cancelled = True
        for wait, loop in list(self._waits.items()):
            with suppress(RuntimeError):  # the loop was closed in the meantime
                loop.call_soon_threadsafe(self._end, wait)

    def _end(self, wait: asyncio.Timeout) -> None:
        if wait in self._waits and not wait.expired():
            wait.reschedule(0)

    @asynccontextmanager
    async def until(self, deadline: float | None) -> AsyncIterator[None]:
        """Cancel the body at a deadline, or at once when cancelled.

        Raises:
            OutOfTime: The body was cancelled.
        """
        wait = asyncio.timeout_at(deadline)
        self._waits[wait] = asyncio.get_running_loop()
        try:
            async with wait:
                if self.cancelled:  # tested after `cancel` can see this wait, so that none is missed
                    wait.reschedule(0)
                yield
        except TimeoutError:
            if not wait.expired():
                raise
            raise OutOfTime from None
        finally:
            del self._waits[wait]
