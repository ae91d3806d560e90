"""A draft that can no longer pass is ended, kept with its feedback, and followed by the next text."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import redraft
from redraft.chain import Chain, Prompt
from redraft.checks.base import Outcome, failed, passed
from redraft.engines.scripted import ScriptedEngine
from redraft.revision import watch
from redraft.revision.words import usage_line

LONG = " ".join(f"word{number}" for number in range(200))
SHORT = "Rain falls."
CHECKS = ["words<=20"]


def revise(replies: list[str], **options: Any) -> Chain:
    given = {"checks": CHECKS, "mode": "verified", **options}
    return redraft.revise("Describe rain.", **{"model": ScriptedEngine(replies, chunk=1), **given})


def test_a_lost_answer_is_ended_and_revised() -> None:
    chain = revise([LONG, SHORT])
    first, second = chain.steps
    assert first.finish == "lost"
    assert LONG.startswith(first.answer)
    assert 20 < len(first.answer.split()) < 30
    assert first.checks[0].message.startswith("The answer has 2")
    assert first.feedback is not None
    assert first.feedback.text.endswith("because nothing that follows could mend that.")
    assert first.passed is False
    assert (second.finish, second.passed, chain.stop, chain.best) == ("stop", True, "passed", 1)


def test_its_usage_is_counted_and_said_to_be_estimated() -> None:
    chain = revise([LONG, SHORT])
    first = chain.steps[0]
    assert len(first.answer) <= first.usage.completion_tokens <= len(first.answer) + 2  # a character a token
    assert first.usage.prompt_tokens > 0
    assert first.usage.estimated
    assert usage_line(chain).endswith("partly estimated: unfinished replies report no usage")


@pytest.mark.parametrize("mode", ["verified", "prompted", "best-of"])
def test_in_every_mode_that_asks(mode: str) -> None:
    more: dict[str, Any] = {"drafts": 3} if mode == "best-of" else {"max_revisions": 1}
    chain = revise([LONG, SHORT], mode=mode, **more)
    assert [step.finish for step in (*chain.drafts, *chain.steps)] == ["lost", "stop"]
    assert chain.answer == SHORT


def test_a_text_that_nothing_follows_is_not_ended() -> None:
    assert [step.finish for step in revise([LONG], max_revisions=0).steps] == ["stop"]
    chain = revise([LONG], max_revisions=2)
    assert [step.finish for step in chain.steps] == ["lost", "lost", "stop"]
    assert revise([f'{LONG} {{"rain": "falls"}}'], checks=["json", *CHECKS]).steps[0].finish == "stop"
    chain = revise([LONG], mode="best-of", drafts=3)
    assert sorted(step.finish for step in (*chain.drafts, *chain.steps)) == ["lost", "lost", "stop"]


def test_a_complete_answer_is_chosen_before_a_lost_one() -> None:
    chain = revise([LONG], max_revisions=1)
    assert chain.best == 1  # its score is worse
    assert chain.steps[0].score > chain.steps[1].score  # type: ignore[operator]


def test_with_a_cache_texts_are_whole(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, [LONG, SHORT])))
    for cache, finish in ((tmp_path / "c.db", "stop"), (None, "lost")):
        assert revise([SHORT], model=f"script:{tmp_path}/r.jsonl", cache=cache).steps[0].finish == finish


def test_a_text_that_ends_when_it_is_lost_is_complete() -> None:
    engine = ScriptedEngine([" ".join(["rain"] * 21), SHORT], chunk=10_000)
    chain = redraft.revise("Describe rain.", model=engine, checks=CHECKS)
    assert [step.finish for step in chain.steps] == ["stop", "stop"]


@pytest.mark.parametrize(
    "replies",
    [
        [LONG, SHORT], [LONG, LONG, SHORT], [LONG, "A " + LONG, "B " + LONG], [SHORT],
        [LONG, SHORT + " Light. " + LONG, "Hm. " + SHORT],
    ],
)  # fmt: skip
@pytest.mark.parametrize("options", [{"max_revisions": 2}, {"mode": "best-of", "drafts": 3}])
def test_the_verdict_is_the_same_without_ending(
    replies: list[str], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = ["words<=20", "lacks:light"]
    ended = revise(replies, checks=checks, **options)
    monkeypatch.setattr(watch, "FIRST", 10**9)
    whole = revise(replies, checks=checks, **options)
    assert (ended.passed, ended.stop) == (whole.passed, whole.stop)
    assert [step.passed for step in ended.steps] == [step.passed for step in whole.steps]
    if whole.passed:
        assert ended.answer == whole.answer
    assert ended.usage.completion_tokens < whole.usage.completion_tokens or len(replies) == 1


def test_a_chain_with_a_lost_answer_goes_on_where_it_was_cut() -> None:
    whole = revise([LONG, SHORT])
    cut = whole.model_copy(update={"steps": whole.steps[:1], "stop": None, "best": 0})
    again = Chain.from_json(cut.to_json())
    assert revise([SHORT], resume=again).steps[0].answer == whole.steps[0].answer
    assert revise([SHORT], resume=again).answer == SHORT


class Own:
    def __init__(self, name: str, does: Any, *, good: bool = True) -> None:
        self.name, self.does, self.good, self.asked = name, does, good, 0

    def check(self, answer: str, prompt: Prompt) -> Outcome:
        return passed("Fine.") if self.good else failed("Bad.")

    def prefix(self, text: str) -> Any:
        self.asked += 1
        return self.does(text)


@pytest.mark.parametrize(
    ("does", "said"),
    [
        (lambda _: "lost", "returned 'lost' for a text that passes the check"),
        (lambda _: 1 / 0, "crashed: test_lost.py"),
        (lambda _: sys.exit(3), "crashed: "),
        (lambda _: True, "returned True, not 'open' or 'lost'"),
        (lambda _: time.sleep(1), "took longer than 0.1 s"),
    ],
)
def test_a_prefix_that_lies_raises_or_hangs_is_left_out_and_told_once(
    does: Any, said: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "SECONDS", 0.1)
    check = Own(f"own: {said}", does)
    for _ in range(2):
        chain = revise([LONG], checks=[check], max_revisions=1)
        assert (chain.passed, chain.answer) == (True, LONG)
    assert check.asked == 1
    assert [said in message for message in caplog.messages] == [True]


def test_an_honest_prefix_of_your_own_ends_texts() -> None:
    check = Own("own: honest", lambda text: "lost" if "word9" in text else "open", good=False)
    chain = revise([LONG, SHORT], checks=[check], max_revisions=1)
    assert [step.finish for step in chain.steps] == ["lost", "stop"]


@pytest.mark.slow
def test_a_long_answer_is_looked_at_a_few_times() -> None:
    read: list[int] = []
    check = Own("own: counts", lambda text: read.append(len(text)) or "open")
    revise(["word " * 20_000], checks=[check], max_revisions=1, max_tokens=200_000)
    assert len(read) < 200
    assert sum(read) < 20 * 100_000
