"""`redraft answer` with servers that restart, limit the rate or refuse: it waits where waiting helps."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from redraft.chain import Chain, read_jsonl
from redraft.cli import app
from tests.engines.fake_server import (
    DONE,
    FakeServer,
    Reply,
    chat_reply,
    error_reply,
    event,
    models_reply,
    sse_reply,
)
from tests.engines.flaky_server import WORDS, FlakyServer

CHAT, MODELS = "POST /v1/chat/completions", "GET /v1/models"
WHOLE = "".join(f"Word {number}. " for number in range(WORDS)).strip()


@pytest.fixture(autouse=True)
def prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("".join(f"Describe thing {n}.\n" for n in range(20)))


def words(model: str, *args: str) -> list[str]:
    more = ["-j", "8", "-c", "words>=1", "--max-revisions", "0"]
    return ["answer", "prompts.txt", "-o", "out.jsonl", "-m", model, *more, *args]


def answer(model: str, *args: str) -> Result:
    return CliRunner().invoke(app, words(model, *args), prog_name="redraft")


def insist_on_all() -> None:
    chains: list[Chain] = list(read_jsonl(Path("out.jsonl")))
    assert sorted(int(chain.id.rpartition("/")[2]) for chain in chains) == list(range(20))
    assert {chain.answer for chain in chains} == {WHOLE}
    assert not Path("out.jsonl.errors.jsonl").exists()


def test_a_restart_with_streams_in_flight_loses_nothing() -> None:
    with FlakyServer(delay=0.1) as server:
        command = [sys.executable, "-m", "redraft", *words(server.model, "--patience", "60")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
            wait_for_lines(4)
            time.sleep(0.3)  # the next eight are in the middle of theirs
            server.kill()
            time.sleep(1.5)
            server.start()
            out, said = job.communicate(timeout=120)
    assert job.returncode == 0, out + said
    insist_on_all()
    assert f"127.0.0.1:{server.port} is down, waiting " in said
    assert " s, at most 1 min" in said


def test_a_server_that_stays_down_ends_the_job_when_the_patience_is_over() -> None:
    with FlakyServer(delay=0.1) as server:
        more = ["--patience", "1", "--retries", "1"]
        command = [sys.executable, "-m", "redraft", *words(server.model, *more)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
            wait_for_lines(4)
            server.kill()
            _, said = job.communicate(timeout=120)
        assert job.returncode == 3
        assert "no server answers at" in said
        assert "of 20 done; run the same command again to go on." in said
        server.start()
        assert answer(server.model).exit_code == 0
    insist_on_all()


@pytest.mark.parametrize("says_when", [False, True])
def test_a_limit_of_requests_only_slows_it_down(says_when: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redraft.engines.retry.LONGEST_BACKOFF", 0.5)
    with FlakyServer(limit=6, window=0.5, says_when=says_when) as server:
        result = answer(server.model, "--retries", "1", "--patience", "60")
    assert result.exit_code == 0, result.output
    insist_on_all()


def test_a_pace_that_is_known_is_kept() -> None:
    with FlakyServer(limit=16, window=1.0) as server:  # a process that was held up may catch up half a second
        started = time.monotonic()
        result = answer(server.model, "--rpm", "600", "--retries", "0", "--patience", "0")
    assert result.exit_code == 0, result.output
    assert time.monotonic() - started > 14 * 0.1
    insist_on_all()


def wait_for_lines(count: int) -> None:
    deadline = time.monotonic() + 60
    out = Path("out.jsonl")
    while not out.exists() or out.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline, "the job does not get on"
        time.sleep(0.01)


def failing(*replies: Reply, parallel: int = 1) -> tuple[Result, int]:
    """Run a job whose requests get these replies, and count the requests."""
    with FakeServer() as server:
        server.on(MODELS, models_reply("m")).on(CHAT, *replies)
        result = answer(f"{server.url}#m", "-j", str(parallel), "--patience", "0", "--retries", "0")
        return result, len(server.asked(CHAT))


@pytest.mark.parametrize(
    ("status", "said", "asked"),
    [(400, "Invalid model name", 3), (422, "temperature is too high", 3), (401, "No such key", 1),
     (403, "Not yours", 1), (404, "The model `m` does not exist", 1)],
)  # fmt: skip
def test_what_every_prompt_is_refused_for_ends_the_job_after_a_few(
    status: int, said: str, asked: int
) -> None:
    result, requests = failing(error_reply(status, said))
    assert result.exit_code == 3
    assert requests == asked
    assert said in result.stderr
    assert "0 of 20 done; run the same command again to go on." in result.stderr


def test_a_server_that_fails_from_the_first_request_on_is_not_waited_for() -> None:
    with FakeServer() as server:
        server.on(MODELS, models_reply("m")).on(CHAT, error_reply(500, "Internal Server Error"))
        result = answer(f"{server.url}#m", "-j", "1", "--retries", "0")  # with the usual patience
    assert result.exit_code == 3
    assert "fails (500): Internal Server Error" in result.stderr


def test_some_prompts_that_are_refused_do_not_end_the_job() -> None:
    refused = error_reply(400, "This prompt is not allowed.")
    result, _ = failing(refused, chat_reply(WHOLE), refused, refused, refused, refused, chat_reply(WHOLE))
    assert result.exit_code == 3
    assert len(list(read_jsonl(Path("out.jsonl")))) == 15
    failures = [json.loads(line) for line in Path("out.jsonl.errors.jsonl").read_text().splitlines()]
    assert len(failures) == 5


TOOL = {"tool_calls": [{"index": 0, "function": {"name": "search", "arguments": "{}"}}]}


@pytest.mark.parametrize(
    ("delta", "said"),
    [
        (TOOL, "'m' gave no answer. What came: a call of the tool 'search'."),
        ({"content": None}, "'m' gave no answer. What came: nothing."),
        ({"content": " \n"}, "'m' gave no answer. What came: nothing."),
        ({"reasoning_content": "Hm."}, "'m' gave no answer. What came: thoughts alone."),
    ],
)
def test_an_empty_reply_is_an_error_that_the_next_run_makes_good(delta: dict[str, Any], said: str) -> None:
    empty = sse_reply(event({"choices": [{"delta": delta, "finish_reason": "stop"}]}), DONE)
    with FakeServer() as server:
        server.on(MODELS, models_reply("m")).on(CHAT, empty, chat_reply(WHOLE))
        result = answer(f"{server.url}#m", "-j", "1")
        assert result.exit_code == 3
        failure = json.loads(Path("out.jsonl.errors.jsonl").read_text())
        assert (failure["error"], failure["message"]) == ("EmptyReply", said)
        assert len(list(read_jsonl(Path("out.jsonl")))) == 19
        assert answer(f"{server.url}#m", "-j", "1").exit_code == 0
        insist_on_all()
        server.on(CHAT, empty)
        asked = CliRunner().invoke(app, ["ask", "Hi", "-m", f"{server.url}#m"], prog_name="redraft")
    assert asked.exit_code == 3
    assert asked.stderr.startswith(f"redraft: {said}")
    assert asked.stdout == ""


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--timeout", "0"], "timeout is 0.0."),
        (["--retries", "-1"], "retries is -1."),
        (["--patience", "-1"], "patience is -1.0."),
        (["--rpm", "0"], "rpm is 0."),
        (["--tpm", "0"], "tpm is 0."),
    ],
)
def test_values_that_do_not_fit_are_refused(args: list[str], said: str) -> None:
    result = answer("script:none.jsonl", *args)
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize(("args", "asks"), [(["--limit-seconds", "60"], 900), ([], 4000)])
def test_a_run_does_not_wait_past_its_limit_or_for_another_day(args: list[str], asks: int) -> None:
    busy = error_reply(429, "Come back later.", headers={"Retry-After": f"{asks}"})
    with FakeServer() as server:
        server.on(MODELS, models_reply("m")).on(CHAT, chat_reply(WHOLE), busy)
        result = answer(f"{server.url}#m", "-j", "1", *args)
    assert result.exit_code == 3
    assert f"It asks to wait {asks} s." in result.stderr


def test_waiting_is_no_part_of_how_an_output_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("config.toml").write_text(
        "[defaults]\npatience = 30\nretries = 2\ntimeout = 9\nrpm = 600\ntpm = 9000\n"
    )
    monkeypatch.setenv("REDRAFT_CONFIG", "config.toml")
    Path("script.jsonl").write_text(json.dumps(WHOLE) + "\n")
    assert answer("script:script.jsonl").exit_code == 0
    config = json.loads(Path("out.jsonl.run.json").read_text())["config"]
    assert not config.keys() & {"patience", "retries", "timeout", "rpm", "tpm"}
    assert answer("script:script.jsonl", "--patience", "5", "--rpm", "6").exit_code == 0


def test_a_run_goes_on_with_its_servers_in_another_order_and_one_that_is_down() -> None:
    """It is the same run, and its journal is of the same model."""
    journal = ("--journal", "paid.db")
    with FakeServer() as one, FakeServer() as two:
        for server in (one, two):
            server.on(MODELS, models_reply("m")).on(CHAT, chat_reply("It is a thing."))
        first = answer(f"{one.url}#m,{two.url}#m", *journal)
        assert first.exit_code == 0, first.output
        assert min(len(one.asked(CHAT)), len(two.asked(CHAT))) > 0
        down, calls = FlakyServer(), len(two.asked(CHAT))
        again = answer(f"{down.model},{two.url}#m,{one.url}#m", *journal)
        assert again.exit_code == 0, again.output
        assert "20 of them from before" in again.output
        Path("out.jsonl").unlink()
        Path("out.jsonl.run.json").unlink()
        replayed = answer(f"{two.url}#m,{one.url}#m", *journal)
        assert "20 texts taken from it, not paid again" in replayed.output, replayed.output
        assert len(two.asked(CHAT)) == calls
        other = answer(f"{two.url}#m", *journal)
        assert other.exit_code == 2
        assert "model was #m and is http://" in other.output
