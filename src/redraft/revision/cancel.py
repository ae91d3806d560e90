"""Ends running chains from outside, and at a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class OutOfTime(Exception):
    """A deadline came, or the chain was cancelled. A TimeoutError would mix this up with an engine's own."""


class CancelToken:
    """Ends running chains from outside. They stop with `cancelled` and keep their steps."""

    def __init__(self) -> None:
        self.cancelled = False
        self._waits: set[asyncio.Timeout] = set()

    def cancel(self) -> None:
        """End the chains now. Call it in the event loop's own thread; calling it twice is harmless."""
        self.cancelled = True
        for wait in self._waits:
            if not wait.expired():
                wait.reschedule(0)

    @asynccontextmanager
    async def until(self, deadline: float | None) -> AsyncIterator[None]:
        """Cancel the body at a deadline, or at once when cancelled.

        Raises:
            OutOfTime: The body was cancelled.
        """
        wait = asyncio.timeout_at(0 if self.cancelled else deadline)
        self._waits.add(wait)
        try:
            async with wait:
                yield
        except TimeoutError:
            if not wait.expired():
                raise
            raise OutOfTime from None
        finally:
            self._waits.discard(wait)
