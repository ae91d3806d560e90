"""Which replica a chain goes to. No Ray runs here: a router is asked as Ray Serve would."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray.serve")
from redraft.serve.cluster import router
from redraft.serve.cluster.router import PrefixRouter

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
    for number in range(router.SLACK):
        chooser.on_request_routed(request("other", number), "B", None)  # type: ignore[arg-type]
    assert chosen(chooser, "one") == "A"
    chooser.on_request_completed("B", "other/0")  # type: ignore[arg-type]
    assert chosen(chooser, "one") == "B"


def test_the_oldest_chains_are_forgotten(chooser: PrefixRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router, "HOMES", 2)
    for chain in ("one", "two", "three"):
        chooser.on_request_routed(request(chain), "B", None)  # type: ignore[arg-type]
        chooser.on_request_completed("B", f"{chain}/0")  # type: ignore[arg-type]
    assert [chosen(chooser, chain) for chain in ("one", "two", "three")] == ["A", "B", "B"]


def test_without_replicas_there_is_no_choice(chooser: PrefixRouter) -> None:
    assert asyncio.run(chooser.choose_replicas([], request("one"))) == []
