"""`redraft answer --journal`: no reply is paid for twice or used for another question."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from redraft.chain import read_jsonl
from redraft.cli import app
from tests.cli.test_go_on import (
    CALLS,
    NEEDED,
    PARALLEL,
    PROMPTS,
    CountingServer,
    finish,
    folder,
    start,
    whole_chains,
    words,
)
from tests.engines.fake_server import DONE, FakeServer, chat_reply, event, models_reply, sse_reply

__all__ = ["folder"]

JOURNAL = ("--journal", "paid.db")


def run(server: CountingServer, *more: str) -> Result:
    return CliRunner().invoke(app, words(server, *JOURNAL, *more), prog_name="redraft")


def few(count: int = 2) -> None:
    Path("prompts.txt").write_text("".join(f"Describe thing {n}.\n" for n in range(count)))


def test_a_client_that_is_killed_pays_for_no_complete_reply_again() -> None:
    with CountingServer() as server:
        for number, how in enumerate([signal.SIGKILL, signal.SIGINT, signal.SIGKILL], start=1):
            with start(server, *JOURNAL) as job:
                server.wait_for(14 * number)
                job.send_signal(how)
                job.communicate(timeout=60)
            assert not Path("out.jsonl.unfinished.jsonl").exists()
        finish(server, *JOURNAL)
        for chain in whole_chains():
            assert chain.usage.completion_tokens == 7 * CALLS
        assert len(server.asked) <= NEEDED + 3 * PARALLEL
        Path("out.jsonl").unlink()
        asked = len(server.asked)
        finish(server, *JOURNAL)
        assert len(whole_chains()) == PROMPTS
        assert len(server.asked) == asked


def test_a_replay_is_free_and_no_limit_counts_it() -> None:
    few()
    with CountingServer(seconds=0) as server:
        assert run(server).exit_code == 0
        before = [chain.answer for chain in read_jsonl(Path("out.jsonl"))]
        Path("out.jsonl").unlink()
        again = run(server, "--limit-tokens", "1")
        assert (again.exit_code, len(server.asked)) == (0, 2 * CALLS)
    assert (
        f"journal    {2 * CALLS} texts taken from it, not paid again; this run paid for 0 new tokens\n"
        in again.stdout
    )
    assert sorted(before) == sorted(chain.answer for chain in read_jsonl(Path("out.jsonl")))


@pytest.mark.parametrize("change", [["--temperature", "0"], ["--seed", "1"], ["--max-tokens", "99"]])
def test_other_settings_are_asked_for_again(change: list[str]) -> None:
    few(1)
    with CountingServer(seconds=0) as server:
        run(server)
        Path("out.jsonl").unlink()
        assert run(server, *change).exit_code == 0
        assert len(server.asked) == 2 * CALLS


def test_another_server_is_another_model() -> None:
    few(1)
    with CountingServer(seconds=0) as one, CountingServer(seconds=0) as other:
        run(one)
        Path("out.jsonl").unlink()
        assert run(other).exit_code == 0
        assert (len(one.asked), len(other.asked)) == (CALLS, CALLS)


def test_critic_and_judge_are_in_the_journal_too() -> None:
    few(1)
    with CountingServer(seconds=0) as writer, CountingServer(seconds=0) as critic:
        model = f"http://127.0.0.1:{critic.port}/v1#gull"
        more = ["--critic", model, "--judge", model, "-c", "judge:Is it about gulls?"]
        run(writer, *more)
        asked = len(writer.asked), len(critic.asked)
        assert min(asked) > 0
        Path("out.jsonl").unlink()
        run(writer, *more)
        assert (len(writer.asked), len(critic.asked)) == asked


def test_an_empty_reply_is_asked_for_again() -> None:
    few(1)
    empty = sse_reply(event({"choices": [{"delta": {"content": ""}, "finish_reason": "stop"}]}), DONE)
    with FakeServer() as server:
        server.on("GET /v1/models", models_reply("m"))
        server.on("POST /v1/chat/completions", empty, chat_reply("A gull."))
        args = ["answer", "prompts.txt", "-o", "out.jsonl", "-m", f"{server.url}#m", *JOURNAL]
        more = ["-c", "words>=1", "--max-revisions", "0", "--retries", "0"]
        assert CliRunner().invoke(app, [*args, *more], prog_name="redraft").exit_code == 3
        assert CliRunner().invoke(app, [*args, *more], prog_name="redraft").exit_code == 0


def test_a_script_that_was_changed_is_another_model(tmp_path: Path) -> None:
    few(1)
    args = ["answer", "prompts.txt", "-o", "out.jsonl", "-m", "script:s.jsonl", *JOURNAL]
    for text in ("A gull.", "A tern and a gull."):
        Path("s.jsonl").write_text(json.dumps(text) + "\n" + json.dumps("No revision is needed.") + "\n")
        Path("out.jsonl").unlink(missing_ok=True)
        assert CliRunner().invoke(app, args, prog_name="redraft").exit_code == 0
        (chain,) = read_jsonl(Path("out.jsonl"))
        assert chain.answer == text


@pytest.mark.parametrize("name", ["out.jsonl", "prompts.txt"])
def test_the_journal_is_a_file_of_its_own(name: str) -> None:
    before = Path("prompts.txt").read_bytes()
    args = ["answer", "prompts.txt", "-o", "out.jsonl", "-m", "script:none.jsonl", "--journal", name]
    result = CliRunner().invoke(app, args, prog_name="redraft")
    assert (result.exit_code, f"{name} cannot be the journal too" in result.stderr) == (2, True)
    assert Path("prompts.txt").read_bytes() == before
    assert not Path("out.jsonl").exists()


def test_a_model_that_is_missing_is_said_as_without_a_journal() -> None:
    args = ["answer", "prompts.txt", "-o", "out.jsonl", "-m", "missing.gguf"]
    plain, journaled = (
        CliRunner().invoke(app, [*args, *more], prog_name="redraft").stderr for more in ((), JOURNAL)
    )
    assert "missing.gguf" in plain
    assert journaled == plain
