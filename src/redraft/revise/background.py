"""An event loop in a thread of its own, so that sync callers can use what is async.

It keeps the engines that sync calls open by reference, because loading a model for each call would be slow.
The interpreter's end closes them.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from redraft.engines.base import Engine
from redraft.errors import UsageError

T = TypeVar("T")
Given = TypeVar("Given")


class Background:
    """One thread, one event loop, started at first use."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._opening = asyncio.Lock()
        self._engines: dict[str, Engine] = {}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine and waits for it. Ctrl-C cancels it.

        Raises:
            UsageError: It is called in the thread itself, which would wait for itself for ever.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise UsageError(
                "redraft.revise was called inside of an async check of redraft.revise.",
                hint="There, write: await redraft.arevise(…)",
            )
        future = asyncio.run_coroutine_threadsafe(work, self._started())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def keep(self, model: str | Given, load: Callable[[str], Awaitable[Engine]]) -> Engine | Given:
        """The engine of a reference, loaded once; an engine or None comes back. For use inside `run`."""
        if not isinstance(model, str):
            return model
        async with self._opening:
            if model not in self._engines:
                self._engines[model] = await load(model)
        return self._engines[model]

    def close(self) -> None:
        """Closes the engines and ends the thread.

        At the interpreter's end, so nothing here may need a new thread or an executor; nor may an engine's
        `aclose`.
        """
        loop, self._loop = self._loop, None
        thread, self._thread = self._thread, None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._close_engines(), loop).result(timeout=10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)

    async def _close_engines(self) -> None:
        engines, self._engines = list(self._engines.values()), {}
        await asyncio.gather(*(engine.aclose() for engine in engines))

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_serve, args=(self._loop,), name="redraft", daemon=True
                )
                self._thread.start()
                atexit.register(self.close)
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    loop.close()
