"""An event loop in its own thread, so that sync callers can run async code.

It keeps the engines that sync calls open by reference, because loading a model for each call is slow. They
are closed when the interpreter exits.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from redraft.engines.base import Engine
from redraft.errors import UsageError

T = TypeVar("T")


class Background:
    """One thread with one event loop, started on first use."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._opening = asyncio.Lock()
        self._engines: dict[str, Engine] = {}
        self._of_parent: list[dict[str, Engine]] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and wait for it. Ctrl-C cancels it."""
        if threading.current_thread() is self._thread:
            work.close()
            raise UsageError(
                "redraft.revise was called inside an async check of redraft.revise.",
                hint="There, write: await redraft.arevise(…)",
            )
        future = asyncio.run_coroutine_threadsafe(work, self._started())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def keep(self, reference: str, load: Callable[[str], Awaitable[Engine]]) -> Engine:
        """Return the engine of a reference, loaded once. For use inside `run`."""
        # A relative path names another file in another folder.
        key = reference if reference == "default" or "://" in reference else f"{Path.cwd()}:{reference}"
        async with self._opening:
            if key not in self._engines:
                self._engines[key] = await load(reference)
        return self._engines[key]

    def close(self) -> None:
        """Close the engines and end the thread.

        Runs at the interpreter's exit, so neither this nor an engine's `aclose` may start a thread.
        """
        loop, self._loop = self._loop, None
        thread, self._thread = self._thread, None
        if loop is None or thread is None or not thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self._close_engines(), loop).result(timeout=10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)

    async def _close_engines(self) -> None:
        engines, self._engines = list(self._engines.values()), {}
        await asyncio.gather(*(engine.aclose() for engine in engines))

    def _started(self) -> asyncio.AbstractEventLoop:
        """Return the running loop. A forked process has no copy of the thread and starts its own.

        It keeps the parent's engines unused: freeing them here would kill the processes of their models.
        """
        with self._starting:
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                self._of_parent.append(self._engines)
                self._engines, self._opening = {}, asyncio.Lock()
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
