"""A proxy of litellm keeps a chain on one server, by the header that says which chain a request is of."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack, aclosing
from pathlib import Path

import pytest

import redraft
from redraft.config import Key
from redraft.engines.remote.engine import RemoteEngine
from tests.engines.fake_server import FakeServer, chat_reply
from tests.engines.remote.asking import CHAT
from tests.servers.environments import environment
from tests.servers.processes import ServerProcess

pytestmark = pytest.mark.slow

CHAINS = 6
KEY = "sk-proxy-9876543210"
HEADER = "x-litellm-session-id"


@pytest.fixture(scope="module")
def servers() -> Iterator[list[FakeServer]]:
    """Two servers of one model."""
    with ExitStack() as stack:
        found = [stack.enter_context(FakeServer()) for _ in range(2)]
        for each in found:
            each.on(CHAT, chat_reply("Rain is water, and it is wet."))
        yield found


@pytest.fixture(scope="module")
def proxy(servers: list[FakeServer], logs: Path) -> Iterator[ServerProcess]:
    models = [
        {
            "model_name": "m",
            "litellm_params": {"model": "openai/m", "api_base": each.url, "api_key": "any"},
        }
        for each in servers
    ]
    config = {
        "model_list": models,
        "general_settings": {"master_key": KEY},
        "router_settings": {"optional_pre_call_checks": ["session_affinity"]},
    }
    path = logs / "session.yaml"
    path.write_text(json.dumps(config))
    command = environment("litellm", "litellm[proxy]") / "litellm"
    with ServerProcess(
        [command, "--config", path, "--telemetry", "False", "--host", "127.0.0.1"],
        logs / "session.log",
        ready="/health/liveliness",
        model="m",
        key=KEY,
        LITELLM_LOCAL_MODEL_COST_MAP="True",
    ) as server:
        yield server


def places(proxy: ServerProcess, servers: list[FakeServer], header: str) -> list[set[int]]:
    """The servers that each of some chains asked."""

    async def made() -> list[set[int]]:
        found = []
        key = Key(KEY, "the test")
        engine = RemoteEngine(proxy.url, "m", key=key, session_header=header)
        async with aclosing(engine):
            for number in range(CHAINS):
                before = [len(each.asked(CHAT)) for each in servers]
                await redraft.arevise(
                    "Describe rain.", model=engine, checks=["words<=3"], id=f"{header}/{number}"
                )
                after = [len(each.asked(CHAT)) for each in servers]
                found.append({place for place in range(2) if after[place] > before[place]})
        return found

    return asyncio.run(made())


def test_a_chain_stays_on_the_server_that_litellm_chose(
    proxy: ServerProcess, servers: list[FakeServer]
) -> None:
    found = places(proxy, servers, HEADER)
    assert all(len(each) == 1 for each in found)
    assert len(set.union(*found)) == 2  # chains are spread
    assert any(len(each) == 2 for each in places(proxy, servers, ""))
