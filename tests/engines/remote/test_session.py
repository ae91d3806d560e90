"""The header that tells a router which chain a request is of, against the rules of vLLM's router.

Its session routing sends equal values of a header to one server, by a ring of hashes, and a request without
it to the server with the fewest requests (vllm-project/production-stack, `SessionRouter`).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from contextlib import aclosing

import pytest

import redraft
from redraft.engines.base import Sampling
from redraft.engines.load import load_engine
from redraft.errors import UsageError
from tests.engines.fake_server import FakeServer, Reply, Request, chat_reply, models_reply
from tests.engines.remote.asking import CHAT, MODELS, chat, engine

SERVERS = 4
HEADER = "x-session-id"


class Router:
    """Servers behind one address: which of them was asked, for each request in order."""

    def __init__(self, server: FakeServer) -> None:
        self.asked: list[int] = []
        self._server = server
        server.on(MODELS, models_reply("m")).on(CHAT, self._reply)

    def _reply(self, request: Request) -> Reply:
        self.asked.append(self._routed(request.headers.get(HEADER)))
        return chat_reply("Rain is water, and it is wet.")

    def _routed(self, session: str | None) -> int:
        if session is not None:
            return int(hashlib.md5(session.encode()).hexdigest(), 16) % SERVERS  # noqa: S324  (no secret)
        used = Counter(self.asked)
        return min(range(SERVERS), key=lambda number: used[number])

    def revise(self, *, session_header: str = "", id: str = "") -> None:  # noqa: A002  (redraft's)
        """Make a chain of four answers."""

        async def made() -> None:
            model = await load_engine(f"{self._server.url}#m", session_header=session_header)
            async with aclosing(model):
                await redraft.arevise(
                    "Describe rain.", model=model, checks=["words<=3"], max_revisions=3, id=id
                )

        asyncio.run(made())


def test_a_chain_stays_on_one_server(server: FakeServer) -> None:
    router = Router(server)
    router.revise(id="rain/1", session_header=HEADER)
    assert len(router.asked) >= 4
    assert len(set(router.asked)) == 1


def test_without_the_header_a_chain_goes_everywhere(server: FakeServer) -> None:
    router = Router(server)
    router.revise(id="rain/1")
    assert len(set(router.asked)) == SERVERS


def test_the_header_is_the_same_in_every_run_and_says_nothing_of_the_id(server: FakeServer) -> None:
    router = Router(server)
    for _ in range(2):
        router.revise(id="patient/Ada Lovelace", session_header=HEADER)
    router.revise(id="rain/2", session_header=HEADER)
    sent = Counter(request.headers[HEADER] for request in server.asked(CHAT))
    assert len(sent) == 2
    assert all(len(value) == 32 and value.isalnum() for value in sent)


def test_chains_without_an_id_have_sessions_of_their_own(server: FakeServer) -> None:
    router = Router(server)
    for _ in range(2):
        router.revise(session_header=HEADER)
    assert len({request.headers[HEADER] for request in server.asked(CHAT)}) == 2


def test_a_header_of_the_request_goes_before_it(server: FakeServer) -> None:
    server.on(CHAT, chat_reply("Hi."))
    sampling = Sampling(chain="one", extra_headers={HEADER: "mine"})
    chat(engine(server, session_header=HEADER), sampling)
    chat(engine(server), Sampling(chain="one"))
    first, second = server.asked(CHAT)
    assert first.headers[HEADER] == "mine"
    assert HEADER not in second.headers


@pytest.mark.parametrize("name", ["authorization", "x-", "x-a b", "host"])
def test_headers_that_are_not_for_sessions(name: str) -> None:
    with pytest.raises(UsageError, match=f"session_header is '{name}'"):
        asyncio.run(load_engine("http://127.0.0.1:9/v1#m", session_header=name))
