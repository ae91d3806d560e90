"""What goes wrong while instructions are generated: nothing is lost or paid for twice, and it is told.

Bad replies are in tests/generate/instructions/test_run.py, bad seeds in test_seeds.py beside it.
"""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from redraft.cli import app
from tests.engines.fake_server import FakeServer, Reply, Request, chat_reply, error_reply, models_reply
from tests.generate.instructions.stand_in import teach

KEY = "REDRAFT_KEY_127_0_0_1"


class Keyed(FakeServer):
    """A server that lets each key in so many times. Its replies depend on the request alone."""

    def __init__(self, **keys: int) -> None:
        super().__init__()
        self.keys, self.calls, self.paid = keys, Counter[str](), Counter[str]()

    def _next(self, request: Request) -> Reply:
        if request.method == "GET":
            return models_reply("gull")
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        self.calls[key] += 1
        if self.calls[key] > self.keys.get(key, 0):
            return error_reply(401, "Incorrect API key provided.")
        self.paid[str(request.json["messages"])] += 1
        return chat_reply(teach(request.json["messages"]))


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(KEY, raising=False)


def words(server: FakeServer, out: str, way: str = "alpaca") -> list[str]:
    return ["generate", "instructions", "-o", out, "-m", f"{server.url}#gull", "--count", "12", "--way", way]


def run(server: FakeServer, out: str = "out.jsonl", way: str = "alpaca") -> Result:
    result = CliRunner().invoke(app, [*words(server, out, way), "-j", "2", "--quiet"], prog_name="redraft")
    assert "Traceback" not in result.output
    return result


def test_without_a_key_the_run_ends_with_the_first_calls_and_says_where_to_put_one() -> None:
    with Keyed(good=99) as server:
        result = run(server)
        assert server.calls.total() <= 2
    assert result.exit_code == 3
    assert KEY in result.stderr
    assert "0 of 12 done; run the same command again to go on." in result.stderr


def test_a_key_that_is_revoked_in_the_middle_leaves_the_run_to_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(KEY, "bad,good")
    with Keyed(bad=1, good=999) as server:
        assert run(server).exit_code == 0
        assert 2 <= server.calls["bad"] <= 3
        assert set(server.paid.values()) == {1}


@pytest.mark.parametrize("way", ["alpaca", "self-instruct"])
def test_when_the_last_key_is_revoked_another_goes_on_and_nothing_is_paid_again(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Keyed(bad=4, good=999) as server:
        monkeypatch.setenv(KEY, "bad")
        result = run(server, way=way)
        assert result.exit_code == 3
        assert "refuses the key" in result.stderr
        monkeypatch.setenv(KEY, "good")
        assert run(server, way=way).exit_code == 0
        assert set(server.paid.values()) == {1}
        assert run(server, "whole.jsonl", way).exit_code == 0
    assert Path("out.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()


def test_an_unknown_model_ends_the_run_with_its_first_calls() -> None:
    with FakeServer() as server:
        server.on("GET /v1/models", models_reply("teacher"))
        server.on("POST /v1/chat/completions", error_reply(404, "The model `gull` does not exist"))
        result = run(server)
        assert len(server.asked("POST /v1/chat/completions")) <= 2
    assert result.exit_code == 3
    assert "has no model 'gull'. It has: teacher." in result.stderr


@pytest.mark.parametrize("size", [5_000, 40_000])
def test_a_full_disk_ends_the_run_and_all_that_is_done_is_whole(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sizes are too small for the output and for the journal."""
    monkeypatch.setenv(KEY, "good")
    with Keyed(good=9999) as server:
        command = [sys.executable, "-m", "redraft", *words(server, "out.jsonl"), "-j", "2"]
        job = subprocess.run(
            command,
            capture_output=True,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
            check=False,
        )
        assert job.returncode == 2, job.stderr
        assert "Traceback" not in job.stderr
        assert "room" in job.stderr
        assert run(server).exit_code == 0
        assert run(server, "whole.jsonl").exit_code == 0
    for ending in ("", ".rejected.jsonl"):
        assert Path(f"out.jsonl{ending}").read_bytes() == Path(f"whole.jsonl{ending}").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("PRAGMA user_version = 2", "its version is 2, and this redraft reads version 1"),
        ("PRAGMA application_id = 7", "it is a database of another program"),
        ('UPDATE replies SET reply = \'[{"text": "x", "tempo": 1}]\'', "of another redraft"),
    ],
)
def test_a_journal_of_another_version_is_refused_and_not_used(
    change: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, "good")
    with Keyed(good=9999) as server:
        assert run(server, "old.jsonl").exit_code == 0
        paid = server.paid.total()
        journal = Path("old.jsonl.journal.db").rename("out.jsonl.journal.db")
        with sqlite3.connect(journal) as db:
            db.execute(change)
        db.close()
        result = run(server)
        assert server.paid.total() == paid
    assert result.exit_code == 2
    assert message in result.stderr
