"""Pieces, errors and costs of replies between a replica and the ingress; the router. No Ray runs here."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import pytest

from redraft.engines.base import Delta, Replies
from redraft.errors import ContextError, RedraftError, ServerError

pytest.importorskip("ray.serve")
from redraft.serve.cluster import replica
from redraft.serve.cluster.engine import _Told
from redraft.serve.cluster.replica import Fault, PrefixRouter, bundled

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
        async with aclosing(bundled(said("a", more, "b", "c"), HOUR)) as pieces:
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
        async for piece in bundled(broken(), 0):
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

        async with aclosing(bundled(endless(), HOUR)) as pieces:
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
    assert (last.prompt_tokens, last.completion_tokens) == (10 + 12 + 13, 4)
    assert told.said == [1, 2, 3, 4]


def test_a_reply_that_never_broke_has_the_counts_of_its_replica() -> None:
    last = Delta("a", (1,), finish="stop", prompt_tokens=10, cached_tokens=8, completion_tokens=1)
    assert _Told().take(last) == last


# The router: asked as Ray Serve would.

A, B = (SimpleNamespace(replica_id=name) for name in "AB")


@pytest.fixture
def chooser() -> PrefixRouter:
    made = PrefixRouter.__new__(PrefixRouter)
    made.initialize_state()
    return made


def request(chain: str, number: int = 0) -> Any:
    return SimpleNamespace(
        kwargs={"chain": chain}, metadata=SimpleNamespace(internal_request_id=f"{chain}/{number}")
    )


def chosen(chooser: PrefixRouter, chain: str) -> Any:
    first, second = asyncio.run(chooser.choose_replicas([A, B], request(chain)))  # type: ignore[list-item]
    assert {each.replica_id for each in second} == {"A", "B"}  # where it goes if that one is full
    return first[0].replica_id


def test_a_chain_returns_to_its_replica(chooser: PrefixRouter) -> None:
    chooser.on_request_routed(request("one"), "B", None)  # type: ignore[arg-type]
    assert chosen(chooser, "one") == "B"
    assert chosen(chooser, "new") == "A"  # the one with fewer streams


def test_a_chain_leaves_a_replica_that_is_much_fuller(chooser: PrefixRouter) -> None:
    chooser.on_request_routed(request("one"), "B", None)  # type: ignore[arg-type]
    for number in range(replica.SLACK):
        chooser.on_request_routed(request("other", number), "B", None)  # type: ignore[arg-type]
    assert chosen(chooser, "one") == "A"
    chooser.on_request_completed("B", "other/0")  # type: ignore[arg-type]
    assert chosen(chooser, "one") == "B"


def test_the_oldest_chains_are_forgotten(chooser: PrefixRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "HOMES", 2)
    for chain in ("one", "two", "three"):
        chooser.on_request_routed(request(chain), "B", None)  # type: ignore[arg-type]
        chooser.on_request_completed("B", f"{chain}/0")  # type: ignore[arg-type]
    assert [chosen(chooser, chain) for chain in ("one", "two", "three")] == ["A", "B", "B"]


def test_without_replicas_there_is_no_choice(chooser: PrefixRouter) -> None:
    assert asyncio.run(chooser.choose_replicas([], request("one"))) == []
