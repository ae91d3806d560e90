"""`redraft answer` with limits of a run: it stops between two prompts, and the same command resumes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from redraft.chain import read_jsonl
from tests.cli.test_answer import REPLIES, answer, chains, folder, script
from tests.engines.fake_server import (
    DONE,
    FakeServer,
    chat_event,
    chat_reply,
    json_reply,
    models_reply,
    sse_reply,
    usage_event,
)

__all__ = ["folder"]


def test_runs_with_a_limit_of_tokens_do_everything_in_the_end() -> None:
    first = answer("--limit-tokens", "100", "--parallel", "1")
    assert first.exit_code == 4
    assert first.stderr == (
        "redraft: the limit of 100 tokens is reached (124 generated): "
        "2 of 10 done; run the same command again to go on.\n"
    )
    assert "answers    2 in out.jsonl" in first.stdout
    statuses = [answer("--limit-tokens", "300", "--parallel", "1").exit_code for _ in range(2)]
    assert statuses == [4, 0]
    assert [chain.id for chain in chains()] == [f"prompts/{n}" for n in range(10)]


def test_only_the_first_prompts_are_answered_and_a_later_run_goes_on() -> None:
    for limit in (3, 5):
        result = answer("--limit", str(limit))
        assert result.exit_code == 0, result.output
        assert sorted(chain.id for chain in chains()) == [f"prompts/{n}" for n in range(limit)]
    assert answer().exit_code == 0
    assert len(chains()) == 10


def test_a_limit_of_money_counts_what_tokens_cost() -> None:
    result = answer("--limit-usd", "0.1", "--price", "0,1000", "--parallel", "1")
    assert result.exit_code == 4
    assert "the limit of 0.1 USD is reached (0.1240 spent): 2 of 10 done" in result.stderr


def test_a_limit_of_money_knows_the_prices_of_the_config_file(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeServer() as server:
        reply = sse_reply(chat_event("A gull.", "stop"), usage_event(5, 7), DONE)
        server.on("GET /v1/models", models_reply("m")).on("POST /v1/chat/completions", reply)
        Path("config.toml").write_text(f'[prices."{server.host}#m"]\nprompt = 0\ncompletion = 1e6\n')
        monkeypatch.setenv("REDRAFT_CONFIG", "config.toml")
        result = answer("-m", server.url, "--limit-usd", "1", "--parallel", "1")
    assert "the limit of 1 USD is reached" in result.stderr
    assert result.exit_code == 4


@pytest.mark.parametrize("streams", [True, False])
def test_a_limit_of_money_holds_for_a_server_without_counts(streams: bool) -> None:
    said = "A gull is a grey bird. " * 22  # 506 letters, some 130 tokens
    record = {"choices": [{"message": {"content": said}, "finish_reason": "stop"}]}
    reply = (
        chat_reply(*(said[at : at + 9] for at in range(0, len(said), 9))) if streams else json_reply(record)
    )
    with FakeServer() as server:
        server.on("GET /v1/models", models_reply("m")).on("POST /v1/chat/completions", reply)
        flags = ["-m", server.url, "--max-revisions", "0", "--parallel", "1", "--price", "0,1000"]
        result = answer(*flags, "--limit-usd", "0.3")
    assert result.exit_code == 4, result.output
    assert "the limit of 0.3 USD is reached (0.3" in result.stderr
    assert 2 <= len(chains()) <= 3
    assert all(chain.usage.estimated and chain.usage.prompt_tokens for chain in chains())
    assert "estimated: the server reports no usage" in result.stdout


@pytest.mark.parametrize(
    ("role", "reply"), [("critic", "No revision is needed."), ("judge", "It is.\nScore: 9")]
)
def test_a_limit_of_money_counts_each_model_at_its_own_price(
    role: str, reply: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeServer() as writer, FakeServer() as other:
        for server, text in ((writer, "A gull."), (other, reply)):
            said = sse_reply(chat_event(text, "stop"), usage_event(5, 7), DONE)
            server.on("GET /v1/models", models_reply("m")).on("POST /v1/chat/completions", said)
        flags = ["-m", writer.url, f"--{role}", other.url, "--limit-usd", "10", "--parallel", "1"]
        flags += ["-c", "judge:Is it about gulls?"] if role == "judge" else []
        monkeypatch.setenv("REDRAFT_CONFIG", "config.toml")
        prices = f'[prices."{writer.host}#m"]\nprompt = 0\ncompletion = 1e5\n'
        Path("config.toml").write_text(prices)
        unpriced = answer(*flags)
        Path("config.toml").write_text(f'{prices}[prices."{other.host}#m"]\nprompt = 0\ncompletion = 1e6\n')
        result = answer(*flags)
    assert f"a limit of 10.0 USD needs the price of the {role} 'm'" in unpriced.stderr
    assert (unpriced.exit_code, result.exit_code) == (2, 4)
    # Seven tokens of each: 0.70 USD for the answer, 7 USD for what is said of it.
    assert "the limit of 10 USD is reached (15.4000 spent): 2 of 10 done" in result.stderr
    assert [round(chain.usage.cost_usd or 0, 6) for chain in chains()] == [7.7, 7.7]


def test_what_failed_chains_cost_counts() -> None:
    script([REPLIES[0], {"text": "It reads ", "error": "the server is down."}])
    result = answer("--limit-tokens", "20", "--parallel", "1", "--retries", "0")
    assert result.exit_code == 4
    assert "0 of 10 done" in result.stderr
    assert "failed     1: no usable reply 1\n" in result.stdout


def test_a_limit_of_seconds_lets_what_is_under_way_finish() -> None:
    script(REPLIES, delay=0.02)
    result = answer("--limit-seconds", "0.2", "--parallel", "2")
    assert result.exit_code == 4
    assert 2 <= len(list(read_jsonl(Path("out.jsonl")))) < 10
    assert not Path("out.jsonl.unfinished.jsonl").exists()


def test_a_limit_counts_each_call_and_not_only_finished_steps() -> None:
    """The first answer passes the limit; its criticism is under way when the second prompt is done."""
    big = sse_reply(chat_event("A gull.", "stop"), usage_event(5, 100), DONE)
    late_answer = sse_reply(0.3, chat_event("A tern.", "stop"), usage_event(5, 1), DONE)
    accepts = (chat_event("No revision is needed.", "stop"), usage_event(5, 1), DONE)
    with FakeServer() as server:
        server.on("GET /v1/models", models_reply("m"))
        route = "POST /v1/chat/completions"
        server.on(route, big, late_answer, sse_reply(1.5, *accepts), sse_reply(*accepts))
        result = answer("-m", server.url, "--limit-tokens", "50", "--parallel", "2", "--mode", "prompted")
        assert (result.exit_code, len(server.asked(route))) == (4, 4), result.output
    assert len(chains()) == 2


def test_limits_are_no_part_of_how_an_output_was_made() -> None:
    answer("--limit-tokens", "100")
    assert answer("--limit-seconds", "100").exit_code == 0
    config = json.loads(Path("out.jsonl.run.json").read_text())["config"]
    assert not [name for name in config if "limit" in name]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--limit-usd", "1"], "a limit of 1.0 USD needs the price"),
        (["--limit-tokens", "0"], "limit_tokens is 0"),
        (["--limit-seconds", "nan"], "limit_seconds is nan"),
    ],
)
def test_limits_that_cannot_hold_are_refused(args: list[str], said: str) -> None:
    result = answer(*args)
    assert (result.exit_code, said in result.stderr) == (2, True)
    assert "run the same command again" not in result.stderr
    assert not Path("out.jsonl").exists()


def test_a_small_limit_is_written_in_decimals() -> None:
    result = answer("--limit-usd", "1e-7", "--price", "1,1", "--parallel", "1")
    assert "the limit of 0.0000001 USD is reached" in result.stderr
