"""What a request shows and what is new do not depend on how fast others are."""

from __future__ import annotations

import asyncio
from random import Random

from redraft.data.generate.instructions.pool import LAG, TaskPool, Turns
from redraft.data.generate.instructions.tasks import Task

SEEDS = [Task("Name three rivers of France."), Task("Count the words of a text.")]


def test_a_similar_instruction_is_not_new_and_its_neighbour_is_named() -> None:
    pool = TaskPool(SEEDS, 5, 0.7)
    refused = pool.claim("Name four rivers of France.")
    assert refused is not None
    fault, nearest = refused
    assert (fault.rule, nearest) == ("similar", "Name three rivers of France.")
    assert pool.claim("Explain a tide to a child.") is None
    assert pool.claim("explain a tide to a child") is not None


def test_scripts_other_than_latin_are_compared_too() -> None:
    pool = TaskPool(SEEDS, 5, 0.7)
    assert pool.claim("列出法国的三条河流。") is None
    assert pool.claim("列出法国的四条河流。") is not None
    assert pool.claim("解释潮汐的原因。") is None


def test_a_request_shows_only_tasks_of_requests_long_before_it() -> None:
    pool = TaskPool(SEEDS, 500, 0.7)
    for number in range(100):
        pool.keep(number, 1, f"task {number}")
    assert pool.made_before(LAG - 1, 2, Random(0)) == []
    assert pool.made_before(LAG, 2, Random(0)) == ["task 0"]
    assert set(pool.made_before(LAG + 9, 99, Random(0))) == {f"task {n}" for n in range(10)}


def test_turns_come_in_the_order_of_numbers_whoever_is_ready_first() -> None:
    order: list[int] = []

    async def one(turns: Turns, number: int) -> None:
        await asyncio.sleep(0.001 * (7 - number))
        await turns.wait(number)
        order.append(number)
        turns.passed(number)
        turns.passed(number)

    async def all_of_them() -> None:
        turns = Turns(["0", "2", "5"])
        await asyncio.gather(*(one(turns, number) for number in (1, 3, 4, 6)))

    asyncio.run(asyncio.wait_for(all_of_them(), 5))
    assert order == [1, 3, 4, 6]


def test_a_request_that_is_left_ends_all_after_it_and_none_before_it() -> None:
    async def all_of_them() -> list[bool]:
        turns = Turns()
        waiting = [asyncio.ensure_future(turns.wait(number)) for number in (1, 3, 4)]
        await asyncio.sleep(0)
        turns.ended(3)
        await asyncio.sleep(0)
        assert [each.done() for each in waiting] == [False, False, True]
        for number in (0, 1, 2):
            turns.passed(number)
        return [*await asyncio.gather(*waiting), await turns.wait(9)]

    assert asyncio.run(asyncio.wait_for(all_of_them(), 5)) == [True, True, False, False]
