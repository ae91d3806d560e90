"""Calls that are under way when a run ends: they are finished, kept, and never paid for again."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import Result

from tests.cli.verbs import lines, redraft, write
from tests.data.generate.instructions.stand_in import teach
from tests.engines.fake_server import Reply, error_reply
from tests.engines.paid_server import DOWN, Messages, PaidServer
from tests.evaluation.made import answer

EMPTY = error_reply(402, "Insufficient balance.")
FILTERED = error_reply(400, "The prompt triggered the content management policy.", code="content_filter")


def account(*refused: int, refusal: Reply = EMPTY, of: str = "") -> PaidServer:
    plan = dict.fromkeys(refused, refusal)
    return PaidServer(reply_to, seconds=0.1, plan=plan, refuses={of: refusal} if of else None)


def reply_to(messages: Messages) -> str:
    last = messages[-1]["content"]
    if "Task 1\n" in last or "nstructions" in last or "Classification:" in last or "examples" in last:
        return teach(messages)
    if "score_1" in str(messages):
        return '{"review": "The first is better.", "score_1": 8, "score_2": 7}'
    return "It is 4. Revision is not needed."


@pytest.fixture(autouse=True)
def _records(_folder: None) -> None:
    write("asked.jsonl", [{"question": f"How many gulls? ({n})", "answer": "So.\n#### 4"} for n in range(9)])
    questions = [{"question_id": n, "text": f"Why {n}?", "category": "generic"} for n in range(5)]
    write("questions.jsonl", questions)
    for name in ("new", "old"):
        write(f"{name}.jsonl", [answer(name, n, f"{name}: {n}.") for n in range(5)])


WAYS = {
    "chains": ["generate", "chains", "asked.jsonl"],
    "alpaca": ["generate", "instructions", "--count", "40"],
    "self-instruct": ["generate", "instructions", "--count", "8", "--way", "self-instruct"],
    "answer": ["answer", "asked.jsonl", "--max-revisions", "0"],
    "judge": ["judge", "new.jsonl", "old.jsonl", "--questions", "questions.jsonl"],
    "eval": ["eval", "gsm8k", "asked.jsonl", "--max-revisions", "0"],
}


def run(server: PaidServer, way: str, *more: str) -> Result:
    return redraft(*WAYS[way], "-o", "out.jsonl", "-m", server.model, "-j", "4", *more)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_what_is_under_way_when_the_account_is_empty_is_finished_and_kept(way: str) -> None:
    with account(7) as server:
        result = run(server, way)
        assert result.exit_code == 3, result.output
        assert "the account is empty (402)" in result.stderr
        assert "run the same command again to resume" in result.stderr
        server.plan = {}
        result = run(server, way)
        assert result.exit_code == 0, result.output
        assert set(server.paid.values()) == {1}


@pytest.mark.parametrize("way", ["alpaca", "self-instruct"])
def test_no_call_begins_after_the_account_is_empty(way: str) -> None:
    with account(*range(7, 99)) as server:
        assert run(server, way).exit_code == 3
        assert len(server.messages) <= 6 + 4  # those that were under way at once


@pytest.mark.slow
def test_what_is_under_way_when_a_limit_is_reached_is_finished_and_kept() -> None:
    with account() as server:
        statuses = [run(server, "self-instruct", "--limit-tokens", "40").exit_code for _ in range(12)]
        assert statuses[0] == 4
        assert set(server.paid.values()) == {1}


@pytest.mark.slow
def test_what_is_under_way_when_another_call_of_its_request_fails_is_finished_and_kept() -> None:
    with account(5, refusal=DOWN) as server:
        assert run(server, "self-instruct", "--retries", "0").exit_code == 3
        assert (run(server, "self-instruct").exit_code, set(server.paid.values())) == (0, {1})


@pytest.mark.slow
def test_an_instruction_that_the_filter_refuses_is_rejected_alone() -> None:
    with account() as server:
        run(server, "self-instruct", "--quiet")
        asked = next(each for each in server.paid if each.count("Classification:") > 1)
    refused = asked.rpartition("Instruction: ")[2].partition("\\n")[0]
    for file in Path().glob("out.jsonl*"):
        file.unlink()
    with account(refusal=FILTERED, of=f"Instruction: {refused}") as server:
        result = run(server, "self-instruct")
        assert result.exit_code == 0, result.output
        assert set(server.paid.values()) == set(server.turned_away.values()) == {1}
        assert (run(server, "self-instruct").exit_code, server.turned_away.total()) == (0, 1)
    (reject,) = (each for each in lines("out.jsonl.rejected.jsonl") if each["rule"] == "refused")
    assert reject["record"]["instruction"] == refused
    assert reject["claimed"]
    assert "content management policy" in reject["reason"]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["alpaca", "self-instruct"])
def test_a_request_that_the_filter_refuses_is_not_made_again_by_each_run(way: str) -> None:
    with account(2, refusal=FILTERED) as server:
        result = run(server, way)
        assert result.exit_code == 0, result.output
        calls = len(server.messages)
        assert (run(server, way).exit_code, len(server.messages)) == (0, calls)
    assert not Path("out.jsonl.errors.jsonl").exists()


def test_a_request_whose_calls_are_all_refused_for_another_reason_fails() -> None:
    with account(refusal=error_reply(400, "top_k is not known."), of="Classification:") as server:
        result = run(server, "self-instruct")
        assert result.exit_code == 3
        assert "top_k is not known" in result.stderr
    rejected = Path("out.jsonl.rejected.jsonl")
    assert not rejected.exists() or "refused" not in rejected.read_text()


def test_prompts_that_the_filter_refuses_do_not_end_the_run_if_they_are_the_first() -> None:
    with account(*range(1, 6), refusal=FILTERED) as server:
        result = run(server, "chains")
        assert result.exit_code == 3
        assert "failed     5: content filter 5" in result.output
        assert len(Path("out.jsonl").read_text().splitlines()) == 4
