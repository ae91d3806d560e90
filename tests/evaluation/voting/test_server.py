"""The server of the page: who is answered, who is refused, and what several voters get at once."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from redraft.errors import UsageError
from redraft.evaluation.voting.server import VoteServer, page
from redraft.files import locked
from tests.evaluation.voting.test_ballots import Voting


@contextmanager
def serving(voting: Voting, name: str = "zoë", *, known: bool = True) -> Iterator[VoteServer]:
    with VoteServer(0, page(name, known=known), voting.ballots) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def voting(tmp_path: Path) -> Voting:
    return Voting(tmp_path)


@pytest.fixture
def server(voting: Voting) -> Iterator[VoteServer]:
    with serving(voting) as found:
        yield found


def ask(
    server: VoteServer, method: str = "POST", path: str = "/act", body: Any = None, **headers: str | None
) -> tuple[http.client.HTTPResponse, bytes]:
    """Send a request as the page does. A header of None is left out, an underscore is a dash."""
    port = server.server_address[1]
    sent: dict[str, str | None] = {
        "Host": f"127.0.0.1:{port}",
        "Origin": f"http://127.0.0.1:{port}",
        "X-Redraft-Token": server.token,
        "Content-Type": "application/json",
    }
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    data = body if isinstance(body, bytes) else json.dumps(body or {"voter": "zoë", "do": "show"}).encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest(method, path, skip_host=True)
    for name, value in ({"Content-Length": str(len(data))} | sent).items():
        if value is not None:
            connection.putheader(name, value.encode())
    connection.endheaders(data if method == "POST" else None)
    reply = connection.getresponse()
    found = reply.read()
    connection.close()
    return reply, found


def act(server: VoteServer, do: str, pair: Any = None, voter: str = "zoë", note: str = "") -> dict[str, Any]:
    body = {"voter": voter, "do": do, "id": pair["id"] if pair else "", "note": note}
    reply, data = ask(server, body=body)
    assert reply.status == 200, data
    found: dict[str, Any] = json.loads(data)
    return found


def test_the_page_comes_with_a_strict_policy_and_without_answers(server: VoteServer) -> None:
    reply, data = ask(server, "GET", "/", X_Redraft_Token=None, Origin=None)
    assert reply.status == 200
    allowed = dict(
        part.strip().split(" ", 1) for part in (reply.getheader("Content-Security-Policy") or "").split(";")
    )
    for name in ("script-src", "style-src"):
        assert re.fullmatch(r"'sha256-[\w+/]+='", allowed.pop(name))
    assert allowed.pop("connect-src") == "'self'"
    assert allowed == dict.fromkeys(("default-src", "base-uri", "form-action", "frame-ancestors"), "'none'")
    assert reply.getheader("X-Content-Type-Options") == "nosniff"
    assert reply.getheader("Cache-Control") == "no-store"
    assert "n says" not in data.decode()
    assert server.token not in data.decode()


@pytest.mark.parametrize(
    ("headers", "status", "why"),
    [
        ({"Host": "evil.example"}, 403, "another host"),
        ({"Host": "127.0.0.1.evil.example:80", "Origin": "http://127.0.0.1.evil.example:80"}, 403, "another"),
        ({"Host": None}, 403, "one host"),
        ({"Origin": "http://localhost:3000"}, 403, "another site"),
        ({"Origin": "null"}, 403, "another site"),
        ({"X_Redraft_Token": "wröng"}, 403, "token"),
        ({"X_Redraft_Token": None}, 403, "token"),
        ({"Content_Type": "text/plain"}, 415, "application/json"),
        ({"Content_Length": None}, 411, "how long"),
        ({"Content_Length": "-1"}, 411, "how long"),
        ({"Content_Length": "1_0"}, 411, "how long"),
        ({"Content_Length": "9" * 6000}, 413, "at most"),
        ({"path": "/etc/passwd"}, 404, "/act"),
    ],
)
def test_other_requests_are_refused(
    server: VoteServer, voting: Voting, headers: dict[str, Any], status: int, why: str
) -> None:
    pair = act(server, "show")["pair"]
    reply, data = ask(server, body={"voter": "zoë", "do": "1", "id": pair["id"]}, **headers)
    assert reply.status == status
    assert why in json.loads(data)["error"]
    assert "default-src 'none'" in (reply.getheader("Content-Security-Policy") or "")
    assert reply.getheader("Access-Control-Allow-Origin") is None
    assert voting.votes() == []


def test_the_page_is_refused_under_another_name_too_and_a_tunnel_has_a_port_of_its_own(
    server: VoteServer,
) -> None:
    reply, data = ask(server, "GET", "/", Host="evil.example", Origin=None)
    assert (reply.status, b"<html" in data) == (403, False)
    assert ask(server, "GET", "/votes.jsonl", Origin=None)[0].status == 404
    assert ask(server, "PUT")[0].status == 501
    assert ask(server, Host="localhost:9000", Origin="http://localhost:9000")[0].status == 200


@pytest.mark.parametrize(
    "body",
    [
        *(b" ", b"{", b"[]", b"\xff", b'{"voter": "z"}', b'{"voter": "z", "do": "delete"}'),
        *(b'{"voter": "", "do": "show"}', b'{"voter": "\\ud800", "do": "show"}'),
        json.dumps({"voter": "z", "do": "show", "note": "x" * 10_001}).encode(),
    ],
)
def test_a_body_that_is_no_request_is_refused(server: VoteServer, body: bytes) -> None:
    reply, data = ask(server, body=body)
    assert reply.status == 400
    assert json.loads(data)["error"]


def test_what_changes_nothing_is_said(server: VoteServer, voting: Voting) -> None:
    assert act(server, "undo")["remark"] == "You have no vote to undo."
    pair = act(server, "show")["pair"]  # on two pages
    assert act(server, "1", pair)["remark"] == ""
    after = act(server, "2", pair)
    assert after["done"] == 1
    assert after["remark"] == "You had judged that pair elsewhere, and that vote stands."
    assert [each.winner for each in voting.votes()] == ["1"]
    voting.path.unlink()
    reply, data = ask(server)
    assert (reply.status, "votes.jsonl is gone" in json.loads(data)["error"]) == (500, True)


def test_silent_connections_hold_up_no_voter(server: VoteServer) -> None:
    with ExitStack() as stack:
        for part in (b"", b"POST /act HT", b"POST /act HTTP/1.1\r\nHost: 127.0.0.1\r\nX") * 30:
            silent = stack.enter_context(socket.create_connection(("127.0.0.1", server.server_address[1])))
            silent.sendall(part)
        assert act(server, "show")["total"] == 6


def test_voters_at_once_get_pairs_and_votes_of_their_own(server: VoteServer, voting: Voting) -> None:
    names = [f"wähler {n}" for n in range(5)]

    def vote_on_all(name: str) -> int:
        state = act(server, "show", voter=name)
        while state["pair"]:
            state = act(server, "12="[len(name) % 3], state["pair"], voter=name, note=name)
        return int(state["done"])

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(vote_on_all, names)) == [6] * 5
    votes = voting.votes()
    assert len({each.review_id for each in votes}) == 30
    assert {each.judge: each.text for each in votes} == {name: name for name in names}


def test_closing_waits_for_the_vote_under_way_and_begins_no_other(voting: Voting) -> None:
    with ThreadPoolExecutor() as pool, serving(voting) as server:
        pair = act(server, "show")["pair"]
        with locked(voting.path.with_name("votes.jsonl.lock")):
            voted = pool.submit(act, server, "1", pair)
            while not server._lock.locked():
                time.sleep(0.01)
            closed = pool.submit(server.server_close)
            time.sleep(0.1)
            assert not closed.done()
        closed.result(30)
        assert len(voting.votes()) == 1
        assert voted.result(30)["done"] == 1
        with pytest.raises(Exception, match="has ended"):
            server.act(json.dumps({"voter": "zoë", "do": "show"}).encode())


def test_nothing_is_logged(server: VoteServer, capfd: pytest.CaptureFixture[str]) -> None:
    ask(server, "GET", "/", Origin=None)
    ask(server, Host="evil.example")
    with socket.create_connection(server.server_address[:2]) as raw:  # type: ignore[arg-type]
        raw.sendall(b"nonsense\r\n\r\n")
        assert b"400" in raw.recv(4096)
    assert capfd.readouterr() == ("", "")


def test_only_this_machine_is_listened_to_and_a_taken_port_is_named(
    server: VoteServer, voting: Voting
) -> None:
    host, port = server.server_address[:2]
    assert host == "127.0.0.1"
    with pytest.raises(UsageError, match=f"port {port} cannot be used: Address already in use"):
        VoteServer(int(port), "", voting.ballots)


def test_a_name_is_no_markup(voting: Voting) -> None:
    html = page('"><script>alert(1)</script>', known=False)
    assert html.count("<script") == 1
    assert "&lt;script&gt;" in html
