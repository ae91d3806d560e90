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


def test_what_matches_goes_and_is_kept_with_its_matches(data: Path, held_out: Path, tmp_path: Path) -> None:
    side = tmp_path / "side.jsonl"
    result = decontaminate(data, "--against", held_out, "--dropped", side)
    assert result.exit_code == 0
    assert [row["id"] for row in rows(result.stdout)] == ["in/clean"]
    assert "1 kept, 2 dropped" in result.stderr
    assert f"2 of 2  {held_out}" in result.stderr
    ngram = "a train leaves the old station at nine and goes north at sixty"
    first, second = rows(side.read_text())
    assert (first["id"], first["where"], first["rule"]) == ("in/quotes", f"{data}:2", "contaminated")
    assert first["matches"] == [{"eval": "eval/q1", "file": str(held_out), "ngram": ngram, "count": 8}]
    assert (second["id"], second["matches"][0]["ngram"]) == ("in/asks", "why so")


def test_a_bad_line_of_the_evaluation_stops_it(data: Path, held_out: Path) -> None:
    held_out.write_text(held_out.read_text() + "{no\n")
    result = decontaminate(data, "--against", held_out)
    assert (result.exit_code, f"{held_out}:3" in result.stderr) == (2, True)
