"""Keys that a server refuses, and accounts that are empty."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

import redraft
from redraft.engines.base import Message, Sampling
from redraft.engines.config import Key, key_variable
from redraft.engines.remote.engine import RemoteEngine
from redraft.errors import ServerError
from redraft.jobs.causes import cause_of, is_doubtful, is_of_item
from tests.engines.fake_server import FakeServer, chat_reply, error_reply, models_reply
from tests.engines.paid_server import MODEL

FIRST, SECOND = "sk-first-secret", "sk-second-secret"
KEY = Key(FIRST, "MY_KEY")
ASK: list[Message] = [{"role": "user", "content": "Hi"}]


async def ask(url: str, times: int) -> None:
    async with aclosing(RemoteEngine(url, MODEL, key=KEY)) as engine:
        for _ in range(times):
            _ = [delta async for delta in engine.chat(ASK, Sampling())]


def test_a_filter_of_the_server_is_no_fault_of_the_key(server: FakeServer) -> None:
    """OpenRouter's 403: with it, one prompt would end the run."""
    moderated = error_reply(403, "The model requires moderation. Your input was flagged for violence.")
    server.on("POST /v1/chat/completions", moderated, *[chat_reply("Hi.")] * 3)
    with pytest.raises(ServerError, match="refuses the request") as caught:
        asyncio.run(ask(server.url, 1))
    assert len(server.requests) == 1
    assert is_of_item(caught.value)
    assert not is_doubtful(caught.value)
    assert cause_of(caught.value) == "content filter"


def test_an_empty_account_ends_the_run_at_once(server: FakeServer) -> None:
    empty = error_reply(429, "You exceeded your quota.", type="insufficient_quota")
    server.on("POST /v1/chat/completions", chat_reply("Hello."), empty)
    with pytest.raises(ServerError, match=r"the account of the key from MY_KEY is empty \(429\)") as caught:
        asyncio.run(ask(server.url, 2))
    assert len(server.requests) == 2
    assert "You exceeded your quota." in caught.value.message
    assert not is_doubtful(caught.value)
    assert not is_of_item(caught.value)


@pytest.mark.parametrize("before", ["", FIRST])
def test_a_key_that_is_set_after_a_401_is_used_in_the_same_process(
    server: FakeServer, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = error_reply(401, "Invalid API key.")
    server.on("GET /v1/models", models_reply("m"))
    server.on("POST /v1/chat/completions", refused)
    monkeypatch.setenv(key_variable(server.host), before)

    def asked() -> redraft.Chain:
        return redraft.revise("Hi", model=f"{server.url}#m", max_revisions=0)

    with pytest.raises(ServerError, match="401") as caught:
        asked()
    assert f"export {key_variable(server.host)}=" in str(caught.value.hint)
    monkeypatch.setenv(key_variable(server.host), SECOND)
    server.on("POST /v1/chat/completions", chat_reply("It rains."))
    assert asked().answer == "It rains."
    assert server.requests[-1].headers["authorization"] == f"Bearer {SECOND}"
