"""The pace of requests, measured by a server that enforces its own limits."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import Any

import pytest

from redraft.engines.base import Message, Sampling
from redraft.engines.remote.engine import RemoteEngine
from redraft.engines.remote.rate_limit import CUT, RateLimit, seconds_of
from redraft.engines.retry import Patience
from tests.engines.fake_server import FakeServer, Reply, chat_reply
from tests.generate.teacher import MODEL, Teacher

ASK: list[Message] = [{"role": "user", "content": "Hi"}]
LEFT = {"limit": "10", "remaining": "0", "reset": "5s"}


async def ask_all(teacher: Teacher, count: int, **patience: Any) -> float:
    """Ask so many questions at once, and return the seconds until all are answered."""
    engine = RemoteEngine(teacher.url, MODEL, patience=Patience(outage=60, **patience))

    async def one(number: int) -> None:
        ask: list[Message] = [{"role": "user", "content": f"Describe thing {number}."}]
        _ = [delta async for delta in engine.chat(ask, Sampling(max_tokens=40))]

    start = time.monotonic()
    async with aclosing(engine), asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))
    return time.monotonic() - start


def test_a_limit_of_requests_is_not_exceeded() -> None:
    """100 a second are asked for. The server counts over 1 s, where a half second may be caught up with.

    How much of a limit is used is measured by benchmarks/generate.py.
    """
    with Teacher(delay=0.05, rpm=151, window=1) as teacher:
        seconds = asyncio.run(ask_all(teacher, 200, rpm=6000))
        account = teacher.account()
    assert not account.limited
    assert seconds > 1.9


def test_a_limit_of_tokens_holds_from_the_first_call() -> None:
    """A call comes to 15 to 35 tokens, and 1,000 a second are asked for: 40 calls."""
    with Teacher(delay=0.05, tpm=1600, window=1) as teacher:
        asyncio.run(ask_all(teacher, 80, tpm=60_000))
        account = teacher.account()
    assert not account.limited
    assert account.tokens / max(account.let_in) < 1300


def test_retries_count_as_calls() -> None:
    with Teacher(plan=["500"] * 10) as teacher:
        seconds = asyncio.run(ask_all(teacher, 10, rpm=1200, backoff=0.01))
        account = teacher.account()
    assert (account.statuses["500"], account.statuses["200"]) == (10, 10)
    assert seconds > 19 * 60 / 1200


@pytest.mark.parametrize("tells", [[], ["retry-after"], ["x-ratelimit"]])
def test_without_a_rate_the_requests_under_way_follow_the_refusals(tells: list[str]) -> None:
    """60 within 0.7 s are allowed: of all at once, some are refused, and none is lost."""
    with Teacher(delay=0.02, rpm=60, window=0.7, tells=tells) as teacher:
        asyncio.run(ask_all(teacher, 120, backoff=0.1))
        account = teacher.account()
    assert account.statuses["200"] == 120
    assert 0 < len(account.limited) < 200
    assert not account.twice


def test_a_server_that_says_that_nothing_is_left_is_not_asked_before_some_is() -> None:
    """Ten requests are free again in 5 s, so that one is in half a second."""
    said = {f"x-ratelimit-{name}-requests": text for name, text in LEFT.items()}
    with FakeServer() as server:
        reply = chat_reply("Rain.")
        server.on("POST /v1/chat/completions", Reply(200, {**reply.headers, **said}, reply.pieces), reply)

        async def twice() -> float:
            async with aclosing(RemoteEngine(server.url, MODEL)) as engine:
                for _ in range(2):
                    start = time.monotonic()
                    _ = [delta async for delta in engine.chat(ASK, Sampling())]
            return time.monotonic() - start

        assert asyncio.run(twice()) > 0.45


def test_the_requests_under_way_shrink_once_for_a_round_and_grow_by_one() -> None:
    async def rounds() -> list[int]:
        pace, counts = RateLimit(None, None), []
        turns = [await pace.turn(1) for _ in range(10)]
        for turn in turns:  # ten refusals at once are one
            pace.over(turn)
            pace.shrink(turn.at)
        for _ in range(2):
            turns = await at_once(pace)
            counts.append(len(turns))
            for turn in turns:
                pace.grow()
                pace.over(turn)
        return counts

    async def at_once(pace: RateLimit) -> list[Any]:
        turns: list[Any] = []
        try:
            async with asyncio.timeout(0.05):
                while True:
                    turns.append(await pace.turn(1))
        except TimeoutError:
            return turns

    assert asyncio.run(rounds()) == [int(10 * CUT), int(10 * CUT) + 1]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1), ("6m0s", 360), ("20ms", 0.02), ("2m59.5s", 179.5), ("7.66", 7.66), ("", 0), ("soon", 0)],
)
def test_the_times_of_servers_are_read(text: str, seconds: float) -> None:
    assert seconds_of(text) == pytest.approx(seconds)


def test_a_time_in_no_known_form_is_no_time_at_once() -> None:
    """A count in nanoseconds would take hours if each digit could begin a part."""
    start = time.monotonic()
    assert seconds_of("1731945600000000000 ns of 1970") == 0
    assert seconds_of("1" * 2000 + "?") == 0
    assert time.monotonic() - start < 1
