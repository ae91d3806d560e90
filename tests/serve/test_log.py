"""The log: a line or an object a request, with the id that the reply has too."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
import pytest

from redraft.engines.scripted import ScriptedEngine
from redraft.serve.keys import Keys
from redraft.serve.log import Entry, JsonFormatter, LineFormatter
from tests.serve.running import Server, both, plain, served


@contextmanager
def logged(formatter: logging.Formatter) -> Iterator[io.StringIO]:
    log, text = logging.getLogger("redraft.serve"), io.StringIO()
    handler, before = logging.StreamHandler(text), log.level
    handler.setFormatter(formatter)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield text
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


def test_a_line_has_only_what_is_known() -> None:
    entry = Entry.of({"state": {"id": "r1", "status": 499}, "method": "GET", "path": "/a b"}, 0.5)
    assert str(entry) == "id=r1 method='GET' path='/a b' status=499 seconds=0.5"


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/nothing", "/v1/chat/completions"])
def test_every_reply_has_an_id_and_no_two_the_same(server: Server, path: str) -> None:
    ids = [httpx.get(server.root + path).headers["x-request-id"] for _ in range(2)]
    assert len({*ids}) == 2
    assert all(name.startswith("req_") for name in ids)


def test_an_id_of_the_client_is_kept(server: Server) -> None:
    for stream in (False, True):
        reply = server.post({"stream": stream}, headers={"x-request-id": "mine-1.A_b"})
        assert reply.headers.get_list("x-request-id") == ["mine-1.A_b"]


@pytest.mark.parametrize("wrong", ["", "two words", "a" * 129, "é".encode(), "a;b", 'a"b'])
def test_an_id_that_is_not_well_formed_is_replaced(server: Server, wrong: str | bytes) -> None:
    reply = httpx.get(f"{server.root}/health", headers=[(b"x-request-id", wrong)])  # type: ignore[list-item]
    assert reply.headers["x-request-id"].startswith("req_")


def test_the_openai_sdk_names_the_request_that_failed(server: Server) -> None:
    with server.client() as client, pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="none", messages=[{"role": "user", "content": "Hi."}])
    assert str(caught.value.request_id).startswith("req_")


def test_lines_of_json() -> None:
    with logged(JsonFormatter()) as text, served(both("A SECRET answer.")) as server:
        headers = {"x-request-id": "mine"}
        server.post({"model": "short", "messages": [{"role": "user", "content": "a\nb"}]}, headers=headers)
        server.post({"temperature": -1}, headers=headers)
        assert "Did you mean 'plain'?" in server.post({"model": "plain-revise"}, headers=headers).text
    lines = list(map(json.loads, text.getvalue().splitlines()))
    own = (line for line in lines if line.get("id") == "mine")  # another server may still end
    answered, refused, unknown = sorted(
        own, key=lambda line: line["status"]
    )  # each is logged behind its reply
    assert answered.pop("seconds") > 0
    assert answered.pop("time").endswith("+00:00")
    assert answered == {
        "level": "info",
        "id": "mine",
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "model": "short",
        "stop": "passed",
        "revisions": 0,
        "prompt_tokens": answered["prompt_tokens"],
        "completion_tokens": len("A SECRET answer."),
    }
    assert (unknown["error"], unknown["model"]) == ("model_not_found", "plain-revise")
    assert (refused["status"], refused["error"]) == (400, "invalid_value")
    assert (refused["model"], refused["param"]) == ("plain", "temperature")
    assert lines[-1]["message"] == "stopping"
    assert "SECRET" not in text.getvalue()


def test_a_wrong_key_a_login_and_a_vote_are_logged_and_a_good_probe_is_not(tmp_path: Path) -> None:
    key, ballot = "sk-0123456789abcdef", {"id": "x" * 8, "question": "?", "winner": "1", "swapped": False}
    (tmp_path / "keys").write_text(f"{key} name=ann")
    keys = Keys.read(tmp_path / "keys")
    with (
        logged(JsonFormatter()) as text,
        served(keys=keys, store=lambda _: True) as server,
        httpx.Client(base_url=server.root) as client,
    ):
        for path in ("/health", "/ready", "/", "/metrics"):
            client.get(path)
        client.post("/login", json={"key": key})
        client.post("/page/votes", json={**ballot, "names": ["a", "b"], "answers": ["1", "2"]})
    wrong, *visits = (each for each in map(json.loads, text.getvalue().splitlines()) if "path" in each)
    assert (wrong["path"], wrong["status"], wrong["client"]) == ("/metrics", 401, "127.0.0.1")
    found = [(visit["key"], visit["path"], visit["status"]) for visit in visits]
    assert found == [("ann", "/login", 200), ("ann", "/page/votes", 200)]


def broken(_: object) -> str:
    raise ZeroDivisionError("SECRET")


@pytest.mark.parametrize("formatter", [JsonFormatter(), LineFormatter()])
def test_a_fault_of_our_own_has_the_id_that_the_client_is_told(formatter: logging.Formatter) -> None:
    with logged(formatter) as text, served({"plain": plain(ScriptedEngine(broken))}) as server:
        replies = [server.post({"stream": stream}) for stream in (True, False)]
    assert [reply.status_code for reply in replies] == [500, 500]
    assert not any("SECRET" in reply.text for reply in replies)
    name = replies[0].json()["error"]["message"].rpartition(" ")[2].rstrip(".")
    assert name.startswith("req_")
    fault = text.getvalue().splitlines()[0]
    assert name in fault
    assert "ZeroDivisionError" in text.getvalue()
    if isinstance(formatter, JsonFormatter):
        assert "ZeroDivisionError" in json.loads(fault)["traceback"]


def test_a_text_of_a_client_makes_no_line_of_its_own() -> None:
    with logged(LineFormatter()) as text:
        log = logging.getLogger("redraft.serve")
        log.warning("a model failed: %s", "no\n2026-01-01 INFO forged\r\x1b[2J")
        assert text.getvalue().count("\n") == 1
        assert "no\\n2026-01-01" in text.getvalue()
        log.error("a request failed", exc_info=ValueError("no\n2026-01-01 INFO forged"))
    assert not any(line.startswith("2026-01-01 INFO") for line in text.getvalue().splitlines())
    assert "\x1b" not in text.getvalue()
