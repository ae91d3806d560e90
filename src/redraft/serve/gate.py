"""Limit how many requests are answered at once and how many wait, and shut the server down.

A request passes the gate before its model is asked. Each engine has a separate limit and queue, so that a
slow model delays no other model. A request for a full queue gets status 429.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus

from redraft.engines.base import Watched
from redraft.engines.wrapped import WrappedEngine
from redraft.revision.cancel import CancelToken
from redraft.serve.errors import Refusal

WAIT = 5  # seconds after which a client that was turned away may try again (`Retry-After`)
GRACE = 5.0  # time limit, in seconds, for cancelled chains to send their best answer


@dataclass
class _Lane:
    turns: asyncio.Semaphore
    inside: int = 0


class Gate:
    """Admits a limited number of requests."""

    def __init__(self, at_once: int, queue: int) -> None:
        self.ending = self.draining = False
        self.lingers = True  # whether requests are still answered for a while after the signal to end
        self._at_once, self._queue = at_once, queue
        self.inside = 0
        self._tokens: set[CancelToken] = set()
        self._lanes: dict[int, _Lane] = {}
        self._empty, self._cut = asyncio.Event(), asyncio.Event()
        self._empty.set()

    @asynccontextmanager
    async def entered(
        self, engine: object, wait: Callable[[], Awaitable[None]] | None = None, model: str = ""
    ) -> AsyncIterator[CancelToken]:
        """Wait until the engine may answer another request. The request is active inside the `with` block.

        Call `wait` if the request has to wait. Yield a token that cancels the request.
        """
        if self.draining:
            raise unavailable("draining", "the server is shutting down, and accepts no new requests.")
        while isinstance(engine, WrappedEngine):
            engine = engine.wrapped
        lane = self._lanes.setdefault(id(engine), _Lane(asyncio.Semaphore(self._at_once)))
        if lane.inside >= self._at_once + self._queue:
            message = f"too many requests are waiting. Try again in {WAIT} s."
            raise Refusal(HTTPStatus.TOO_MANY_REQUESTS, "queue_full", message, wait=WAIT)
        token = CancelToken()
        self.inside += 1
        lane.inside += 1
        self._empty.clear()
        try:
            if wait and lane.turns.locked():
                await wait()
            async with lane.turns:
                self._tokens.add(token)
                if self._cut.is_set():
                    token.cancel()
                if refusal := down(engine, model):
                    raise refusal
                yield token
        finally:
            self._tokens.discard(token)
            lane.inside -= 1
            self.inside -= 1
            if not self.inside:
                self._empty.set()

    async def drain(self, seconds: float, linger: float = 0.0) -> None:
        """Admit requests for `linger` more seconds, then wait up to `seconds` for the active requests.

        At the end, cancel the requests that are still active.
        """
        self.ending = True
        cut = asyncio.ensure_future(self._cut.wait())
        await asyncio.wait({cut}, timeout=linger)
        self.draining = True
        empty = asyncio.ensure_future(self._empty.wait())  # a request may have come while lingering
        await asyncio.wait({empty, cut}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        self.cut()
        await asyncio.wait({empty}, timeout=GRACE)
        empty.cancel()

    def cut(self) -> None:
        """Cancel all requests."""
        self._cut.set()
        for token in self._tokens:
            token.cancel()


def down(engine: object, model: str) -> Refusal | None:
    """Return the refusal of a request if the engine is down, or None otherwise."""
    if isinstance(engine, WrappedEngine):
        return down(engine.wrapped, model)
    if isinstance(engine, Watched) and engine.health.down and engine.health.resting:
        return unavailable("engine_down", f"the model {model!r} does not answer now.")
    return None


def ending() -> Refusal:
    """Return the refusal of a request during shutdown."""
    return unavailable("draining", "the server is shutting down.")


def unavailable(code: str, message: str) -> Refusal:
    """Return a refusal with status 503 (Service Unavailable)."""
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, code, message, wait=WAIT)
