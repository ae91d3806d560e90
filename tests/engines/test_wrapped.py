"""What calls cost that break off: the server read the prompt, and wrote a part of the reply."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from redraft.chain import Usage
from redraft.engines.base import Message, Sampling
from redraft.engines.remote.wire import PER_MESSAGE
from redraft.engines.wrapped import MeteredEngine
from redraft.errors import EngineError
from redraft.revision.api import arevise
from tests.engines.fake_server import (
    FakeServer,
    Reply,
    chat_event,
    chat_reply,
    error_reply,
    event,
    json_reply,
    sse_reply,
    usage_event,
)
from tests.engines.remote.asking import CHAT, engine

ASKED: list[Message] = [{"role": "user", "content": "x" * 300}]
PROMPT = 100 + PER_MESSAGE

CUT = sse_reply(chat_event("It "), chat_event("is "), cut=True)
BAD = sse_reply(chat_event("It "), b"data: {broken\n\n")
FAILED = sse_reply(event({"error": {"message": "overloaded"}}))
NO_JSON = Reply(200, {"Content-Type": "application/json"}, [b'{"choices": [{"mes'])
OTHER_JSON = json_reply({"hello": "world"})
TOLD = sse_reply(chat_event("It is"), usage_event(77, 5), cut=True)


async def paid(server: FakeServer, *, leave: bool = False) -> Usage:
    """What a call costs that fails, or that the caller leaves after its first text."""
    async with aclosing(engine(server)) as remote:
        metered = MeteredEngine(remote)
        stream = metered.chat(ASKED, Sampling())
        if leave:
            await anext(stream)
            await stream.aclose()
        else:
            with pytest.raises(EngineError):
                _ = [delta async for delta in stream]
        return metered.take()


def test_pieces_are_counted_while_they_come_and_taken_back_at_the_end(server: FakeServer) -> None:
    server.on(CHAT, chat_reply("It ", "is."))
    counts: list[int] = []

    async def asked() -> None:
        async with aclosing(engine(server)) as remote:
            metered = MeteredEngine(remote, lambda: counts.append(99), counts.append)
            _ = [delta async for delta in metered.chat(ASKED, Sampling())]

    asyncio.run(asked())
    assert [count for count in counts if count] == [1, 1, -2, 99]


@pytest.mark.parametrize("reply", [CUT, BAD, FAILED, NO_JSON, OTHER_JSON])
def test_a_call_that_breaks_off_pays_for_its_prompt(server: FakeServer, reply: Reply) -> None:
    server.on(CHAT, reply)
    usage = asyncio.run(paid(server))
    assert (usage.prompt_tokens, usage.estimated) == (PROMPT, True)
    assert usage.completion_tokens == {id(CUT): 2, id(BAD): 1}.get(id(reply), 0)


def test_the_counts_of_a_call_that_breaks_off_are_taken_if_they_came(server: FakeServer) -> None:
    server.on(CHAT, TOLD)
    assert asyncio.run(paid(server)) == Usage(prompt_tokens=77, completion_tokens=5)


def test_a_refused_call_costs_nothing(server: FakeServer) -> None:
    server.on(CHAT, error_reply(400, "No."))
    assert asyncio.run(paid(server)) == Usage()


def test_a_call_that_the_caller_leaves_pays_for_its_prompt(server: FakeServer) -> None:
    server.on(CHAT, sse_reply(chat_event("It "), 30.0))
    usage = asyncio.run(paid(server, leave=True))
    assert (usage.prompt_tokens, usage.estimated) == (PROMPT, True)
    assert usage.completion_tokens


def test_the_chain_of_a_call_that_breaks_off_counts_the_prompt(server: FakeServer) -> None:
    async def run() -> Usage:
        async with aclosing(engine(server)) as remote:
            with pytest.raises(EngineError) as caught:
                await arevise("x" * 300, model=remote, mode="prompted")
            assert caught.value.chain is not None
            return caught.value.chain.usage

    server.on(CHAT, CUT)
    usage = asyncio.run(run())
    assert (usage.prompt_tokens, usage.completion_tokens, usage.estimated) == (PROMPT, 2, True)
