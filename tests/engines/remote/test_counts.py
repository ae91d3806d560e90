"""Tokens that a server does not count are estimated."""

from __future__ import annotations

import pytest

from redraft.engines.base import Message, Sampling
from tests.engines.fake_server import FakeServer, chat_reply, json_reply
from tests.engines.remote.asking import CHAT, chat, collected, engine, using


def test_without_counts_they_are_estimated_from_the_texts(server: FakeServer) -> None:
    """Rather too many than too few, so that a limit of money ends a run too early and not too late."""
    said = "A gull is a grey bird. " * 22  # 506 letters, some 130 tokens
    record = {"choices": [{"message": {"content": said}, "finish_reason": "stop"}]}
    pieces = [said[at : at + 9] for at in range(0, len(said), 9)]
    long: list[Message] = [{"role": "user", "content": "word " * 60}]
    for reply in (json_reply(record), chat_reply(*pieces)):
        server.on(CHAT, reply)
        last = using(engine(server), lambda one: collected(one.chat(long, Sampling())))[-1]
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
