from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from redraft.jobs.files import locked
from tests.evaluation.voting.test_ballots import Voting
from tests.serve.page.booths import KEY, Served, serving


@pytest.fixture
def booth(voting: Voting) -> Iterator[Served]:
    with serving(voting, known=False) as found:
        yield found


def act(booth: Served, do: str, pair: Any = None, voter: str = "zoë", note: str = "") -> dict[str, Any]:
    body = {"voter": voter, "do": do, "id": pair["id"] if pair else "", "note": note}
    reply = booth.client.post("page/booth", json=body)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def test_the_page_comes_without_answers_and_nothing_else_without_the_key(booth: Served) -> None:
    stranger = httpx.get(booth.root)
    assert stranger.status_code == 200
    assert "<form hidden>" in stranger.text, "a voter asks nothing"
    assert not any(each in stranger.text for each in ("n says", KEY))
    for method, path in (("GET", "page/booth"), ("POST", "page/booth"), ("GET", "v1/models"), ("GET", "x")):
        assert httpx.request(method, booth.root + path, json={"do": "show"}).status_code == 401
    assert httpx.post(f"{booth.root}login", json={"key": "wrong"}).status_code == 401
    assert booth.client.get("v1/models").status_code == 404
    assert booth.client.post("page/votes", json={}).status_code == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://localhost:3000"}, 403),
        ({"Origin": "null"}, 403),
        ({"Cookie": "redraft_vote=x"}, 401),
        ({"Cookie": "redraft_session=x"}, 401),
    ],
)
def test_other_requests_are_refused(
    booth: Served, voting: Voting, headers: dict[str, str], status: int
) -> None:
    body = {"voter": "zoë", "do": "1", "id": act(booth, "show")["pair"]["id"]}
    with httpx.Client(base_url=booth.root) as client:
        cookies = "; ".join(f"{each.name}={each.value}" for each in booth.client.cookies.jar)
        given = {"Cookie": cookies, **headers}
        assert client.post("page/booth", json=body, headers=given).status_code == status
    assert voting.votes() == []


@pytest.mark.parametrize(
    "body",
    [
        *(b" ", b"{", b"[]", b"\xff", b'{"voter": "z"}', b'{"voter": "z", "do": "delete"}'),
        *(b'{"voter": "", "do": "show"}', b'{"voter": "\\ud800", "do": "show"}', b'{"do": "show", "x": 1}'),
        json.dumps({"voter": "z", "do": "show", "note": "x" * 10_001}).encode(),
    ],
)
def test_a_body_that_is_no_act_is_refused(booth: Served, body: bytes) -> None:
    reply = booth.client.post("page/booth", content=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["message"]


def test_what_changes_nothing_is_said(booth: Served, voting: Voting) -> None:
    assert act(booth, "undo")["remark"] == "You have no vote to undo."
    pair = act(booth, "show")["pair"]  # on two pages
    assert act(booth, "1", pair)["remark"] == ""
    after = act(booth, "2", pair)
    assert after["done"] == 1
    assert after["remark"] == "You already judged this pair elsewhere. That vote is kept."
    assert [each.winner for each in voting.votes()] == ["1"]
    voting.path.unlink()
    reply = booth.client.post("page/booth", json={"voter": "zoë", "do": "show"})
    assert (reply.status_code, "votes.jsonl is gone" in reply.text) == (500, True)


def test_nobody_votes_in_another_name(voting: Voting) -> None:
    with serving(voting, "Ada") as booth:
        act(booth, "1", act(booth, "show", voter="Eve")["pair"], voter="Eve")
    assert [each.judge for each in voting.votes()] == ["Ada"]


def test_voters_at_once_get_pairs_and_votes_of_their_own(booth: Served, voting: Voting) -> None:
    names = [f"wähler {n}" for n in range(5)]

    def vote_on_all(name: str) -> int:
        state = act(booth, "show", voter=name)
        while state["pair"]:
            state = act(booth, "12="[len(name) % 3], state["pair"], voter=name, note=name)
        return int(state["done"])

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(vote_on_all, names)) == [6] * 5
    votes = voting.votes()
    assert len({each.review_id for each in votes}) == 30
    assert {each.judge: each.text for each in votes} == {name: name for name in names}


def test_the_end_waits_for_the_vote_under_way(voting: Voting) -> None:
    with ThreadPoolExecutor() as pool, ExitStack() as held:
        with serving(voting) as booth:
            pair = act(booth, "show")["pair"]
            held.enter_context(locked(voting.path.with_name("votes.jsonl.lock")))
            voted = pool.submit(act, booth, "1", pair)
            time.sleep(0.2)
            pool.submit(lambda: (time.sleep(0.4), held.close()))
        assert voted.result(30)["done"] == 1
    assert len(voting.votes()) == 1
