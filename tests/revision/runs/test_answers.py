"""`redraft.answer_file`: what the command does, as a function."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import redraft
from redraft.errors import OutputError, RecordError, UsageError
from redraft.jobs.harness import RunEvent, RunProgress
from redraft.jobs.progress import RunMessage
from redraft.jobs.provenance import RunFile
from redraft.revision.runs.answers import AnswerRun, FileResult
from redraft.revision.runs.options import AnswerOptions
from redraft.revision.settings import Settings
from tests.cli import verbs

MODEL = "script:replies.jsonl"
OPTIONS: Any = {"model": MODEL, "max_revisions": 0, "check": ["words<=2"], "seed": 7}


@pytest.fixture(autouse=True)
def _replies(here: Path) -> None:
    replies = "".join(json.dumps({"text": text}) + "\n" for text in ("Rain.", "Far too many words.", "Sun."))
    Path("replies.jsonl").write_text(replies, encoding="utf-8")
    Path("prompts.txt").write_text("What falls?\nWhat else?\nWhat shines?\n", encoding="utf-8")


def answered(source: str = "prompts.txt", **more: Any) -> FileResult:
    return redraft.answer_file(source, "out.jsonl", **{"parallel": 1, **OPTIONS, **more})


def test_the_result_says_what_was_made() -> None:
    result = answered(quiet=True)
    assert (result.path, result.added, result.found, result.failed) == (Path("out.jsonl"), 3, 0, 0)
    assert (result.summary.passed, result.exit_status, result.limit) == (2, 1, "")
    assert result.usage.completion_tokens == result.job.spent.tokens > 0
    answers = [chain.answer for chain in redraft.read_jsonl("out.jsonl")]
    assert answers == ["Rain.", "Far too many words.", "Sun."]
    assert str(result).startswith("answers    3 in out.jsonl\n")


def test_the_async_twin_makes_the_same() -> None:
    result = answered(quiet=True)
    twin = asyncio.run(redraft.aanswer_file("prompts.txt", "twin.jsonl", parallel=1, quiet=True, **OPTIONS))
    assert twin.usage.completion_tokens == result.usage.completion_tokens
    made = [
        [(chain.id, chain.answer) for chain in redraft.read_jsonl(name)]
        for name in ("out.jsonl", "twin.jsonl")
    ]
    assert made[0] == made[1]


def test_it_runs_where_a_loop_runs_already() -> None:
    async def cell() -> FileResult:
        return answered(quiet=True)

    assert asyncio.run(cell()).added == 3


def test_function_and_command_resume_each_other() -> None:
    command = ["answer", "prompts.txt", "-o", "out.jsonl", "-m", MODEL, "-j", "1", "--max-revisions", "0"]
    command += ["--check", "words<=2", "--seed", "7"]
    assert answered(quiet=True, limit=1).added == 1
    told = verbs.redraft(*command)
    assert (told.exit_code, told.stderr) == (1, "")
    assert "3 in out.jsonl, 1 of them from earlier runs" in told.stdout
    assert " s in this run, " in told.stdout
    assert " in prompts, over all runs" in told.stdout
    again = answered(quiet=True)
    assert (again.added, again.found) == (0, 3)
    with pytest.raises(OutputError, match="seed was 7 and is 8"):
        answered(quiet=True, seed=8)


def test_the_default_model_is_recorded_by_name_and_earlier_files_resume() -> None:
    made = AnswerRun.of(Settings.read(AnswerOptions, {}), "prompts.txt", "out.jsonl").provenance()
    assert made.config["model"] == "default"
    record = RunFile(Path("out.jsonl"))
    record.begin(replace(made, config={**made.config, "model": None}), resume=False)
    record.check(made)


async def _later(_event: object) -> None: ...


def test_progress_and_messages_are_events(capsys: pytest.CaptureFixture[str]) -> None:
    events: list[RunEvent] = []
    result = answered(on_event=events.append, limit_tokens=1)
    assert result.exit_status == 4
    assert "the limit of 1 token is reached" in result.limit
    steps = [event for event in events if isinstance(event, RunProgress)]
    assert (steps[-1].done, steps[-1].total, steps[-1].failed) == (1, 3, 0)
    assert steps[-1].tokens == result.job.spent.tokens
    assert [event.text for event in events if isinstance(event, RunMessage)] == [
        f"{result.limit}: 1 of 3 done; run the same command again to resume."
    ]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"checks": []}, "there is no option 'checks'"),
        ({"parallel": 0}, "parallel is 0"),
        ({"on_event": 3}, "on_event is 3"),
        ({"on_event": _later}, "on_event is "),
        ({"recipe": 5}, "recipe is 5"),
        ({"model": 5}, "model is 5"),
        ({"limit_usd": 1.0}, "a limit of 1.0 USD needs the price"),
        ({"cache": "prompts.txt"}, "prompts.txt cannot be the cache"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_made(options: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        answered(**options)
    assert not Path("out.jsonl").exists()


def with_checks(*lists: Any, **options: Any) -> FileResult:
    records = ({"prompt": "What?"} | ({} if own is None else {"checks": own}) for own in lists)
    Path("prompts.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return answered("prompts.jsonl", **options)


def test_a_field_that_was_meant_for_checks_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    Path("prompts.jsonl").write_text('{"prompt": "What?", "check": ["words<=2"]}\n' * 2, encoding="utf-8")
    answered("prompts.jsonl")
    assert capsys.readouterr().err.count("the field 'check' is not read. Did you mean 'checks'?") == 1


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"check": []}, [["lacks:sun"], [], ["contains:rain", "words<=4"]]),
        ({}, [["words<=2", "lacks:sun"], ["words<=2"], ["words<=2", "contains:rain", "words<=4"]]),
    ],
)
def test_the_checks_of_a_record_judge_its_answer_beside_those_of_the_run(
    options: Any, names: list[Any]
) -> None:
    for before in (0, 3):
        result = with_checks(["lacks:sun"], None, ["contains:rain", "words<=4"], quiet=True, **options)
        made = [[each.name for each in chain.steps[0].checks] for chain in redraft.read_jsonl("out.jsonl")]
        assert made == names
        assert (result.found, result.summary.checked) == (before, sum(map(bool, names)))
        assert (result.summary.passed, result.exit_status) == (1, 1)


def test_the_checks_of_records_alone_are_enough_for_a_way_that_needs_some() -> None:
    result = with_checks(["words<=1"], ["words<=4"], quiet=True, check=[], mode="verified")
    assert (result.summary.passed, result.exit_status) == (2, 0)


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (["word<=2"], "prompts/1: no check is called 'word'"),
        ([3], "prompts/1: `checks` should be a list of texts, not"),
    ],
)
def test_a_wrong_check_of_any_record_is_said_before_anything_is_made(own: Any, said: str) -> None:
    with pytest.raises(RecordError, match=said):
        with_checks(["words<=2"], own)
    assert not Path("out.jsonl").exists()
