"""What goes wrong with a paid teacher: each fault loses no chain, pays for nothing twice, and is told.

Faults of servers that are no matter of chains are in tests/engines/remote and tests/cli/test_answer_*.py.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.generate.teacher import Teacher
from typer.testing import CliRunner, Result

from redraft.chain import Chain, read_jsonl
from redraft.cli import app
from redraft.engines.remote import batch
from redraft.revision.critique import AGAIN
from tests.engines.batch_server import BatchServer, Fault
from tests.engines.fake_server import (
    FakeServer,
    Reply,
    chat_event,
    chat_reply,
    error_reply,
    models_reply,
    sse_reply,
)

COUNT = 6
BAD, GOOD = "Too vague. 3/10. Revision is needed.", "Clear. 9/10. Revision is not needed."


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(batch, "_MOMENT", 0.02)
    records = [{"instruction": f"Describe bird {n}.", "output": "A gull."} for n in range(COUNT)]
    Path("records.json").write_text(json.dumps(records))
    return tmp_path


def generate(model: str, *flags: str) -> Result:
    command = ["generate", "chains", "records.json", "-o", "out.jsonl", "-m", model, "-j", "1"]
    return CliRunner().invoke(app, [*command, *flags], prog_name="redraft")


def scripted(*replies: Any, flags: tuple[str, ...] = ()) -> tuple[Result, Chain]:
    """Make one chain of these replies, which are texts or lines of a script."""
    Path("records.json").write_text(json.dumps([{"instruction": "Describe a bird.", "output": "A gull."}]))
    Path("script.jsonl").write_text("".join(f"{json.dumps(reply)}\n" for reply in replies))
    result = generate("script:script.jsonl", *flags)
    (chain,) = chains()
    return result, chain


def chains() -> list[Chain]:
    return list(read_jsonl(Path("out.jsonl")))


def failures() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("out.jsonl.errors.jsonl").read_text().splitlines()]


# The server.


def test_a_reply_of_garbage_is_asked_for_again_like_one_that_breaks_off() -> None:
    with Teacher(plan=["json", "ok", "json", "json", "cut"]) as teacher:
        result = generate(teacher.model)
        assert teacher.account().faults == {"json": 3, "cut": 1}
        assert not teacher.account().twice
    assert result.exit_code == 0, result.output
    assert len(chains()) == COUNT
    assert "failed" not in result.output


def test_the_first_reply_may_be_garbage_too() -> None:
    page = Reply(200, {"Content-Type": "text/html"}, [b"<html>Back soon</html>"])
    with FakeServer() as server:
        server.on("GET /v1/models", models_reply("m"))
        server.on(CALL, page, chat_reply(GOOD))
        result = generate(server.url)
    assert result.exit_code == 0, result.output
    assert len(chains()) == COUNT


def test_without_a_key_the_run_ends_at_once_and_says_where_to_put_one() -> None:
    with Teacher(keys={"sk-good": None}) as teacher:
        result = generate(teacher.model)
        assert sum(teacher.account().calls.values()) == 1
    assert result.exit_code == 3
    assert "REDRAFT_KEY_127_0_0_1" in result.stderr
    assert f"0 of {COUNT} done; run the same command again to go on." in result.stderr


def test_a_key_that_is_revoked_in_the_middle_leaves_the_run_to_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Teacher(keys={"sk-good": None, "sk-bad": 3}) as teacher:
        monkeypatch.setenv("REDRAFT_KEY_127_0_0_1", "sk-good,sk-bad")
        result = generate(teacher.model)
        account = teacher.account()
    assert result.exit_code == 0, result.output
    assert len(chains()) == COUNT
    assert (account.calls["sk-bad"], account.statuses["401"]) == (4, 1)
    assert not account.twice


def test_when_the_last_key_is_revoked_another_goes_on_and_pays_for_nothing_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Teacher(keys={"sk-bad": 25, "sk-good": None}) as teacher:
        monkeypatch.setenv("REDRAFT_KEY_127_0_0_1", "sk-bad")
        result = generate(teacher.model)
        assert result.exit_code == 3
        assert "refuses the key" in result.stderr
        assert 0 < len(chains()) < COUNT
        monkeypatch.setenv("REDRAFT_KEY_127_0_0_1", "sk-good")
        assert generate(teacher.model).exit_code == 0
        assert not teacher.account().twice
    assert len(chains()) == COUNT


def test_an_unknown_model_ends_the_run_with_its_first_request() -> None:
    with FakeServer() as server:
        server.on("GET /v1/models", models_reply("teacher"))
        server.on("POST /v1/chat/completions", error_reply(404, "The model `teecher` does not exist"))
        result = generate(f"{server.url}#teecher")
        assert len(server.asked("POST /v1/chat/completions")) == 1
    assert result.exit_code == 3
    assert "has no model 'teecher'. It has: teacher." in result.stderr
    assert f"0 of {COUNT} done" in result.stderr


def test_a_server_that_limits_without_headers_is_only_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redraft.engines.retry.LONGEST_BACKOFF", 0.3)
    with Teacher(rpm=8, window=0.3) as teacher:
        result = generate(teacher.model, "-j", "4", "--patience", "60")
        account = teacher.account()
    assert result.exit_code == 0, result.output
    assert account.limited
    assert not account.twice
    assert len(chains()) == COUNT


def refused(body: dict[str, Any]) -> tuple[int, str] | None:
    return (400, "This prompt is not allowed.") if "bird 3" in str(body) else None


def says(body: dict[str, Any]) -> str:
    before = sum(message["role"] == "assistant" for message in body["messages"])
    return "A bird." if not before else GOOD


def test_a_batch_that_expires_is_used_as_far_as_it_goes() -> None:
    with BatchServer(says, Fault("expired", answered=4)) as server:
        result = generate(server.model, "--batch", "-j", "9", "--pause", "0.01")
        assert result.exit_code == 0, result.output
        assert set(server.paid.values()) == {1}
    assert len(chains()) == COUNT


def test_a_line_of_a_batch_that_fails_fails_its_record_alone() -> None:
    with BatchServer(says, Fault(refused=refused)) as server:
        result = generate(server.model, "--batch", "-j", "9", "--pause", "0.01")
        assert result.exit_code == 3
        assert [failure["id"] for failure in failures()] == ["records/3"]
        assert generate(server.model, "--batch", "-j", "9", "--pause", "0.01").exit_code == 0
        assert set(server.paid.values()) == {1}
    assert len(chains()) == COUNT
    assert not Path("out.jsonl.errors.jsonl").exists()


CUT = {"text": "A small bi", "finish": "filtered"}
CALL = "POST /v1/chat/completions"


def test_a_reply_that_breaks_off_counts_for_the_limit_and_the_card_says_that_it_is_estimated() -> None:
    with FakeServer() as server:
        server.on("GET /v1/models", models_reply("m"))
        server.on(CALL, sse_reply(chat_event("A"), cut=True), chat_reply(GOOD))
        result = generate(server.url, "--price", "1000,1000", "--limit-usd", "0.01", "--retries", "0")
        assert len(server.asked(CALL)) == 1
    assert result.exit_code == 4, result.output
    assert "spent, estimated" in result.output
    (session,) = json.loads(Path("out.jsonl.run.json").read_text())["sessions"]
    assert session["usd"] > 0.01
    assert session["estimated"] is True
    assert "USD (estimated); with failures" in Path("out.jsonl.card.md").read_text()


def test_replies_that_break_off_do_not_say_that_the_server_reports_no_usage() -> None:
    """A journal pays for them once, and the chain that is made has none; without one, it has."""
    with Teacher(plan=["ok", "cut", "ok", "ok", "cut"]) as teacher:
        words = ["answer", "records.json", "-o", "plain.jsonl", "-m", teacher.model, "-j", "1"]
        plain = CliRunner().invoke(app, words, prog_name="redraft")
        result = generate(teacher.model, "--price", "1,1")
    assert (plain.exit_code, result.exit_code) == (0, 0), plain.output + result.output
    assert "partly estimated: replies that broke off report no usage" in plain.output
    said = plain.output + result.output + Path("out.jsonl.card.md").read_text()
    assert "the server reports no usage" not in said


def test_a_run_that_was_interrupted_in_a_call_says_that_what_it_paid_is_estimated() -> None:
    def interrupt() -> None:
        while not server.asked(CALL):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    with FakeServer() as server:
        server.on("GET /v1/models", models_reply("m"))
        server.on(CALL, sse_reply(chat_event("A"), 30.0))
        thread = threading.Thread(target=interrupt, daemon=True)
        thread.start()
        result = generate(server.url, "--price", "1000,1000")
        thread.join(10)
    assert result.exit_code == 130
    assert "(estimated); with failures" in Path("out.jsonl.card.md").read_text()


# The replies.


def test_an_empty_criticism_is_asked_for_once_more_and_then_marked() -> None:
    result, chain = scripted("A bird.", "", "")
    assert result.exit_code == 0, result.output
    assert (chain.stop, chain.steps[0].verdict, chain.answer) == ("ended", "unknown", "A bird.")
    assert "stopped    ended 1 (no verdict 1)\n" in result.output
    assert "| stopped | ended 1 (no verdict 1) |" in Path("out.jsonl.card.md").read_text()
    assert "verdicts   unknown 1" in result.output
    stats = CliRunner().invoke(app, ["data", "stats", "out.jsonl", "-j", "1"])
    assert "1 feedback without a verdict, of 1" in stats.output


def test_an_empty_correction_leaves_the_answer_before() -> None:
    result, chain = scripted("A bird.", BAD, "")
    assert (chain.stop, chain.best, chain.answer) == ("ended", 0, "A bird.")
    assert [step.answer for step in chain.steps] == ["A bird."]
    assert "cleaned    empty 1" in result.output
    assert "stopped    ended 1 (no correction 1)\n" in result.output
    Path("out.jsonl").unlink()
    _, chain = scripted("A bird.", BAD, "", flags=("--keep", "empty"))
    assert [step.answer for step in chain.steps] == ["A bird.", ""]


REFUSAL = "I'm sorry, but I can't help with that request. Ask me for something else."


def test_a_refusal_stays_a_refusal() -> None:
    """Of a correction that apologises and goes on, the apology is removed. A refusal would become advice."""
    _, chain = scripted("A bird.", BAD, REFUSAL, GOOD)
    assert chain.steps[1].answer == REFUSAL


def test_a_critic_that_refuses_is_asked_for_its_verdict_once_and_then_marked() -> None:
    result, chain = scripted("A bird.", "I cannot judge this.", "I really cannot.")
    assert chain.steps[0].feedback is not None
    assert (chain.steps[0].feedback.verdict, chain.stop) == ("unknown", "ended")
    assert "verdicts   unknown 1" in result.output
    assert not any(AGAIN in step.answer for step in chain.steps)


def test_an_answer_that_a_content_filter_cut_fails_its_record_and_is_asked_for_again() -> None:
    with FakeServer() as server:
        server.on("GET /v1/models", models_reply("m"))
        server.on(CALL, chat_reply("A bi", finish="content_filter"), chat_reply(GOOD))
        result = generate(server.url)
        assert result.exit_code == 3, result.output
        assert [(each["id"], each["cause"]) for each in failures()] == [("records/0", "content filter")]
        assert len(chains()) == COUNT - 1
        again = generate(server.url)
    assert again.exit_code == 0, again.output
    assert len(chains()) == COUNT
    assert not Path("out.jsonl.errors.jsonl").exists()


def test_a_correction_that_a_content_filter_cut_fails_its_record_too() -> None:
    Path("records.json").write_text(json.dumps([{"instruction": "Describe a bird."}]))
    Path("script.jsonl").write_text("".join(f"{json.dumps(reply)}\n" for reply in ["A bird.", BAD, CUT]))
    assert generate("script:script.jsonl").exit_code == 3
    assert [each["cause"] for each in failures()] == ["content filter"]


def test_a_criticism_that_a_content_filter_cut_leaves_the_answer() -> None:
    result, chain = scripted("A bird.", {"text": "Too va", "finish": "filtered"})
    assert result.exit_code == 0, result.output
    assert (chain.stop, chain.answer) == ("ended", "A bird.")


def test_a_teacher_that_repeats_its_answer_ends_the_chain() -> None:
    _, chain = scripted("A bird.", BAD, "A bird.")
    assert (chain.stop, len(chain.steps)) == ("unchanged", 2)


def test_a_teacher_that_repeats_the_criticism_gives_no_answer() -> None:
    _, chain = scripted("A bird.", BAD, BAD, "A small bird.", GOOD)
    assert [step.echo for step in chain.steps] == [False, True, False]
    assert (chain.stop, chain.answer) == ("accepted", "A small bird.")


def test_a_teacher_that_never_ends_is_cut_and_not_taken_for_an_answer() -> None:
    endless = {"text": "tweet " * 400, "finish": "max_tokens"}
    _, chain = scripted("A bird.", BAD, endless)
    assert (chain.stop, chain.steps[1].finish, chain.answer) == ("max_tokens", "max_tokens", "A bird.")


@pytest.mark.parametrize(
    "criticism",
    [
        '{"feedback": "Dull.", "score": 3, "revision_needed": true}',
        '{"feedback": "Dull. Revision is needed',
        '```json\n{"feedback": "Dull. Revision is needed."}\n```\nI hope this helps!',
        "**Feedback**: Dull.\n\n**Score**: 3/10\n\n**Verdict**: Revision is needed.",
        "### Feedback 1:\nDull. Revision is needed.",
        '{"feedback": "Dull.", "score": 3, "revision_needed": true}{"feedback": "Fine.", "score": 9}',
        '{"feedback": "Dull."}\n\n{"score": 3, "revision_needed": true}',
        '```json\n{"feedback": "Dull.", "score": 3, "revision_needed": true}{"feedback": "No',
        '```json\n{"feedback": "Dull."}\n```\n```json\n{"score": 3, "revision_needed": true}\n```',
    ],
)
def test_criticism_in_any_format_is_read(criticism: str) -> None:
    _, chain = scripted("A bird.", criticism, "A small bird.", GOOD)
    first = chain.steps[0].feedback
    assert first is not None
    assert first.verdict == "revise"
    assert "Dull." in first.text
    assert "revision_needed" not in first.text


# The disk.


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """A disk that is full once a file has so many bytes. SQLite says so in other words than the system."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [2_000, 6_000, 30_000])
def test_a_full_disk_loses_nothing_and_pays_for_nothing_twice(size: int) -> None:
    with Teacher() as teacher:
        with files_up_to(size):
            result = generate(teacher.model)
        assert result.exit_code not in (0, 1)
        assert "redraft: " in result.stderr
        assert "Traceback" not in result.output
        again = generate(teacher.model)
        assert again.exit_code == 0, again.output
        twice = teacher.account().twice
    assert len(chains()) == COUNT
    assert len(twice) <= 1  # that whose reply the disk had no room for


# The journal.


def test_a_journal_of_another_version_is_refused_and_left_alone() -> None:
    scripted("A bird.", GOOD)
    with sqlite3.connect("out.jsonl.journal.db") as journal:
        journal.execute("PRAGMA user_version = 99")
    journal.close()
    before = Path("out.jsonl.journal.db").read_bytes()
    Path("out.jsonl").unlink()
    result = generate("script:script.jsonl")
    assert result.exit_code != 0
    assert "its version is 99, and this redraft reads version 1" in result.stderr
    assert "move this one away" in result.stderr
    assert Path("out.jsonl.journal.db").read_bytes() == before
