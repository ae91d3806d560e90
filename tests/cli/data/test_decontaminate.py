"""`redraft data decontaminate`: what it takes out, and the report of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from redraft.cli import app

QUESTION = "A train leaves the old station at nine and goes north at sixty miles an hour. When is it there?"


def decontaminate(*args: object, **settings: Any) -> Result:
    return CliRunner().invoke(
        app, ["data", "decontaminate", *map(str, args)], prog_name="redraft", **settings
    )


def written(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    return written(
        tmp_path / "eval.jsonl", [{"id": "q1", "question": QUESTION, "answer": "10"}, {"prompt": "Why so?"}]
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    records = [
        {"id": "clean", "instruction": "Name a train.", "output": "The old one."},
        {"id": "quotes", "instruction": f"Solve this: {QUESTION.lower()}", "output": "At ten."},
        {"id": "asks", "instruction": "why so", "output": "Because."},
    ]
    return written(tmp_path / "in.jsonl", records)


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


def test_any_number_of_workers_writes_the_same(held_out: Path, tmp_path: Path) -> None:
    many = [{"prompt": f"{i}. {QUESTION if i % 9 == 4 else 'Say a number.'}"} for i in range(200)]
    data = written(tmp_path / "in.jsonl", many)
    for workers in (1, 3):
        out, report = tmp_path / f"out{workers}", tmp_path / f"report{workers}"
        args = ["--against", held_out, "-j", workers, "-o", out, "--report", report]
        assert decontaminate(data, *args).exit_code == 0
    assert (tmp_path / "out1").read_bytes() == (tmp_path / "out3").read_bytes()
    assert (tmp_path / "report1").read_bytes() == (tmp_path / "report3").read_bytes()
    assert len(rows((tmp_path / "report1").read_text())) == 22


def test_it_stands_in_a_pipe(data: Path, held_out: Path) -> None:
    command = [sys.executable, "-m", "redraft", "data", "decontaminate", "-", "--against", held_out, "-q"]
    done = subprocess.run(command, input=data.read_bytes(), capture_output=True)
    assert [row["id"].rpartition("/")[2] for row in rows(done.stdout.decode())] == ["clean"]
    assert done.stderr == b""


def test_a_bad_line_of_the_data_is_counted_one_of_the_evaluation_stops(data: Path, held_out: Path) -> None:
    data.write_text("{no\n" + data.read_text())
    assert "unreadable" in decontaminate(data, "--against", held_out).stderr
    assert decontaminate(data, "--against", held_out, "--strict").exit_code == 2
    held_out.write_text(held_out.read_text() + "{no\n")
    result = decontaminate(data, "--against", held_out)
    assert result.exit_code == 2
    assert f"{held_out}:3" in result.stderr


def test_something_to_look_for_is_required(data: Path) -> None:
    result = decontaminate(data)
    assert result.exit_code == 2
    assert "--against" in result.stderr
