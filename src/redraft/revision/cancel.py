"""End running chains from outside, or at a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from types import TracebackType


class OutOfTime(Exception):  # not a TimeoutError, which engines may raise
    """Raised at a deadline or a cancellation."""


class CancelToken:
    """Ends running chains. A cancelled chain stops with `cancelled` and keeps its steps."""

    def __init__(self) -> None:
        self.cancelled = False
        self._limits: dict[Limit, asyncio.AbstractEventLoop] = {}

    def cancel(self) -> None:
        """End the chains now. Any thread may call `cancel`, and more than once."""
        self.cancelled = True
        for limit, loop in list(self._limits.items()):
            with suppress(RuntimeError):  # the loop was closed in the meantime
                loop.call_soon_threadsafe(limit.end)

    @contextmanager
    def limit(self, deadline: float | None) -> Iterator[Limit]:
        """Yield a `Limit` that ends at `deadline` or by `cancel`. It may guard many `with` blocks in turn."""
        loop, limit = asyncio.get_running_loop(), Limit()
        timer = None if deadline is None else loop.call_at(deadline, limit.end)
        self._limits[limit] = loop
        if self.cancelled:  # tested after `cancel` can see this limit, so that no cancellation is missed
            limit.end()
        try:
            yield limit
        finally:
            del self._limits[limit]
            if timer is not None:
                timer.cancel()

    @asynccontextmanager
    async def until(self, deadline: float | None) -> AsyncIterator[None]:
        """Raise `OutOfTime` in the `with` block at a deadline, or when the token is cancelled."""
        with self.limit(deadline) as limit, limit:
            yield


class Limit:
    """Cancels the running `with` block at a deadline. The running and all later blocks raise `OutOfTime`."""

    def __init__(self) -> None:
        self._task: asyncio.Task[object] | None = None
        self._over = self._cancelled = False
        self._before = 0

    def end(self) -> None:
        """Cancel the running `with` block, and each later block at its start."""
        self._over = True
        if self._task is not None and not self._cancelled:
            self._cancelled = True
            self._task.cancel()

    def __enter__(self) -> None:
        if self._over:
            raise OutOfTime
        self._task = task = asyncio.current_task()
        assert task is not None  # noqa: S101  (bodies are coroutines)
        self._before = task.cancelling()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if self._cancelled and task is not None:
            self._cancelled = False
            if task.uncancel() <= self._before and kind is asyncio.CancelledError:
                raise OutOfTime from error
