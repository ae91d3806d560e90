"""Calls that are under way when a run ends: they are finished, kept, and never paid for again."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from redraft.cli import app
from tests.engines.fake_server import (
    DONE,
    FakeServer,
    Reply,
    Request,
    chat_event,
    error_reply,
    models_reply,
    sse_reply,
    usage_event,
)
from tests.evaluation.made import answer, write
from tests.generate.instructions.stand_in import teach

EMPTY = error_reply(402, "Insufficient balance.")
FILTERED = error_reply(400, "The prompt triggered the content management policy.", code="content_filter")


class Account(FakeServer):
    """A server that refuses some calls by number, from 1. Its other replies take a moment.

    So a refusal arrives while other calls are under way.
    """

    def __init__(self, *refused: int, refusal: Reply = EMPTY, of: str = "") -> None:
        super().__init__()
        self.refused, self.refusal, self.of = refused, refusal, of
        self.calls, self.paid, self.turned_away = 0, Counter[str](), Counter[str]()

    def _next(self, request: Request) -> Reply:
        if request.method == "GET":
            return models_reply("m")
        self.calls += 1
        asked = str(request.json["messages"])
        if self.calls in self.refused or (self.of and self.of in asked):
            self.turned_away[asked] += 1
            return self.refusal
        self.paid[asked] += 1
        said = reply_to(request.json["messages"])
        return sse_reply(0.1 + 0.1 * (self.calls % 4), chat_event(said, "stop"), usage_event(9, 9), DONE)


def reply_to(messages: list[dict[str, str]]) -> str:
    last = messages[-1]["content"]
    if "Task 1\n" in last or "nstructions" in last or "Classification:" in last or "examples" in last:
        return teach(messages)
    if "score_1" in str(messages):
        return '{"review": "The first is better.", "score_1": 8, "score_2": 7}'
    return "It is 4. Revision is not needed."


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = [{"question": f"How many gulls? ({n})", "answer": "So.\n#### 4"} for n in range(9)]
    write(Path("asked.jsonl"), asked)
    write(
        Path("questions.jsonl"),
        [{"question_id": n, "text": f"Why {n}?", "category": "generic"} for n in range(5)],
    )
    for name in ("new", "old"):
        write(Path(f"{name}.jsonl"), [answer(name, n, f"{name}: {n}.") for n in range(5)])


WAYS = {
    "chains": ["generate", "chains", "asked.jsonl"],
    "alpaca": ["generate", "instructions", "--count", "40"],
    "self-instruct": ["generate", "instructions", "--count", "8", "--way", "self-instruct"],
    "answer": ["answer", "asked.jsonl", "--max-revisions", "0", "--journal", "replies.db"],
    "without a journal": ["answer", "asked.jsonl", "--max-revisions", "0"],
    "judge": ["judge", "new.jsonl", "old.jsonl", "--questions", "questions.jsonl"],
    "eval": ["eval", "gsm8k", "asked.jsonl", "--max-revisions", "0"],
}


def run(server: Account, way: str, *more: str) -> Result:
    command = [*WAYS[way], "-o", "out.jsonl", "-m", f"{server.url}#m", "-j", "4", *more]
    result = CliRunner().invoke(app, command, prog_name="redraft")
    assert "Traceback" not in result.output
    return result


@pytest.mark.parametrize("way", WAYS)
def test_what_is_under_way_when_the_account_is_empty_is_finished_and_kept(way: str) -> None:
    with Account(7) as server:
        result = run(server, way)
        assert result.exit_code == 3, result.output
        assert "the account is empty (402)" in result.stderr
        assert "run the same command again to go on" in result.stderr
        server.refused = ()
        result = run(server, way)
        assert result.exit_code == 0, result.output
        assert set(server.paid.values()) == {1}


def test_instructions_say_the_same_of_usage_where_a_reply_broke_off() -> None:
    with Account(3, refusal=sse_reply(chat_event("Task 4"), cut=True)) as server:
        result = run(server, "alpaca")
    assert result.exit_code == 0, result.output
    assert "partly estimated: replies that broke off report no usage" in result.output


@pytest.mark.parametrize("way", ["alpaca", "self-instruct"])
def test_no_call_begins_after_the_account_is_empty(way: str) -> None:
    with Account(*range(7, 99)) as server:
        assert run(server, way).exit_code == 3
        assert server.calls <= 6 + 4  # those that were under way at once


def test_what_is_under_way_when_a_limit_is_reached_is_finished_and_kept() -> None:
    with Account() as server:
        statuses = [run(server, "self-instruct", "--limit-tokens", "40").exit_code for _ in range(12)]
        assert statuses[0] == 4
        assert set(server.paid.values()) == {1}


def test_what_is_under_way_when_another_call_of_its_request_fails_is_finished_and_kept() -> None:
    with Account(5, refusal=error_reply(500, "Out of luck.")) as server:
        assert run(server, "self-instruct", "--retries", "0").exit_code == 3
        assert run(server, "self-instruct").exit_code == 0
        assert set(server.paid.values()) == {1}


def test_an_instruction_that_the_filter_refuses_is_rejected_alone() -> None:
    with Account() as server:
        run(server, "self-instruct", "--quiet")
        asked = next(each for each in server.paid if each.count("Classification:") > 1)
    refused = asked.rpartition("Instruction: ")[2].partition("\\n")[0]
    for file in Path().glob("out.jsonl*"):
        file.unlink()
    with Account(refusal=FILTERED, of=f"Instruction: {refused}") as server:
        result = run(server, "self-instruct")
        assert result.exit_code == 0, result.output
        assert set(server.paid.values()) == set(server.turned_away.values()) == {1}
        assert run(server, "self-instruct").exit_code == 0
        assert server.turned_away.total() == 1
    rejects = [json.loads(line) for line in Path("out.jsonl.rejected.jsonl").read_text().splitlines()]
    (reject,) = (each for each in rejects if each["rule"] == "refused")
    assert reject["record"]["instruction"] == refused
    assert reject["claimed"]
    assert "content management policy" in reject["reason"]


@pytest.mark.parametrize("way", ["alpaca", "self-instruct"])
def test_a_request_that_the_filter_refuses_is_not_made_again_by_each_run(way: str) -> None:
    with Account(2, refusal=FILTERED) as server:
        result = run(server, way)
        assert result.exit_code == 0, result.output
        calls = server.calls
        assert run(server, way).exit_code == 0
        assert server.calls == calls
    assert not Path("out.jsonl.errors.jsonl").exists()


def test_a_request_whose_calls_are_all_refused_for_another_reason_fails() -> None:
    odd = error_reply(400, "top_k is not known.")
    with Account(refusal=odd, of="Classification:") as server:
        result = run(server, "self-instruct")
        assert result.exit_code == 3
        assert "top_k is not known" in result.stderr
    assert (
        not Path("out.jsonl.rejected.jsonl").exists()
        or "refused" not in Path("out.jsonl.rejected.jsonl").read_text()
    )


def test_prompts_that_the_filter_refuses_do_not_end_the_run_if_they_are_the_first() -> None:
    with Account(*range(1, 6), refusal=FILTERED) as server:
        result = run(server, "chains")
        assert result.exit_code == 3
        assert "failed     5: content filter 5" in result.output
        assert len(Path("out.jsonl").read_text().splitlines()) == 4
