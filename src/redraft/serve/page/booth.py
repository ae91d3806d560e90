"""The server of `redraft vote`: the page, with a booth in place of models, for this machine alone.

Who has the address has the key in it, and nobody else gets to see a pair.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable
from http import HTTPStatus

from starlette.types import ASGIApp

from redraft.serve.errors import Refusal
from redraft.serve.gate import Gate
from redraft.serve.guard import Guard
from redraft.serve.keys import Keys
from redraft.serve.metrics import Metrics
from redraft.serve.page.mount import Booth, Logins, Page
from redraft.serve.reader import Limits, Reader
from redraft.serve.run import listen, run, until_signal

LOOPBACK = "127.0.0.1"
_AT_ONCE = 64  # most votes that are stored or wait
_LARGEST = 1 << 16  # bytes of a vote: four for each character of a note, and the rest


def run_booth(booth: Booth, port: int, say: Callable[[str], None]) -> None:
    """Serve until a signal. `say` is told the address, with the key."""
    key, gate = secrets.token_urlsafe(24), Gate(1, _AT_ONCE)
    keys = Keys.once(key)

    async def serving(sock: socket.socket) -> None:
        async def load() -> None:
            say(f"http://{LOOPBACK}:{sock.getsockname()[1]}/#/vote/{key}")

        with until_signal(gate) as told:
            await run(booth_app(booth, keys, gate), gate, sock, load, told, drain=5)

    with listen(LOOPBACK, port, keys) as sock:
        asyncio.run(serving(sock))


def booth_app(booth: Booth, keys: Keys, gate: Gate) -> ASGIApp:
    """Return the application."""
    reader = Reader(Limits(body=_LARGEST))
    page = Page(reader, Logins(keys, "redraft_vote"), gate, booth=booth)
    return Guard(_nothing, keys, Metrics(lambda: gate.inside), reader, page)


async def _nothing(*_: object) -> None:
    raise Refusal(HTTPStatus.NOT_FOUND, "not_found", "there is a page for votes here, and no model.")
