"""`redraft answer` with servers that restart, limit the rate or refuse: it waits where waiting helps."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from typer.testing import Result

from tests.cli.verbs import chains, redraft, script, start, wait_until
from tests.engines.fake_server import Reply, chat_reply, chat_server, error_reply
from tests.engines.flaky_server import WHOLE, FlakyServer

CHAT = "POST /v1/chat/completions"
OUT = Path("out.jsonl")


@pytest.fixture(autouse=True)
def _prompts(_folder: None) -> None:
    Path("prompts.txt").write_text("".join(f"Describe thing {n}.\n" for n in range(20)))


def words(model: str, *args: str) -> list[str]:
    more = ["-j", "8", "-c", "words>=1", "--max-revisions", "0"]
    return ["answer", "prompts.txt", "-o", "out.jsonl", "-m", model, *more, *args]


def answer(model: str, *args: str) -> Result:
    return redraft(*words(model, *args))


@pytest.mark.slow
def test_a_restart_with_streams_in_flight_loses_nothing() -> None:
    with FlakyServer(delay=0.1) as server, start(*words(server.model, "--patience", "60")) as job:
        wait_until(lambda: OUT.exists() and OUT.read_bytes().count(b"\n") >= 4)
        time.sleep(0.3)  # the next eight are in the middle of theirs
        server.kill()
        assert job.stderr
        waits = f"127.0.0.1:{server.port} is down, waiting "
        while waits not in (said := job.stderr.readline()):
            assert said, "the job ended"
        server.start()
        out, more = job.communicate(timeout=120)
    assert job.returncode == 0, out + more
    assert sorted(int(chain.id.rpartition("/")[2]) for chain in chains()) == list(range(20))
    assert {chain.answer for chain in chains()} == {WHOLE}
    assert not Path("out.jsonl.errors.jsonl").exists()
    assert " s, at most 1 min" in said


def asked_of(*replies: Reply, patience: tuple[str, ...] = ("--patience", "0")) -> tuple[Result, int]:
    with chat_server(*replies) as server:
        return answer(f"{server.url}#m", "-j", "1", "--retries", "0", *patience), len(server.asked(CHAT))


@pytest.mark.parametrize(
    ("status", "said", "asked"),
    [(400, "Invalid model name", 3), (401, "No such key", 1), (404, "The model `m` does not exist", 1)],
)
def test_what_all_prompts_are_refused_for_ends_the_job_after_a_few(
    status: int, said: str, asked: int
) -> None:
    result, requests = asked_of(error_reply(status, said))
    assert (result.exit_code, requests) == (3, asked)
    assert said in result.stderr
    assert "0 of 20 done; run the same command again to resume." in result.stderr


def test_a_server_that_fails_from_the_first_request_on_is_not_waited_for() -> None:
    result, _ = asked_of(error_reply(500, "Internal Server Error"), patience=())
    assert result.exit_code == 3
    assert "fails (500): Internal Server Error" in result.stderr


@pytest.mark.parametrize(
    ("args", "asks"), [(("--limit-seconds", "60"), 900), ((), 4000), (("--patience", "3"), 120)]
)
def test_a_run_does_not_wait_past_its_limit_or_for_another_day(args: tuple[str, ...], asks: int) -> None:
    busy = error_reply(429, "Come back later.", headers={"Retry-After": f"{asks}"})
    result, _ = asked_of(chat_reply(WHOLE), busy, patience=args)
    assert result.exit_code == 3
    assert f"It asks to wait {asks} s." in result.stderr


def test_waiting_is_no_part_of_how_an_output_was_made() -> None:
    waiting = {"patience": 30, "retries": 2, "timeout": 9, "rpm": 600, "tpm": 9000}
    flags = [word for name, value in waiting.items() for word in (f"--{name}", str(value))]
    assert answer(script(WHOLE), *flags).exit_code == 0
    assert not json.loads(Path("out.jsonl.run.json").read_text())["config"].keys() & waiting.keys()


def test_a_run_goes_on_with_its_servers_in_another_order_and_one_that_is_down() -> None:
    cache = ("--cache", "paid.db")
    said = chat_reply("It is a thing.")
    with chat_server(said) as one, chat_server(said) as two:
        first = answer(f"{one.url}#m,{two.url}#m", *cache)
        assert first.exit_code == 0, first.output
        assert min(len(one.asked(CHAT)), len(two.asked(CHAT))) > 0
        down, calls = FlakyServer(), len(two.asked(CHAT))
        again = answer(f"{down.model},{two.url}#m,{one.url}#m", *cache)
        assert again.exit_code == 0, again.output
        assert "20 of them from earlier runs" in again.output
        OUT.unlink()
        Path("out.jsonl.run.json").unlink()
        replayed = answer(f"{two.url}#m,{one.url}#m", *cache)
        assert "20 texts reused and not paid for again" in replayed.output, replayed.output
        assert len(two.asked(CHAT)) == calls
        other = answer(f"{two.url}#m", *cache)
        assert other.exit_code == 2
        assert "model was #m and is http://" in other.output
