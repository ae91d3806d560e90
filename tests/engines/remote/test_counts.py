"""Tokens that a server does not count are estimated, and a server that ignores `max_tokens` is held to it."""

from __future__ import annotations

import pytest

import redraft
from redraft.engines.base import Delta, Message, Sampling
from redraft.engines.remote.engine import Allowance
from redraft.engines.remote.wire import Chunk
from redraft.errors import CheckError
from tests.engines.fake_server import (
    FakeServer,
    chat_event,
    chat_reply,
    json_reply,
    models_reply,
    raw_event,
    sse_reply,
)
from tests.engines.remote.asking import CHAT, MODELS, RAW, chat, collected, engine, using

ENDLESS = sse_reply(*[chat_event(f" word{n}") for n in range(3000)])
ENDLESS_RAW = sse_reply(*[raw_event(f" word{n}") for n in range(3000)])
CHECK = "words<=5"


def chunk(text: str = "", tokens: tuple[int, ...] = ()) -> Chunk:
    return Chunk(text, tokens, generated=True)


def fitting(allowance: Allowance, text: str, size: int) -> int:
    """How many characters of a text pass, sent so many at a time."""
    for start in range(0, len(text), size):
        if not allowance.covers(chunk(text[start : start + size])):
            return start
    return len(text)


def test_token_ids_are_counted() -> None:
    allowance = Allowance(5)
    assert allowance.covers(chunk("Two words", (1, 2)))
    assert allowance.covers(chunk(" of the", (3, 4, 5)))
    assert allowance.covers(Chunk())
    assert not allowance.covers(chunk("!", (6,)))


def test_a_text_that_comes_letter_by_letter_is_not_cut_short() -> None:
    text = "The quick brown fox jumps over the lazy dog once more. "  # 12 tokens, 55 letters
    assert fitting(Allowance(12), text, 1) == len(text)


def test_a_text_that_comes_in_large_pieces_is_cut_too() -> None:
    assert fitting(Allowance(50), "word " * 1000, 100) < 1000


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("prompted", {"budget": redraft.Budget(tokens=50)}),
        ("native", {"budget": redraft.Budget(tokens=50)}),
        ("prompted", {"budget": redraft.Budget(usd=50e-6), "price": redraft.Price(0, 1)}),
    ],
)
def test_a_budget_closes_the_stream_of_a_server_that_ignores_it(
    server: FakeServer, mode: str, options: dict[str, object]
) -> None:
    server.on(MODELS, models_reply("m"))
    server.on(CHAT, ENDLESS).on(RAW, ENDLESS_RAW)
    chain = redraft.revise("Count.", model=f"{server.url}#m", mode=mode, **options)  # type: ignore[arg-type]
    assert server.dropped.wait(30)
    assert (chain.stop, chain.steps[0].finish) == ("budget", "max_tokens")
    assert len(chain.answer.split()) == 50
    assert chain.usage.completion_tokens == 50
    assert len(server.asked(CHAT) + server.asked(RAW)) == 1


def test_without_a_budget_max_tokens_itself_is_held(server: FakeServer) -> None:
    server.on(MODELS, models_reply("m")).on(CHAT, ENDLESS)
    chain = redraft.revise("Count.", model=f"{server.url}#m", mode="prompted", max_tokens=20)
    assert server.dropped.wait(30)
    assert (chain.stop, len(chain.answer.split())) == ("max_tokens", 20)


def test_critics_and_judges_are_held_too() -> None:
    with FakeServer() as server, FakeServer() as endless:
        server.on(MODELS, models_reply("m")).on(CHAT, chat_reply("A gull."))
        endless.on(MODELS, models_reply("m")).on(CHAT, ENDLESS)
        writer, other, budget = f"{server.url}#m", f"{endless.url}#m", redraft.Budget(tokens=50)
        chain = redraft.revise("Count.", model=writer, critic=other, budget=budget)
        assert endless.dropped.wait(30)
        assert (chain.stop, chain.usage.completion_tokens) == ("budget", 50)
        with pytest.raises(CheckError, match="has no score") as caught:
            redraft.revise("Count.", model=writer, judge=other, checks=["judge:Is it good?"], budget=budget)
        assert caught.value.chain
        assert len(endless.asked(CHAT)) == 3  # the judge is asked for its score again


def test_letters_that_never_end_count_as_the_tokens_that_were_allowed(server: FakeServer) -> None:
    server.on(CHAT, sse_reply(*[chat_event("a")] * 3000))
    assert chat(engine(server), Sampling(max_tokens=20))[-1] == Delta(
        finish="max_tokens", prompt_tokens=5, completion_tokens=20, estimated=True
    )


def test_a_token_of_many_letters_is_one() -> None:
    allowance = Allowance(3)
    assert all(allowance.covers(chunk(text)) for text in (" telecommunications", " is", " responsabilidades"))


def test_an_honest_reply_of_the_full_length_is_whole(server: FakeServer) -> None:
    words = [f" word{n}" for n in range(20)]
    server.on(MODELS, models_reply("m")).on(CHAT, chat_reply(*words))
    chain = redraft.revise(
        "Count.", model=f"{server.url}#m", checks=["words>=20"], max_tokens=20, max_revisions=0
    )
    assert (chain.stop, len(chain.answer.split())) == ("passed", 20)


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
