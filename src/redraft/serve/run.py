"""Run the server: listen, load the models, serve, and drain at a signal.

The server listens before the models are loaded, so that `/health` and `/ready` can answer. After SIGTERM, the
server accepts requests a while longer, because a load balancer needs time to send requests elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import Any, cast

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from redraft.errors import UsageError
from redraft.jobs.machine import is_loopback
from redraft.jobs.signals import on_signal
from redraft.serve.gate import Gate
from redraft.serve.keys import Keys

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_BACKLOG = 512
_CONNECTIONS = 2048  # most connections. Each may hold a request's body in memory before its turn.
WAITING = 1024  # most connections without a complete request, so that others can still connect
_IDLE = 30  # seconds that a connection may be idle between two requests
HEAD_SECONDS = 15.0  # time limit for the head of a request: slow clients would use up connections

logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
"""uvicorn warns of each malformed request or upgrade, so anyone could fill the disk with warnings."""


class _Waiting:
    def __init__(self) -> None:
        self._of: dict[str, dict[_Protocol, None]] = {}  # by address, the oldest first

    def add(self, one: _Protocol) -> None:
        """Add a connection. If there are too many, close the oldest connection of the busiest address."""
        mine = self._of.setdefault(one.address, {})
        if one in mine:
            return
        mine[one] = None
        if sum(map(len, self._of.values())) > WAITING:
            most = max(self._of.values(), key=len)
            oldest = next(iter(most))
            self.remove(oldest)
            oldest.transport.close()

    def remove(self, one: _Protocol) -> None:
        mine = self._of.get(one.address, {})
        mine.pop(one, None)
        if not mine:
            self._of.pop(one.address, None)


class _Protocol(H11Protocol):
    _late: asyncio.TimerHandle | None = None

    def __init__(self, waiting: _Waiting, **more: Any) -> None:
        super().__init__(**more)
        self._waiting, self.address = waiting, ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unwatch()
        self._waiting.remove(self)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            self._sort()

    def _sort(self) -> bool:
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering and self.conn.their_state is not h11.SEND_BODY:
            self._waiting.remove(self)
        else:
            self._waiting.add(self)
        return answering

    def _watch(self) -> None:
        if self._sort():
            self._unwatch()
        elif self._late is None:
            self._late = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _unwatch(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def listen(host: str, port: int, keys: Keys | None) -> socket.socket:
    """Return a listening socket. Port 0 chooses a free port."""
    if keys is None and not is_loopback(host):
        raise UsageError(
            f"{host} can be reached from other machines, but there are no keys.",
            hint="Add --api-key-file FILE, or listen to this machine only: --host 127.0.0.1",
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small pieces at once (TCP_NODELAY) only on sockets that name their protocol. Without that,
    # the second write of a reply waits 40 ms for the client's delayed acknowledgement.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        hint = "Choose another port: --port N"
        raise UsageError(f"cannot listen on {host}, port {port}: {error.strerror}.", hint=hint) from None
    return sock


async def run(
    app: ASGIApp,
    gate: Gate,
    sock: socket.socket,
    load: Callable[[], Awaitable[None]],
    told: asyncio.Event,
    *,
    drain: float,
    linger: float = 0.0,
) -> None:
    """Serve until `told` is set, then drain. While serving, load the models by calling `load`."""
    config = uvicorn.Config(
        app,
        http=cast("Any", partial(_Protocol, _Waiting())),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_IDLE,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    server.capture_signals = nullcontext  # type: ignore[assignment]  # `until_signal` handles them
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    loading, ending = asyncio.ensure_future(load()), asyncio.create_task(told.wait())
    try:
        await asyncio.wait({loading, ending, serving}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
            await asyncio.wait({ending, serving}, return_when=asyncio.FIRST_COMPLETED)
        limit = drain + linger * gate.lingers
        said = f"stopping within {limit:g} s (requests: {gate.inside}); a second signal cancels them"
        logging.getLogger(__name__).info(said if gate.inside else "stopping")
        await gate.drain(drain, linger if gate.lingers else 0.0)
    finally:
        server.should_exit = True
        for task in (loading, ending):
            task.cancel()
        await serving
        with suppress(asyncio.CancelledError):
            await loading


@contextmanager
def until_signal(gate: Gate) -> Iterator[asyncio.Event]:
    """Yield an event that the first signal sets. The second signal cancels all chains."""
    told = asyncio.Event()

    def signalled(number: signal.Signals) -> None:
        if told.is_set():
            gate.cut()
        gate.lingers = number == signal.SIGTERM
        told.set()

    ends = [on_signal(number, partial(signalled, number)) for number in _SIGNALS]
    try:
        yield told
    finally:
        for end in ends:
            end()
