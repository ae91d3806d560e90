"""Tokens of a server that does not count them are estimated from the texts."""

from __future__ import annotations

import asyncio

import pytest

from tests.engines.fake_server import FakeServer, chat_reply, json_reply
from tests.engines.remote.test_engine import CHAT, SAMPLING, chat, closing, collected, engine, server

__all__ = ["server"]


def test_without_counts_they_are_estimated_from_the_texts(server: FakeServer) -> None:
    """Rather too many than too few, so that a limit of money ends a run too early and not too late."""
    said = "A gull is a grey bird. " * 22  # 506 letters, some 130 tokens
    record = {"choices": [{"message": {"content": said}, "finish_reason": "stop"}]}
    pieces = [said[at : at + 9] for at in range(0, len(said), 9)]
    for reply in (json_reply(record), chat_reply(*pieces)):
        server.on(CHAT, reply)
        last = asyncio.run(
            closing(
                made := engine(server),
                collected(made.chat([{"role": "user", "content": "word " * 60}], SAMPLING)),
            )
        )[-1]
        assert last.estimated
        assert last.prompt_tokens is not None
        assert last.completion_tokens is not None
        assert 60 <= last.prompt_tokens <= 120
        assert 130 <= last.completion_tokens <= 200


@pytest.mark.parametrize("name", ["reasoning_content", "refusal"])
def test_thoughts_and_refusals_are_estimated_too(server: FakeServer, name: str) -> None:
    message = {"content": "Yes.", name: "I think of it. " * 40}
    server.on(CHAT, json_reply({"choices": [{"message": message, "finish_reason": "stop"}]}))
    assert (chat(engine(server))[-1].completion_tokens or 0) >= 150


def test_a_token_a_piece_is_counted(server: FakeServer) -> None:
    server.on(CHAT, chat_reply(*["雨"] * 50))
    assert chat(engine(server))[-1].completion_tokens == 50
