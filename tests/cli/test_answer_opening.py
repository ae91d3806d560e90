"""`redraft answer` opens its model within the budget and the limit of seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.engines.fake_server import FakeServer, error_reply
from tests.revision.test_opening import silent

__all__ = ["silent"]

MODELS = "GET /v1/models"


@pytest.fixture(autouse=True)
def prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("Describe rain.\nDescribe snow.\n")


def answer(model: str, *args: str) -> tuple[int, str]:
    """Run the command in its own process. Return its exit status and its messages."""
    command = [
        sys.executable,
        "-m",
        "redraft",
        "answer",
        "prompts.txt",
        "-o",
        "out.jsonl",
        "-m",
        model,
        *args,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stderr


def test_a_silent_server_gets_no_longer_than_the_budget_of_a_chain(silent: str) -> None:
    status, said = answer(silent, "--budget-seconds", "1", "--patience", "600")
    assert status == 3
    assert "sent nothing within 1 s." in said
    assert "--budget-seconds" in said
    assert "0 of 2 done" in said


def test_the_limit_of_the_job_holds_while_the_model_is_opened(silent: str) -> None:
    status, said = answer(silent, "--limit-seconds", "1")
    assert status == 4
    assert "the limit of 1 seconds was reached before the model was ready." in said
    assert "0 of 2 done" in said


def test_the_limit_of_the_job_ends_waiting_for_a_server_that_is_busy() -> None:
    with FakeServer() as server:
        server.on(MODELS, error_reply(503, "Loading model"))
        status, said = answer(server.url, "--limit-seconds", "5", "--budget-seconds", "1")
    assert status == 4, said
    assert "fails (503), waiting" in said


def test_a_journal_is_not_created_for_prompts_that_cannot_be_read() -> None:
    Path("prompts.txt").write_text("")
    Path("replies.jsonl").write_text('"Rain."\n')
    status, said = answer("script:replies.jsonl", "--journal", "paid.db")
    assert status == 2, said
    assert not Path("paid.db").exists()
