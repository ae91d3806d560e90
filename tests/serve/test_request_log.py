"""The request log: a row a request, which never holds up or breaks serving."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from redraft.chain import Chain
from redraft.engines.scripted import ScriptedEngine, ScriptedReply
from redraft.errors import OutputError, ServerError
from redraft.serve import request_log
from redraft.serve.keys import Keys
from redraft.serve.log import Entry
from redraft.serve.request_log import RequestLog
from tests.serve.running import HI, LONG, SHORT, Server, both, plain, served

KEY = "the-long-key-of-alice"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "requests.db"


@contextmanager
def logging_to(
    path: Path, *replies: Any, with_text: bool = False, keys: Keys | None = None
) -> Iterator[Server]:
    with (
        closing(RequestLog(path, with_text=with_text)) as log,
        served(both(*replies), request_log=log, keys=keys) as server,
    ):
        yield server


def rows(path: Path, query: str = "SELECT * FROM requests ORDER BY number") -> list[sqlite3.Row]:
    with closing(sqlite3.connect(path)) as file:
        file.row_factory = sqlite3.Row
        return list(file.execute(query))


ENTRY = Entry("req_1", None, "POST", "/v1/chat/completions", 200, "plain", "ended", 0, 3, 5, None, None, 0.5)


def test_a_request_is_a_row(path: Path, tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_text(f"{KEY} name=alice\n")
    with logging_to(path, LONG, SHORT, keys=Keys.read(tmp_path / "keys.txt")) as server:
        headers = {"Authorization": f"Bearer {KEY}"}
        server.post({"model": "short"}, headers={**headers, "x-request-id": "mine"})
        server.post({"model": "none"}, headers=headers)
        server.post(headers={"Authorization": "Bearer wrong"})
    revised, unknown = map(dict, rows(path))  # strangers could fill the disk
    assert revised.pop("time").endswith("+00:00")
    assert revised.pop("seconds") > 0
    assert revised.pop("prompt_tokens") > 0
    assert revised == {
        "number": 1,
        "id": "mine",
        "key": "alice",
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "model": "short",
        "stop": "passed",
        "revisions": 1,
        "completion_tokens": len(LONG) + len(SHORT),
        "usd": None,
        "error": None,
    }
    assert (unknown["status"], unknown["error"], unknown["model"]) == (404, "model_not_found", None)


def test_completions_errors_and_streams_are_rows_too(path: Path) -> None:
    late = ScriptedReply("Rain", error=ServerError("down"))
    with logging_to(path, "One.", late) as server, server.client() as client:
        client.completions.create(model="plain", prompt="Go", max_tokens=9)
        reply = server.post({"stream": True})
    assert (reply.status_code, "engine_error" in reply.text) == (200, True)
    completed, broken = rows(path)
    assert (completed["path"], completed["prompt_tokens"], completed["completion_tokens"]) == (
        "/v1/completions",
        2,
        4,
    )
    assert (broken["status"], broken["error"]) == (200, "engine_error")


def test_a_client_that_left_is_told_from_one_that_stayed(path: Path) -> None:
    with logging_to(path, ScriptedReply("Rain", stall=60)) as server:
        with httpx.stream(
            "POST", f"{server.url}/chat/completions", json={"model": "plain", "messages": HI, "stream": True}
        ) as reply:
            next(reply.iter_lines())
        while not (found := rows(path)):
            time.sleep(0.01)
    assert [(row["status"], row["error"]) for row in found] == [(200, "client_left")]


@pytest.mark.parametrize(("status", "expected"), [(400, "engine_refused"), (403, "engine_error")])
def test_what_the_server_behind_says_is_not_in_the_log(
    status: int, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    error = ServerError(f"host refuses the request ({status}): your prompt says hush", status=status)
    with served({"plain": plain(ScriptedEngine([ScriptedReply("", error=error)]))}) as server:
        reply = server.post()
    assert reply.status_code == (400 if status == 400 else 502)
    assert reply.json()["error"]["code"] == expected
    assert "hush" in reply.text
    assert f"a model failed: host refuses the request ({status})" in caplog.text
    assert "hush" not in caplog.text


def test_texts_are_kept_if_that_was_asked_for(path: Path, tmp_path: Path) -> None:
    with logging_to(tmp_path / "silent.db", LONG, SHORT) as server:
        server.post({"model": "short"})
    with logging_to(path, LONG, SHORT, with_text=True) as server:
        server.post({"model": "short"}, headers={"x-request-id": "mine"})
        server.post({"model": "plain", "n": 2})
    assert rows(tmp_path / "silent.db", "SELECT * FROM chains") == []
    for part in tmp_path.glob("silent.db*"):
        assert b"Rain" not in part.read_bytes()
    query = "SELECT id, chain FROM chains JOIN requests ON number = request ORDER BY chains.rowid"
    found = [(row["id"], Chain.from_json(row["chain"])) for row in rows(path, query)]
    assert found[0][0] == "mine" == found[0][1].id
    assert [step.answer for step in found[0][1].steps] == [LONG, SHORT]
    assert [chain.id for _, chain in found[1:]] == [found[1][0], f"{found[1][0]}/1"]


def test_rows_are_added_to_a_file_that_is_there_and_only_its_owner_reads_it(path: Path) -> None:
    for _ in range(2):
        with closing(RequestLog(path)) as log:
            log.note(ENTRY, ())
    assert len(rows(path)) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_another_file_is_refused(path: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("CREATE TABLE mine (text)")
    with pytest.raises(OutputError, match="no request log"):
        RequestLog(path)
    path.with_name("text.db").write_text("no database at all" * 100)
    with pytest.raises(OutputError, match="cannot be written"):
        RequestLog(path.with_name("text.db"))
    with pytest.raises(OutputError, match="No such file"):
        RequestLog(tmp_path / "none" / "a.db")


def test_a_file_that_can_no_longer_be_written_gives_one_warning_until_it_can(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As with a full disk: SQLite is given no page more."""
    with closing(RequestLog(path)) as log:
        (pages,) = log._file.execute("PRAGMA page_count").fetchone()
        log._file.execute(f"PRAGMA max_page_count = {pages}")
        long = Entry(**{**vars(ENTRY), "model": "m" * 100_000})
        for entry in (long, long, ENTRY, long):
            log._write([("now", entry, ())])
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert "database or disk is full" in warnings[0]
    assert [row["model"] for row in rows(path)] == ["plain"]


