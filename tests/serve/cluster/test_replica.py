"""What goes between a replica and the ingress, and what a broken reply cost. No Ray runs here."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from redraft.engines.base import Delta, Replies
from redraft.errors import ContextError, RedraftError, ServerError
from redraft.serve.cluster.replica import Fault, together

pytest.importorskip("ray.serve")
from redraft.serve.cluster.engine import _Told

HOUR = 3600.0


async def said(*pieces: str | asyncio.Event) -> AsyncGenerator[Delta, None]:
    for piece in pieces:
        if isinstance(piece, asyncio.Event):
            await piece.wait()
        else:
            yield Delta(piece)


def test_the_first_piece_goes_at_once_and_later_ones_together() -> None:
    async def read() -> list[str]:
        more, texts = asyncio.Event(), []
        async with aclosing(together(said("a", more, "b", "c"), HOUR)) as pieces:
            async for piece in pieces:
                texts.append("".join(delta.text for delta in piece))
                more.set()
        return texts

    assert asyncio.run(read()) == ["a", "bc"]


def test_an_error_comes_behind_what_was_written() -> None:
    async def broken() -> Replies:
        yield Delta("a")
        raise ServerError("it is down", status=503)

    texts: list[str] = []

    async def read() -> None:
        async for piece in together(broken(), 0):
            texts.extend(delta.text for delta in piece)

    with pytest.raises(ServerError, match="it is down"):
        asyncio.run(read())
    assert texts == ["a"]


def test_a_reader_who_leaves_closes_the_engine() -> None:
    async def read() -> bool:
        closed = False

        async def endless() -> Replies:
            nonlocal closed
            try:
                while True:
                    yield Delta("a")
                    await asyncio.sleep(0)
            finally:
                closed = True

        async with aclosing(together(endless(), HOUR)) as pieces:
            await anext(pieces)
        return closed

    assert asyncio.run(read())


@pytest.mark.parametrize(
    "error", [ContextError(5000, 4096, trained=8192), ServerError("busy", hint="Wait.", status=429)]
)
def test_an_error_keeps_what_it_says(error: RedraftError) -> None:
    error.chain = object()  # no chain travels
    again = pickle.loads(pickle.dumps(Fault.of(error))).error  # noqa: S301  (as Ray does)
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == {**vars(error), "chain": None}


def test_what_was_lost_is_spent() -> None:
    told = _Told()
    told.take(Delta("ab", (1, 2)))
    told.broke()  # behind a prompt of 10 tokens
    told.broke()  # before it read anything
    told.take(Delta("c", (3,)))
    told.broke()
    last = told.take(Delta("d", (4,), finish="stop", prompt_tokens=13, completion_tokens=1))
    assert last.prompt_tokens == 10 + 12 + 13
    assert last.completion_tokens == 4
    assert told.said == [1, 2, 3, 4]


def test_a_reply_that_never_broke_has_the_counts_of_its_replica() -> None:
    last = Delta("a", (1,), finish="stop", prompt_tokens=10, cached_tokens=8, completion_tokens=1)
    assert _Told().take(last) == last
