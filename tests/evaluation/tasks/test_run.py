"""`redraft.evaluate_file`: what the command does, as a function."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import redraft
from redraft.cli import app
from redraft.errors import UsageError

OPTIONS: Any = {"model": "script:replies.jsonl", "max_revisions": 0, "parallel": 1, "quiet": True}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    records = [{"question": f"What is {n} + 1?", "answer": f"#### {n + 1}"} for n in (1, 2)]
    Path("test.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    Path("replies.jsonl").write_text('"Answer: 2"\n"Answer: 7"\n')


def test_the_function_scores_and_the_command_goes_on_with_its_file() -> None:
    result = redraft.evaluate_file("gsm8k", "test.jsonl", "out.jsonl", limit=1, **OPTIONS)
    assert (result.path, result.added, result.exit_status) == (Path("out.jsonl"), 1, 0)
    tally: Any = result.summary
    assert (tally.score.rate.value, tally.wrong) == (1, [])
    words = "eval gsm8k test.jsonl -o out.jsonl -m script:replies.jsonl --max-revisions 0 -j 1"
    assert "answers    2 in out.jsonl, 1 of them from before" in CliRunner().invoke(app, words.split()).output


def test_the_async_twin_and_guiding() -> None:
    async def twin() -> Any:
        how = {**OPTIONS, "max_revisions": 1, "guided": True}
        return await redraft.aevaluate_file("gsm8k", "test.jsonl", "out.jsonl", **how)

    Path("replies.jsonl").write_text('"Answer: 2"\n"Answer: 7"\n"Answer: 3"\n')
    tally = asyncio.run(twin()).summary
    assert (tally.score.rate.value, tally.beside["first answers"].rate.value) == (1, 0.5)


@pytest.mark.parametrize(
    ("task", "options", "said"),
    [("sums", {}, "there is no task"), ("mbpp", {}, "runs programs"), ("gsm8k", {"colour": 1}, "colour")],
)
def test_what_does_not_fit_is_refused(task: str, options: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        redraft.evaluate_file(task, "test.jsonl", "out.jsonl", **{**OPTIONS, **options})
    assert not Path("out.jsonl").exists()
