"""`redraft data decontaminate`: what it takes out, and the report of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from tests.cli.verbs import redraft, write

QUESTION = "A train leaves the old station at nine and goes north at sixty miles an hour. When is it there?"


def decontaminate(*args: object) -> Result:
    return redraft("data", "decontaminate", *args)


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    return write(
        tmp_path / "eval.jsonl", [{"id": "q1", "question": QUESTION, "answer": "10"}, {"prompt": "Why so?"}]
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    records = [
        {"id": "clean", "instruction": "Name a train.", "output": "The old one."},
        {"id": "quotes", "instruction": f"Solve this: {QUESTION.lower()}", "output": "At ten."},
        {"id": "asks", "instruction": "why so", "output": "Because."},
    ]
    return write(tmp_path / "in.jsonl", records)


def test_what_matches_goes_and_is_reported(data: Path, held_out: Path, tmp_path: Path) -> None:
    report, side = tmp_path / "report.jsonl", tmp_path / "side.jsonl"
    result = decontaminate(data, "--against", held_out, "--report", report, "--dropped", side)
    assert result.exit_code == 0
    assert [row["id"] for row in rows(result.stdout)] == ["in/clean"]
    assert "1 kept, 2 dropped" in result.stderr
    assert f"2 of 2  {held_out}" in result.stderr
    ngram = "a train leaves the old station at nine and goes north at sixty"
    assert rows(report.read_text())[0] == {
        "id": "in/quotes",
        "where": f"{data}:2",
        "eval": "eval/q1",
        "file": str(held_out),
        "ngram": ngram,
        "count": 8,
    }
    assert [(row["id"], row["eval"]) for row in rows(report.read_text())] == [
        ("in/quotes", "eval/q1"),
        ("in/asks", "eval/1"),
    ]
    assert [(row["rule"], row["matches"][0]["ngram"]) for row in rows(side.read_text())] == [
        ("contaminated", ngram),
        ("contaminated", "why so"),
    ]


def test_a_bad_line_of_the_evaluation_stops_it(data: Path, held_out: Path) -> None:
    held_out.write_text(held_out.read_text() + "{no\n")
    result = decontaminate(data, "--against", held_out)
    assert (result.exit_code, f"{held_out}:3" in result.stderr) == (2, True)
