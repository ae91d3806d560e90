from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from redraft.evaluation.voting import Booth as Voters
from redraft.serve.gate import Gate
from redraft.serve.keys import Keys
from redraft.serve.page.mount import Booth, booth_app
from redraft.serve.run import listen, run
from tests.evaluation.voting.test_ballots import Voting

KEY = "a-key-of-the-tests-for-votes"


@dataclass
class Served:
    """An open booth."""

    root: str  # the address, without the key
    client: httpx.Client  # a visitor who has the key

    @property
    def url(self) -> str:
        return f"{self.root}#/vote/{KEY}"


@contextmanager
def serving(voting: Voting, name: str = "zoë", *, known: bool = True) -> Iterator[Served]:
    loop, told, gate = asyncio.new_event_loop(), asyncio.Event(), Gate(1, 64)
    keys, booth = Keys.once(KEY), Booth(name, known, Voters(voting.ballots).act)

    async def main() -> None:
        await run(booth_app(booth, keys, gate), gate, sock, lambda: asyncio.sleep(0), told, drain=30)

    with listen("127.0.0.1", 0, keys) as sock:
        thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
        thread.start()
        root = f"http://127.0.0.1:{sock.getsockname()[1]}/"
        client = httpx.Client(base_url=root, timeout=30)
        try:
            assert client.post("login", json={"key": KEY}).status_code == 200
            yield Served(root, client)
        finally:
            loop.call_soon_threadsafe(told.set)
            thread.join(30)
            assert not thread.is_alive()
            client.close()
            loop.close()
