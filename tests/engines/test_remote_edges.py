"""The remote engine at the edges of the protocol: split characters, replies without text, odd failures."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from redraft import revise
from redraft.config import Key
from redraft.engines.base import Message, Sampling
from redraft.engines.remote.engine import RemoteEngine
from redraft.errors import ServerError, UsageError
from tests.engines.fake_server import (
    DONE,
    FakeServer,
    chat_event,
    chat_reply,
    error_reply,
    event,
    json_reply,
    models_reply,
    sse_reply,
)
from tests.engines.remote.test_engine import (
    CHAT,
    MODELS,
    SECRET,
    chat,
    closing,
    collected,
    connected,
    engine,
    refused,
    text_of,
)
from tests.engines.remote.test_real_server import llama_server


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


def test_an_emoji_cut_in_two(server: FakeServer) -> None:
    server.on(CHAT, chat_reply("a\ud83d", "\ude00b"))
    assert [delta.text for delta in chat(engine(server))] == ["a", "😀b", ""]
    by_byte = [b'data: {"choices": [{"delta": {"content": "%c"}}]}\n\n' % byte for byte in "é😀".encode()]
    server.on(CHAT, sse_reply(*by_byte, chat_event("", "stop"), DONE))
    assert text_of(chat(engine(server))) == "é😀"


def test_half_a_character_at_the_end_is_replaced(server: FakeServer) -> None:
    server.on(CHAT, chat_reply("a\ud83d"))
    assert text_of(chat(engine(server))) == "a\ufffd"


@pytest.mark.parametrize(
    ("delta", "aside"),
    [
        (
            {"tool_calls": [{"function": {"name": "search", "arguments": "{"}}]},
            "a call of the tool 'search'",
        ),
        ({"reasoning_content": "Hm."}, "thoughts alone"),
        ({"refusal": "I will not."}, "a refusal: I will not."),
        ({"content": None}, ""),
    ],
)
def test_what_comes_beside_the_text(server: FakeServer, delta: dict[str, Any], aside: str) -> None:
    server.on(CHAT, sse_reply(event({"choices": [{"delta": delta}]}), chat_event("", "stop"), DONE))
    [made] = chat(engine(server))
    assert (made.text, made.finish, made.aside) == ("", "stop", aside)


def test_a_server_that_fails_at_its_list(server: FakeServer) -> None:
    server.on(MODELS, error_reply(500, "Internal Server Error"))
    assert connected(server, "any").name == "any"
    assert len(server.asked(MODELS)) == 1
    with pytest.raises(ServerError, match="Internal Server Error") as failed:
        connected(server)
    assert failed.value.hint == f"See the log of the server. Or name the model: --model {server.url}#name"


def test_a_list_that_fails_for_another_reason(server: FakeServer) -> None:
    server.on(MODELS, error_reply(429, "Slowly"))
    with pytest.raises(ServerError, match="Slowly") as failed:
        connected(server)
    assert failed.value.hint is not None
    assert "name the model" not in failed.value.hint


@pytest.mark.parametrize(
    ("said", "more"),
    [
        ("No connected db.", {"type": "no_db_connection", "code": "400"}),  # a proxy of litellm
        ("API key not valid. Please pass a valid API key.", {"code": 400}),  # Google
        ("Incorrect API key provided: sk-…", {}),
    ],
)
def test_a_key_is_refused_by_400(server: FakeServer, said: str, more: dict[str, Any]) -> None:
    server.on(CHAT, error_reply(400, said, **more)).on(MODELS, error_reply(400, said, **more))
    key = Key(SECRET, "MY_KEY")
    expected = f"{server.host} refuses the key from MY_KEY (400): {said}"
    error = refused(engine(server, key=key))
    assert error.message == expected
    assert error.hint is not None
    assert error.hint.startswith("export REDRAFT_KEY_127_0_0_1_")
    with pytest.raises(ServerError) as caught:  # at once, though the list is not needed
        connected(server, "m", key=key)
    assert caught.value.message == expected


@pytest.mark.parametrize(
    "said", ["No API key is needed, but temperature is 9.", "The key 'town' is invalid."]
)
def test_a_400_about_something_else(server: FakeServer, said: str) -> None:
    server.on(CHAT, error_reply(400, said))
    error = refused(engine(server, key=Key(SECRET, "MY_KEY")))
    assert error.message == f"{server.host} refuses the request (400): {said}"


def test_a_failure_that_is_of_the_request_is_not_repeated(server: FakeServer) -> None:
    server.on(CHAT, error_reply(500, "image input is not supported - hint: provide the mmproj"))
    error = refused(engine(server))
    assert error.message.startswith(f"{server.host} fails (500): image input is not supported")
    assert len(server.requests) == 1


__all__ = ["llama_server"]  # a fixture


@pytest.mark.slow
@pytest.mark.model
def test_llama_cpp_is_sent_the_image_and_says_that_it_takes_none(llama_server: str) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    question: Message = {"role": "user", "content": [{"type": "text", "text": "What is this?"}, picture]}

    async def ask() -> None:
        engine = await RemoteEngine.connect(llama_server)
        deltas = engine.chat([question], Sampling(max_tokens=8))
        with pytest.raises(ServerError, match="image input is not supported"):
            await closing(engine, collected(deltas))

    asyncio.run(ask())


@pytest.mark.parametrize("url", ["http://xn--/v1", "http://é..b/v1"])
def test_what_no_host_is_called(url: str) -> None:
    with pytest.raises(UsageError, match="is not the address of a server"):
        RemoteEngine(url, "m")


def test_a_list_of_models_that_is_none(server: FakeServer) -> None:
    server.on(MODELS, json_reply({"data": 5}))
    with pytest.raises(UsageError, match="has no models"):
        asyncio.run(RemoteEngine.connect(server.url))


def test_tokens_that_are_none(server: FakeServer) -> None:
    server.on("POST /tokenize", json_reply({"tokens": 5}))
    remote = RemoteEngine(server.url, "m", token_ids=True)
    with pytest.raises(ServerError, match="not of the OpenAI protocol"):
        asyncio.run(closing(remote, remote.encode("a")))


@pytest.mark.parametrize("budget", [{"usd": 1}, {"tokens": 1_000_000}])
def test_a_generous_budget_asks_for_no_more_than_the_server_gives(
    server: FakeServer, budget: dict[str, float]
) -> None:
    said = "max_tokens is too large: 1000000. This model supports at most 16384 completion tokens"
    server.on(MODELS, models_reply("m"))
    server.on(CHAT, error_reply(400, said), chat_reply("Rain is water."))
    chain = revise("What is rain?", model=f"{server.url}#m", price="1,1", budget=budget, max_revisions=0)
    assert (chain.answer, chain.stop) == ("Rain is water.", "max_revisions")
    assert [request.json["max_tokens"] for request in server.asked(CHAT)] == [1_000_000, 16384]
