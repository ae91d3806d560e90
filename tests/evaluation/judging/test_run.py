"""`redraft.judge`: what the command does, as a function."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import redraft
from redraft.jobs.harness import RunEvent, RunProgress
from redraft.jobs.progress import RunMessage
from tests.cli import verbs
from tests.cli.verbs import lines, script, write
from tests.evaluation.made import answer

OPTIONS: Any = {"model": "script:judge.jsonl", "questions": "questions.jsonl", "parallel": 1, "quiet": True}


@pytest.fixture(autouse=True)
def _files(here: Path) -> None:
    write("questions.jsonl", [{"question_id": n, "text": f"Why {n}?"} for n in (1, 2)])
    for name in ("new", "old"):
        write(f"{name}.jsonl", [answer(name, n, f"Because {name}.") for n in (1, 2)])
    script("Good.\n[[9, 8]]", "[[7, 7]]", name="judge")


def test_the_result_says_what_was_made_and_the_command_goes_on_with_it() -> None:
    result = redraft.judge(("new.jsonl", "old.jsonl"), "out.jsonl", **OPTIONS)
    assert (result.path, result.added, result.found, result.failed) == (Path("out.jsonl"), 4, 0, 0)
    assert (result.tally.reviews, result.tally.unreadable, result.exit_status) == (4, [], 0)
    assert str(result).startswith("reviews     4 in out.jsonl\n")
    assert "redraft report out.jsonl --answers new.jsonl --answers old.jsonl" in str(result)
    assert Path("out.jsonl.journal.db").exists()
    words = "judge new.jsonl old.jsonl -o out.jsonl -m script:judge.jsonl --questions questions.jsonl"
    assert "4 in out.jsonl, 4 of them from earlier runs" in verbs.redraft(*words.split()).output


def test_the_async_twin_makes_the_same() -> None:
    async def twin() -> Any:
        return await redraft.ajudge("new.jsonl", "twin.jsonl", **OPTIONS)

    script("Fine.\n[[8]]", name="judge")
    result = asyncio.run(twin())
    assert (result.added, result.exit_status) == (2, 0)
    assert redraft.judge("new.jsonl", "twin.jsonl", **OPTIONS).found == 2
    assert [review["score"] for review in lines("twin.jsonl")] == [8, 8]


def test_progress_and_messages_are_events() -> None:
    write("old.jsonl", [answer("old", n, "" if n == 1 else "x") for n in (1, 2)])
    events: list[RunEvent] = []
    redraft.judge(
        ("new.jsonl", "old.jsonl"), "out.jsonl", **{**OPTIONS, "quiet": False}, on_event=events.append
    )
    assert RunMessage("old: empty answers to these questions are judged too: 1.") in events
    assert any(isinstance(event, RunProgress) for event in events)
