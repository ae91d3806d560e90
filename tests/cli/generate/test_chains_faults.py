"""What goes wrong with a paid teacher: each fault loses no chain, pays for nothing twice, and is told.

Faults of servers that are no matter of chains are in tests/engines/remote and tests/cli/test_answer_*.py.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from redraft.engines.remote import batch
from tests.cli.verbs import chains, files_up_to, lines, redraft, script, wait_until
from tests.engines.batch_server import BatchServer, Fault
from tests.engines.fake_server import chat_event, chat_reply, chat_server, sse_reply
from tests.engines.paid_server import BROKEN, CUT, PaidServer

COUNT = 6
BAD, GOOD = "Too vague. 3/10. Revision is needed.", "Clear. 9/10. Revision is not needed."


@pytest.fixture(autouse=True)
def _birds(_folder: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_MOMENT", 0.02)
    birds = [{"instruction": f"Describe bird {n}.", "output": "A gull."} for n in range(COUNT)]
    Path("records.json").write_text(json.dumps(birds))


def generate(model: str, *flags: str) -> Result:
    return redraft("generate", "chains", "records.json", "-o", "out.jsonl", "-m", model, "-j", "1", *flags)


def judged(messages: list[dict[str, Any]]) -> str:
    return GOOD if any(message["role"] == "assistant" for message in messages) else "A bird."


# The server.


@pytest.mark.slow
def test_a_reply_of_garbage_is_asked_for_again_like_one_that_breaks_off() -> None:
    with PaidServer(judged, plan={3: BROKEN, 4: BROKEN, 5: CUT}) as server:
        result = generate(server.model)
        assert len(server.messages) == 2 * COUNT + 3
        assert not server.twice
    assert result.exit_code == 0, result.output
    assert len(chains()) == COUNT
    assert "failed" not in result.output


def test_when_the_last_key_is_revoked_another_goes_on_and_pays_for_nothing_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with PaidServer(judged, keys={"sk-one": 5, "sk-good": 99}) as server:
        monkeypatch.setenv("REDRAFT_KEY_127_0_0_1", "sk-one")
        result = generate(server.model)
        assert result.exit_code == 3
        assert "refuses the key" in result.stderr
        assert 0 < len(chains()) < COUNT
        monkeypatch.setenv("REDRAFT_KEY_127_0_0_1", "sk-good")
        assert generate(server.model).exit_code == 0
        assert not server.twice
    assert len(chains()) == COUNT


def refused(body: dict[str, Any]) -> tuple[int, str] | None:
    return (400, "This prompt is not allowed.") if "bird 3" in str(body) else None


@pytest.mark.parametrize("fault", [Fault("expired", answered=4), Fault(refused=refused)])
def test_a_batch_that_expires_or_refuses_a_line_is_used_as_far_as_it_goes(fault: Fault) -> None:
    flags = ("--batch", "-j", "9", "--pause", "0.01")
    with BatchServer(lambda body: judged(body["messages"]), fault) as server:
        first = generate(server.model, *flags)
        failed = ["records/3"] if fault.ends == "completed" else []
        assert first.exit_code == (3 if failed else 0), first.output
        errors = Path("out.jsonl.errors.jsonl")
        assert [each["id"] for each in (lines(errors) if errors.exists() else [])] == failed
        assert (generate(server.model, *flags).exit_code, set(server.paid.values())) == (0, {1})
    assert len(chains()) == COUNT


def test_a_reply_that_breaks_off_counts_for_the_limit() -> None:
    with chat_server(sse_reply(chat_event("A"), cut=True), chat_reply(GOOD)) as server:
        result = generate(server.url, "--price", "1000,1000", "--limit-usd", "0.01", "--retries", "0")
        assert len(server.asked("POST /v1/chat/completions")) == 1
    assert result.exit_code == 4, result.output
    assert "spent, estimated" in result.output
    (session,) = json.loads(Path("out.jsonl.run.json").read_text())["sessions"]
    assert (session["usd"] > 0.01, session["estimated"]) == (True, True)


def test_a_run_that_was_interrupted_in_a_call_says_that_what_it_paid_is_estimated() -> None:
    def interrupt() -> None:
        wait_until(lambda: server.sent == 20)
        os.kill(os.getpid(), signal.SIGINT)

    with chat_server(sse_reply(*[chat_event("A"), 0.05] * 400)) as server:
        thread = threading.Thread(target=interrupt, daemon=True)
        thread.start()
        result = generate(server.url, "--price", "1000,1000")
        thread.join(10)
    assert result.exit_code == 130
    (session,) = json.loads(Path("out.jsonl.run.json").read_text())["sessions"]
    assert session["estimated"]


# The replies.


REFUSAL = "I'm sorry, but I can't help with that request. Ask me for something else."


def test_a_refusal_stays_a_refusal() -> None:
    Path("records.json").write_text(json.dumps([{"instruction": "Describe a bird.", "output": "A gull."}]))
    generate(script("A bird.", BAD, REFUSAL, GOOD))
    (chain,) = chains()
    assert chain.steps[1].answer == REFUSAL


def test_an_answer_that_a_content_filter_cut_fails_its_record_and_is_asked_for_again() -> None:
    with chat_server(chat_reply("A bi", finish="content_filter"), chat_reply(GOOD)) as server:
        result = generate(server.url)
        assert result.exit_code == 3, result.output
        [failure] = lines("out.jsonl.errors.jsonl")
        assert (failure["id"], failure["cause"]) == ("records/0", "content filter")
        assert len(chains()) == COUNT - 1
        again = generate(server.url)
    assert again.exit_code == 0, again.output
    assert len(chains()) == COUNT


# The disk and the journal.


@pytest.mark.parametrize("size", [2_000, 30_000])
def test_a_full_disk_loses_nothing_and_pays_for_nothing_twice(size: int) -> None:
    with PaidServer(judged) as server:
        with files_up_to(size):
            result = generate(server.model)
        assert result.exit_code not in (0, 1)
        assert "redraft: " in result.stderr
        again = generate(server.model)
        assert again.exit_code == 0, again.output
        assert len(server.twice) <= 1  # that whose reply the disk had no room for
    assert len(chains()) == COUNT
