"""The hook of a chain: the caller's own function, called with every event (`on_event`).

Each call runs in a daemon thread, one after the other, so a slow hook holds up its own chain and no other. A
hook that crashes ends its chain with an error that has the steps so far. A hook that hangs is abandoned when
the chain is cancelled or its seconds are used up.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from redraft.engines.threads import in_daemon_thread
from redraft.errors import HookError
from redraft.revision.cancel import CancelToken, OutOfTime
from redraft.revision.ops import Event, Finished
from redraft.verify.base import crash_of

_log = logging.getLogger(__name__)

GRACE = 1.0  # seconds that a hook may still run when the time of its chain is over


class Hook:
    """Calls a function with events, and no more after it was abandoned."""

    def __init__(self, function: Callable[[Event], Any], cancel: CancelToken) -> None:
        self._function, self._cancel = function, cancel
        self._abandoned = False

    @property
    def name(self) -> str:
        """The function's name, for messages."""
        return getattr(self._function, "__qualname__", type(self._function).__qualname__)

    async def call(self, event: Event, deadline: float | None) -> None:
        """Call the function and wait for it, until `deadline` on the event loop's clock.

        The error of the last event has the whole chain.
        """
        if self._abandoned:
            return
        work = in_daemon_thread(partial(self._call, event))
        work.add_done_callback(asyncio.Future.exception)  # the chain may be gone when it crashes
        try:
            async with self._cancel.until(deadline):
                await asyncio.wait([work])
        except OutOfTime:
            await asyncio.wait([work], timeout=GRACE)
        if not work.done():
            self._abandoned = True
            _log.warning("the hook %r still ran when its chain was over. It is not called again.", self.name)
            return
        try:
            work.result()
        except HookError as error:
            error.chain = event.chain if isinstance(event, Finished) else None
            raise

    def _call(self, event: Event) -> None:
        try:
            result = self._function(event)
        except BaseException as error:  # a hook may call sys.exit()
            raise HookError(
                f"the hook {self.name!r} crashed: {crash_of(error)}",
                hint="This is a fault of on_event, not of the answer. The steps are in error.chain.",
            ) from error
        if inspect.iscoroutine(result):
            result.close()
            raise HookError(
                f"the hook {self.name!r} is async.", hint="Give on_event a plain function, or use stream(…)."
            )
