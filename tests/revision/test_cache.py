"""`cache=` and `--cache`: a request that was answered is not sent again, and a bad file is refused."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import redraft
from redraft.errors import OutputError, UsageError
from tests.cli import verbs
from tests.engines.fake_server import FakeServer, chat_reply, chat_server

CHAT = "POST /v1/chat/completions"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with chat_server(*(chat_reply(f"Reply {number}.") for number in range(1, 6))) as server:
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "replies.db"


def revise(server: FakeServer, cache: Path | None, prompt: str = "Go.", **options: Any) -> str:
    options = {"max_revisions": 0, **options}
    return redraft.revise(prompt, model=f"{server.url}#m", cache=cache, **options).answer


def test_an_equal_request_is_not_sent_again(server: FakeServer, cache: Path) -> None:
    assert [revise(server, cache) for _ in range(2)] == ["Reply 1."] * 2
    assert (len(server.asked(CHAT)), revise(server, None)) == (1, "Reply 2.")


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "Come."}, {"temperature": 0}, {"seed": 3}, {"system": "Be short."}, {"stop": ["END"]},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"extra_body": {"top_k": 2}},
    ],
)  # fmt: skip
def test_whatever_changes_the_reply_is_asked_for(server: FakeServer, cache: Path, change: Any) -> None:
    assert (revise(server, cache), revise(server, cache, **change)) == ("Reply 1.", "Reply 2.")


def test_headers_change_nothing_and_are_not_stored(server: FakeServer, cache: Path) -> None:
    for word in ("sesame-one", "sesame-two"):
        assert revise(server, cache, extra_headers={"X-Token": word}) == "Reply 1."
    assert b"sesame" not in cache.read_bytes()


def test_drafts_are_samples_of_their_own_and_replayed_in_order(server: FakeServer, cache: Path) -> None:
    asked: dict[str, Any] = {"drafts": 3, "checks": ["contains:3"], "tell_checks": False}
    assert [revise(server, cache, **asked) for _ in range(2)] == ["Reply 3."] * 2
    assert len(server.asked(CHAT)) == 3
    assert revise(server, cache) == "Reply 1.", "the first sample of the same request"


def test_a_resumed_chain_gets_no_reply_that_it_has_already(server: FakeServer, cache: Path) -> None:
    asked: dict[str, Any] = {"cache": cache, "mode": "best-of", "drafts": 3, "checks": ["words<=1"]}
    asked["model"] = f"{server.url}#m"
    cancel = redraft.CancelToken()

    def end(event: redraft.Event) -> None:
        if isinstance(event, redraft.DraftDone) and event.index == 1:
            cancel.cancel()

    cut = redraft.revise("Go.", cancel=cancel, on_event=end, **asked)
    assert cut.stop == "cancelled"
    chain = redraft.revise("Go.", resume=cut, **asked)
    answers = sorted(step.answer for step in (*chain.steps, *chain.drafts))
    assert answers == ["Reply 1.", "Reply 2.", "Reply 3."]


def test_an_open_engine_is_refused(cache: Path) -> None:
    with pytest.raises(UsageError, match="the judge is given as an engine"):
        redraft.revise("Go.", model="default", judge=redraft.ScriptedEngine(["a"]), cache=cache)
    assert not cache.exists()


def replies_are(text: str) -> str:
    return f"UPDATE packed SET reply = x'{zlib.compress(text.encode()).hex()}'"  # noqa: S608


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (replies_are("[5]"), "one is damaged"),
        (replies_are('[{"text": ["a"], "finish": "stop"}]'), "one is damaged"),
        (replies_are('[{"text": "a", "novel": 1, "finish": "stop"}]'), "from another redraft"),
        (replies_are('[{"text": "a", "finish": "later"}]'), "another redraft"),
        (replies_are('[{"text": "a"}]'), "another redraft"),
    ],
)
def test_a_reply_of_another_form_is_refused(
    server: FakeServer, cache: Path, statement: str, said: str
) -> None:
    revise(server, cache)
    with sqlite3.connect(cache) as db:
        db.execute(statement)
    db.close()
    with pytest.raises(OutputError, match=said) as caught:
        revise(server, cache)
    assert "replies.db" in caught.value.message
    assert len(server.asked(CHAT)) == 1


def test_ask_and_python_share_a_cache(server: FakeServer, cache: Path) -> None:
    asked = ["ask", "Go.", "--model", f"{server.url}#m", "--max-revisions", 0, "--cache", cache]
    assert [verbs.redraft(*asked).stdout for _ in range(2)] == ["Reply 1.\n"] * 2
    assert revise(server, cache) == "Reply 1."


def answers(server: FakeServer, folder: Path, *flags: Any) -> list[str]:
    prompts = verbs.write(folder / "prompts.jsonl", [{"id": name, "instruction": "Go."} for name in "ab"])
    out = folder / "out.jsonl"
    out.unlink(missing_ok=True)
    done = verbs.redraft(
        "answer", prompts, "-o", out, "--model", f"{server.url}#m", "--max-revisions", 0, "-j", 1, *flags
    )
    assert done.exit_code == 0, done.stderr
    return [chain.answer for chain in redraft.read_jsonl(out)]


def test_answer_shares_replies_between_equal_prompts(server: FakeServer, cache: Path, tmp_path: Path) -> None:
    assert answers(server, tmp_path, "--cache", cache) == ["Reply 1.", "Reply 1."]
    assert answers(server, tmp_path) == ["Reply 2.", "Reply 3."]
    assert answers(server, tmp_path, "--cache", cache) == ["Reply 1.", "Reply 1."]
