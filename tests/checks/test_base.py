"""Running checks: side by side, in order, and a crash is no failed answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import redraft
from redraft.chain import CheckResult, Prompt
from redraft.checks.base import Check, Outcome, failed, passed, run_check, run_checks
from redraft.checks.parse import parse_checks
from redraft.errors import CheckError, EmptyReply, ServerError


@dataclass(frozen=True)
class Sync:
    judge: Callable[[str, Prompt], Outcome]
    name: str = "sync"

    def check(self, answer: str, prompt: Prompt) -> Outcome:
        return self.judge(answer, prompt)


@dataclass
class Waiting:
    gate: asyncio.Event
    name: str = "waiting"
    cancelled: bool = False

    async def check(self, answer: str, prompt: Prompt) -> Outcome:
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return passed("waited")


def crash(error: Exception) -> Sync:
    def judge(answer: str, prompt: Prompt) -> Outcome:
        raise error

    return Sync(judge, name="mine")


def test_a_result_has_the_name_and_the_outcome() -> None:
    check = Sync(lambda answer, prompt: failed(f"{answer} {prompt.text}", score=0.25))
    result = asyncio.run(run_check(check, "yes", Prompt(instruction="why")))
    assert result == CheckResult(name="sync", passed=False, score=0.25, message="yes why")


@pytest.mark.parametrize(
    "error", [KeyError("no"), StopIteration("no"), AttributeError("'str' object has no attribute 'x'")]
)
def test_a_crash_is_named_as_a_fault_of_the_check(error: Exception) -> None:
    with pytest.raises(CheckError, match="the check 'mine' crashed: ") as caught:
        asyncio.run(asyncio.wait_for(run_check(crash(error), "", Prompt()), 10))
    assert "not of the answer" in str(caught.value.hint)
    assert ("gets the answer as text" in str(caught.value.hint)) == isinstance(error, AttributeError)


def test_an_error_of_redraft_keeps_its_kind() -> None:
    with pytest.raises(ServerError):
        asyncio.run(run_check(crash(ServerError("judge is down")), "", Prompt()))


def test_results_come_in_the_order_of_the_checks_though_they_end_in_another() -> None:
    async def run() -> list[str]:
        gate = asyncio.Event()
        loop = asyncio.get_running_loop()

        def open_gate(answer: str, prompt: Prompt) -> Outcome:
            loop.call_soon_threadsafe(gate.set)
            return failed("opened")

        checks: list[Check] = [Waiting(gate), Sync(open_gate)]
        return [result.message for result in await run_checks(checks, "x", Prompt())]

    assert asyncio.run(asyncio.wait_for(run(), 10)) == ["waited", "opened"]


def test_a_sync_check_does_not_hold_up_the_loop() -> None:
    async def run() -> tuple[str, ...]:
        release = threading.Event()

        def wait(answer: str, prompt: Prompt) -> Outcome:
            return passed("released") if release.wait(10) else failed("the loop was held up")

        task = asyncio.ensure_future(run_checks([Sync(wait)], "x", Prompt()))
        await asyncio.sleep(0)
        release.set()
        return tuple(result.message for result in await task)

    assert asyncio.run(run()) == ("released",)


def test_when_one_crashes_the_others_are_finished_first() -> None:
    """They may be judges, whose calls are paid."""

    async def run() -> Waiting:
        opened = asyncio.Event()
        waiting = Waiting(opened)
        asyncio.get_running_loop().call_later(0.05, opened.set)
        with pytest.raises(CheckError):
            await run_checks([crash(ValueError()), waiting], "x", Prompt())
        assert opened.is_set()
        return waiting

    assert not asyncio.run(run()).cancelled


def test_cancelling_ends_all_checks() -> None:
    async def run() -> Waiting:
        waiting = Waiting(asyncio.Event())
        task = asyncio.ensure_future(run_checks([waiting], "x", Prompt()))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return waiting

    assert asyncio.run(run()).cancelled


SHOWS_NOTHING = [" \n", "\u200b", "\u00ad \u2060", "\u200e\u202e", "\ufeff", "\u2800"]
SHOWS_NOTHING += ["```\n```", "```python\n\n```", "~~~\n \n~~~"]


@pytest.mark.parametrize("answer", SHOWS_NOTHING)
def test_a_text_that_shows_nothing_passes_no_check(answer: str) -> None:
    results = asyncio.run(run_checks(parse_checks(["words<=50", "lacks:light"]), answer, Prompt()))
    assert [(r.passed, r.score) for r in results] == [(False, 0.0)] * 2
    assert {r.message for r in results} == {"The answer is empty."}
    with pytest.raises(EmptyReply, match="gave no answer"):
        redraft.revise("Go.", model=redraft.ScriptedEngine([answer]), checks=["words<=50"])
    chain = redraft.revise(
        "Go.", model=redraft.ScriptedEngine([answer, "Gone."]), checks=["words<=50"], drafts=2
    )
    assert chain.answer == "Gone."


@pytest.mark.parametrize("answer", ["~~~ok~~~", "```\n0\n```", "👍", "😶\u200d🌫️", "-"])
def test_a_text_that_shows_something_is_checked(answer: str) -> None:
    assert asyncio.run(run_checks(parse_checks(["words<=50"]), answer, Prompt()))[0].passed


def test_checks_beside_json_judge_the_json_alone() -> None:
    unix = 'Here it is:\n```json\n{"a": "one two"}\n```\nI hope it helps.'
    checks = parse_checks(["json", "words<=3", "lacks:hope", "contains:here", "lacks:two"])
    for answer in (unix.replace("{", "{\n").replace("\n", "\r\n"), unix):
        found = asyncio.run(run_checks(checks, answer, Prompt()))
        assert [result.passed for result in found] == [True, True, True, False, False]
        ((begin, end),) = found[-1].places  # type: ignore[misc]
        assert answer[begin:end] == "two"
    official = parse_checks(["ifeval:detectable_format:json_format", "contains:here"])
    assert [result.passed for result in asyncio.run(run_checks(official, answer, Prompt()))] == [False, True]


async def yes(answer: str, prompt: Prompt) -> Any:
    return True


@pytest.mark.parametrize(("judge", "value"), [(yes, "True"), (lambda *_: "too long", "'too long'")])
def test_a_check_that_returns_no_outcome_is_told_what_to_return(judge: Any, value: str) -> None:
    with pytest.raises(CheckError, match=f"'mine' returned {value}, which is not a valid result") as caught:
        asyncio.run(run_check(Sync(judge, "mine"), "yes", Prompt()))
    assert "redraft.failed" in str(caught.value.hint)