def test_a_count_that_sqlite_cannot_hold_loses_its_row_alone(path: Path) -> None:
    with closing(RequestLog(path)) as log:
        log._write([("now", replace(ENTRY, prompt_tokens=tokens), ()) for tokens in (1, 1 << 70, 3)])
    assert [row["prompt_tokens"] for row in rows(path)] == [1, 3]


def test_a_text_that_sqlite_cannot_hold_ends_nothing(path: Path) -> None:
    with closing(RequestLog(path)) as log:
        for model in ("\ud800", "plain"):
            log.note(replace(ENTRY, model=model), ())
    assert [row["model"] for row in rows(path)] == ["plain"]


def test_a_slow_disk_holds_up_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(request_log, "QUEUE", 2)
    with closing(RequestLog(path)) as log:
        other = sqlite3.connect(path)
        other.execute("BEGIN IMMEDIATE")  # the log's thread waits for it
        with served(both("Fine."), request_log=log) as server:
            statuses = {server.post().status_code for _ in range(8)}
        other.rollback()
        other.close()
    assert statuses == {200}
    assert caplog.text.count("requests are not written") == 1
    assert "its disk is too slow" in caplog.text
    assert 0 < len(rows(path)) < 8


def test_rows_that_wait_are_written_at_the_end(path: Path) -> None:
    log = RequestLog(path, with_text=True)
    chain = Chain(id="q/1")
    for _ in range(500):
        log.note(ENTRY, (chain,))
    log.close()
    assert len(rows(path)) == 500
    assert {json.loads(row["chain"])["id"] for row in rows(path, "SELECT chain FROM chains")} == {"q/1"}
    assert not os.path.exists(f"{path}-wal")  # noqa: PTH110
