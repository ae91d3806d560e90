"""`redraft answer` with limits of a run: it stops between two prompts, and the same command resumes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_answer import REPLIES, _prompts, answer
from tests.cli.verbs import chains, redraft, script
from tests.engines.fake_server import (
    DONE,
    chat_event,
    chat_reply,
    chat_server,
    json_reply,
    sse_reply,
    usage_event,
)
from tests.revision.test_opening import silent

__all__ = ["_prompts", "silent"]


def test_runs_with_a_limit_of_tokens_do_everything_in_the_end() -> None:
    first = answer("--limit-tokens", "100")
    assert first.exit_code == 4
    assert first.stderr == (
        "redraft: the limit of 100 tokens is reached (124 generated): "
        "2 of 10 done; run the same command again to resume.\n"
    )
    assert "answers    2 in out.jsonl" in first.stdout
    assert [answer("--limit-tokens", "300").exit_code for _ in range(2)] == [4, 0]
    assert [chain.id for chain in chains()] == [f"prompts/{n}" for n in range(10)]
    config = json.loads(Path("out.jsonl.run.json").read_text())["config"]
    assert not [name for name in config if "limit" in name]


def test_a_limit_of_money_counts_what_tokens_cost() -> None:
    result = answer("--limit-usd", "0.1", "--price", "0,1000")
    assert result.exit_code == 4
    assert "the limit of 0.1 USD is reached (0.1240 spent): 2 of 10 done" in result.stderr


@pytest.mark.parametrize("streams", [True, False])
def test_a_limit_of_money_holds_for_a_server_without_counts(streams: bool) -> None:
    said = "A gull is a grey bird. " * 22  # 506 letters, some 130 tokens
    record = {"choices": [{"message": {"content": said}, "finish_reason": "stop"}]}
    pieces = (said[at : at + 9] for at in range(0, len(said), 9))
    with chat_server(chat_reply(*pieces) if streams else json_reply(record)) as silent_on_usage:
        flags = ["-m", silent_on_usage.url, "--max-revisions", "0", "--price", "0,1000"]
        result = answer(*flags, "--limit-usd", "0.3")
    assert result.exit_code == 4, result.output
    assert "the limit of 0.3 USD is reached (0.3" in result.stderr
    assert 2 <= len(chains()) <= 3
    assert all(chain.usage.estimated and chain.usage.prompt_tokens for chain in chains())
    assert "estimated: the server reports no usage" in result.stdout


@pytest.mark.parametrize(
    ("role", "reply"), [("critic", "No revision is needed."), ("judge", "It is.\nScore: 9")]
)
def test_a_limit_of_money_counts_each_model_at_its_price_in_the_config_file(role: str, reply: str) -> None:
    replies = [sse_reply(chat_event(text, "stop"), usage_event(5, 7), DONE) for text in ("A gull.", reply)]
    with chat_server(replies[0]) as writer, chat_server(replies[1]) as other:
        flags = ["-m", writer.url, f"--{role}", other.url, "--limit-usd", "10", "-j", "1"]
        flags += ["-c", "judge:Is it about gulls?"] if role == "judge" else []
        prices = f'[prices."{writer.host}#m"]\nprompt = 0\ncompletion = 1e5\n'
        Path("config.toml").write_text(prices)
        words = ("answer", "prompts.txt", "-o", "out.jsonl", *flags)
        unpriced = redraft(*words, REDRAFT_CONFIG="config.toml")
        Path("config.toml").write_text(f'{prices}[prices."{other.host}#m"]\nprompt = 0\ncompletion = 1e6\n')
        result = redraft(*words, REDRAFT_CONFIG="config.toml")
    assert f"a limit of 10.0 USD needs the price of the {role} 'm'" in unpriced.stderr
    assert (unpriced.exit_code, result.exit_code) == (2, 4)
    # Seven tokens of each: 0.70 USD for the answer, 7 USD for what is said of it.
    assert "the limit of 10 USD is reached (15.4000 spent): 2 of 10 done" in result.stderr
    assert [round(chain.usage.cost_usd or 0, 6) for chain in chains()] == [7.7, 7.7]


def test_a_limit_of_seconds_lets_what_is_under_way_finish() -> None:
    script(*REPLIES, delay=0.02)
    assert answer("--limit-seconds", "0.2", "-j", "2").exit_code == 4
    assert 2 <= len(chains()) < 10
    assert not Path("out.jsonl.unfinished.jsonl").exists()


@pytest.mark.slow
def test_a_limit_counts_each_call_and_not_only_finished_steps() -> None:
    big = sse_reply(chat_event("A gull.", "stop"), usage_event(5, 100), DONE)
    late_answer = sse_reply(0.3, chat_event("A tern.", "stop"), usage_event(5, 1), DONE)
    accepts = (chat_event("No revision is needed.", "stop"), usage_event(5, 1), DONE)
    with chat_server(big, late_answer, sse_reply(1.5, *accepts), sse_reply(*accepts)) as slow:
        result = answer("-m", slow.url, "--limit-tokens", "50", "-j", "2", "--mode", "prompted")
        assert (result.exit_code, len(slow.asked("POST /v1/chat/completions"))) == (4, 4), result.output
    assert len(chains()) == 2


# While the model is opened.


def test_a_silent_server_gets_no_longer_than_the_budget_of_a_chain(silent: str) -> None:
    result = answer("-m", silent, "--budget-seconds", "0.5", "--patience", "600")
    assert result.exit_code == 3
    for said in ("sent nothing within 0.5 s.", "the time budget", "0 of 10 done"):
        assert said in result.stderr


def test_the_limit_of_the_job_holds_while_the_model_is_opened(silent: str) -> None:
    result = answer("-m", silent, "--limit-seconds", "0.5")
    assert result.exit_code == 4
    assert "the limit of 0.5 s was reached before the model was ready." in result.stderr
    assert "0 of 10 done" in result.stderr
