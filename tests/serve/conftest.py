from __future__ import annotations

from collections.abc import Iterator

import pytest

from redraft.serve.reader import ServerLimits
from tests.engines.fake_server import FakeServer, chat_reply, raw_reply
from tests.serve.running import Server, both, served


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with served(both("Fine."), limits=ServerLimits(body=1 << 20)) as running:
        yield running


@pytest.fixture
def upstream() -> Iterator[FakeServer]:
    with FakeServer() as server:
        server.on("POST /v1/chat/completions", chat_reply("It rains."))
        server.on("POST /v1/completions", raw_reply("It rains."))
        yield server
