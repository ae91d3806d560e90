"""When requests to a server are made: by a clock that passes while all wait, and by what a server sees."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from itertools import pairwise
from typing import Any

import pytest

from redraft.engines.base import Message, Sampling
from redraft.engines.remote.engine import RemoteEngine
from redraft.engines.retry import CUT, SLACK, Patience, RateLimit, Turn
from tests.engines import clock
from tests.engines.paid_server import DOWN, MODEL, PaidServer


async def turns(rate: RateLimit, tokens: Sequence[int], *, lasts: float = 0.05) -> list[Turn]:
    queue, found = list(tokens), list[Turn]()

    async def worker() -> None:
        while queue:
            amount = queue.pop()
            found.append(turn := await rate.turn(amount))
            await asyncio.sleep(lasts)
            rate.over(turn)
            rate.used(amount)

    await asyncio.gather(*(worker() for _ in range(10)))
    return found


def test_requests_are_spread_evenly_over_the_minute() -> None:
    made = clock.run(turns(RateLimit(6000, None), [10] * 200))
    assert {round(after.at - before.at, 4) for before, after in pairwise(made)} == {round(SLACK / 100, 4)}


def test_a_process_that_was_held_up_catches_up_half_a_second() -> None:
    async def held_up() -> list[float]:
        first = asyncio.create_task(turns(RateLimit(600, None), [1] * 30, lasts=0))
        await asyncio.sleep(1)
        asyncio.get_running_loop().now += 2  # type: ignore[attr-defined]  # nobody runs
        return [turn.at for turn in await first]

    times = clock.run(held_up())
    assert max(sum(at <= each < at + 1 for each in times) for at in times) <= 10 + 5 + 1


def test_tokens_are_kept_to_from_the_first_call_on_and_what_was_not_used_is_given_back() -> None:
    """What calls come to is 100; before the first has ended, they are expected to come to 400."""

    async def all_calls() -> list[float]:
        rate, made = RateLimit(None, 6000), []
        for _ in range(20):
            made.append(turn := await rate.turn(400))
            rate.over(turn)
            rate.used(100)
        return [turn.at for turn in made]

    times = clock.run(all_calls())
    assert times[-1] == pytest.approx(19 * 100 * SLACK / 100, abs=0.6)  # a second for 100 tokens


def test_the_requests_under_way_shrink_once_for_a_round_and_grow_by_one() -> None:
    async def rounds() -> list[int]:
        rate, counts = RateLimit(None, None), []
        made = [await rate.turn(1) for _ in range(10)]
        await asyncio.sleep(1)
        for turn in made:  # ten refusals at once are one
            rate.over(turn)
            rate.shrink(turn.at)
        for _ in range(2):
            made = await at_once(rate)
            counts.append(len(made))
            for turn in made:
                rate.grow()
                rate.over(turn)
        return counts

    async def at_once(rate: RateLimit) -> list[Any]:
        found: list[Any] = []
        try:
            async with asyncio.timeout(1):
                while True:
                    found.append(await rate.turn(1))
        except TimeoutError:
            return found

    assert clock.run(rounds()) == [int(10 * CUT), int(10 * CUT) + 1]


# A server that keeps an account


async def ask_all(server: PaidServer, count: int, **patience: Any) -> None:
    engine = RemoteEngine(server.url, MODEL, patience=Patience(outage=60, **patience))

    async def one(number: int) -> None:
        ask: list[Message] = [{"role": "user", "content": f"Describe thing {number}."}]
        _ = [delta async for delta in engine.chat(ask, Sampling(max_tokens=40))]

    async with aclosing(engine), asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))


def test_retries_count_as_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    turn, taken = RateLimit.turn, list[int]()

    async def seen(rate: RateLimit, most: int) -> Turn:
        taken.append(most)
        return await turn(rate, most)

    monkeypatch.setattr(RateLimit, "turn", seen)
    with PaidServer(plan=dict.fromkeys(range(1, 11), DOWN)) as server:
        asyncio.run(ask_all(server, 10, rpm=6000, backoff=0.01))
    assert server.statuses == {500: 10, 200: 10}
    assert len(taken) == 20
