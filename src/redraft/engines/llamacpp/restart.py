"""Start the process of a model again when it dies, with back-off.

The first restart comes at once, and later ones after growing pauses. After `TRIES` crashes in a row the error
is raised; from then on a call tries one more start, and calls during the pause after that fail at once. What
to do with the text so far is decided in `engine`.
"""

from __future__ import annotations

import asyncio
import logging
import time

from redraft.engines.base import Health
from redraft.engines.llamacpp.child import ChildSettings
from redraft.engines.llamacpp.client import Child
from redraft.errors import EngineCrash, EngineError

_log = logging.getLogger(__name__)

TRIES = 5
"""Crashes in a row after which to give up."""

PAUSE, LONGEST_PAUSE = 0.5, 15.0
"""Seconds before the second restart in a row, doubled each time, and at most."""


class KeptChild:
    """A model process, and the next one when it dies.

    Args:
        child: The first process.
        settings: How it was started.

    Attributes:
        child: The process now. It may be dead.
    """

    def __init__(self, child: Child, settings: ChildSettings) -> None:
        self.child, self._settings = child, settings
        self._restarts, self._crashes, self._not_before = 0, 0, 0.0
        self._trouble = ""
        self._closed = False
        self._starting: asyncio.Task[None] | None = None

    @property
    def health(self) -> Health:
        """How the process is."""
        stalled = bool(self._trouble)
        return Health(self._restarts, self._trouble, down=stalled and self._resting, stalled=stalled)

    @property
    def _resting(self) -> bool:
        """Whether it was given up, and may not be started yet."""
        return self._crashes >= TRIES and time.monotonic() < self._not_before

    @property
    def _pause(self) -> float:
        """Seconds between the last crash and the next start."""
        return min(PAUSE * 2.0 ** min(self._crashes - 2, 10), LONGEST_PAUSE) if self._crashes > 1 else 0.0

    def worked(self) -> None:
        """Record that the process generated a token."""
        self._crashes = 0

    async def replace(self, dead: Child, crash: EngineCrash, crashes: int) -> None:
        """Start a process in place of one that died, unless another call has done so.

        Args:
            dead: The process that died.
            crash: Its error.
            crashes: How often this call has seen it crash without a new token.

        Raises:
            EngineCrash: There were too many crashes in a row.
            EngineError: The model cannot be loaded any more, or the engine was closed.
        """
        if crashes >= TRIES:
            self._crashes = max(crashes, self._crashes)
            raise self._given_up(crash)
        async with dead.mourning:
            if self.child is dead:
                await self._started(crash)

    async def _started(self, crash: EngineCrash) -> None:
        """Wait for another process. If this call is cancelled, the start goes on: it may take minutes."""
        if self._starting is None or self._starting.done():
            self._starting = asyncio.ensure_future(self._start(crash))
            self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.wait({self._starting})
        if self._starting.cancelled():  # the engine was closed
            raise crash
        self._starting.result()

    async def _start(self, error: EngineError) -> None:
        while not self._closed:
            self._trouble = _brief(error)
            if self._resting:
                raise _in_a_row(error, self._crashes)
            self._crashes += 1
            pause = self._pause if self._crashes <= TRIES else 0
            _log.warning("%s It is started again%s.", self._trouble, f" in {pause:g} s" if pause else "")
            await asyncio.sleep(pause)
            self._not_before = time.monotonic() + self._pause
            try:
                await self._put(await Child.start(self._settings))
            except EngineError as again:
                error = again
                if self._crashes >= TRIES:
                    raise self._given_up(error) from None
            else:
                return
        raise error

    def _given_up(self, error: EngineError) -> EngineError:
        """Return the error for calls until the next start is allowed."""
        self._trouble = _brief(error)
        self._not_before = time.monotonic() + self._pause
        return _in_a_row(error, self._crashes)

    async def _put(self, child: Child) -> None:
        dead, self.child = self.child, child
        self._restarts, self._trouble = self._restarts + 1, ""
        await asyncio.to_thread(dead.bury)

    async def aclose(self) -> None:
        """End the process. May be called twice."""
        self._closed = True
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
            await asyncio.wait({self._starting})
        await self.child.aclose()


def _brief(error: EngineError) -> str:
    return error.message.splitlines()[0]


def _in_a_row(error: EngineError, crashes: int) -> EngineError:
    """Return the error for a process that crashes again and again."""
    first, *output = error.message.splitlines()
    message = "\n".join([f"{first.removesuffix('.')}, {crashes} times in a row.", *output])
    return type(error)(message, hint=error.hint)
