"""`redraft run`: stages are done once, resumed, and done again where what they read has changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from redraft.systems.recipe import read_system
from redraft.systems.run import Run

RECIPE = """
values: {model: script:replies.jsonl}
files: {questions: questions.jsonl}
stages:
  shared:
    verb: data export
    out: alpaca.json
    options: {source: "{answers}", to: alpaca, quiet: true}
  answers:
    verb: answer
    out: answers.jsonl
    options: {source: "{questions}", model: "{model}", max_revisions: 0, parallel: 1, quiet: true}
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("replies.jsonl").write_text('"It falls."\n"It blows."\n')
    Path("questions.jsonl").write_text('{"prompt": "Rain?"}\n{"prompt": "Wind?"}\n')
    path = tmp_path / "plain.yaml"
    path.write_text(RECIPE)
    return path


def done(recipe: Path, **how: str) -> list[str]:
    """Run a recipe, and return what it says of the stages."""
    said: list[str] = []
    Run(read_system(str(recipe)), Path("made"), **how, tell=said.append).run()
    return said


def test_stages_are_done_in_order_once_and_again_if_what_they_read_has_changed(recipe: Path) -> None:
    assert [line.split()[:2] for line in done(recipe)] == [["answers:", "make:"], ["shared:", "make:"]]
    assert [each["output"] for each in json.loads(Path("made/alpaca.json").read_text())] == [
        "It falls.",
        "It blows.",
    ]
    assert all("done" in line for line in done(recipe))
    Path("questions.jsonl").write_text('{"prompt": "Rain?"}\n')
    first, second = done(recipe)
    assert "answers: make again (the content of questions was" in first
    assert "shared: make again (the content of answers was" in second
    assert len(json.loads(Path("made/alpaca.json").read_text())) == 1
    assert Path("made/before/answers-1/answers.jsonl").exists()
