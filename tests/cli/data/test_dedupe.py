"""`redraft data dedupe`: files and pipes in, chains out, and why the others went."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from tests.cli.verbs import redraft, write

RECORDS = [
    {"id": "a", "instruction": "Write a poem about the rain in spring.", "output": "Drip."},
    {"id": "b", "instruction": "Name three rivers of France.", "output": "Loire, Rhône, Seine."},
    {"id": "c", "instruction": "write a poem  about the rain in SPRING.", "output": "Drip, drop, drip."},
    {"id": "d", "instruction": "Write a poem about the snow in spring.", "output": "Flake."},
]


def dedupe(*args: object) -> Result:
    return redraft("data", "dedupe", *args)


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "in.jsonl", RECORDS)


@pytest.mark.parametrize(
    ("args", "kept"),
    [
        (["--by", "exact"], ["in/a", "in/b", "in/c", "in/d"]),
        (["--by", "query"], ["in/b", "in/c", "in/d"]),
        (["--by", "query", "--keep", "first"], ["in/a", "in/b", "in/d"]),
        (["--by", "rouge", "--threshold", "0.9"], ["in/b", "in/c", "in/d"]),
    ],
)
def test_each_way_keeps_its_own(data: Path, args: list[str], kept: list[str]) -> None:
    result = dedupe(data, *args)
    assert result.exit_code == 0
    assert [row["id"] for row in rows(result.stdout)] == kept
    assert f"{len(kept)} kept, {4 - len(kept)} dropped" in result.stderr


def test_the_side_file_names_the_kept_one_and_the_similarity(data: Path, tmp_path: Path) -> None:
    side = tmp_path / "side.jsonl"
    assert dedupe(data, "--by", "rouge", "--dropped", side, "-o", tmp_path / "out.jsonl").exit_code == 0
    gone = {row["id"]: row for row in rows(side.read_text())}
    assert {name: (row["rule"], row["kept"], row["similarity"]) for name, row in gone.items()} == {
        "in/a": ("rouge", "in/c", 1.0),
        "in/d": ("rouge", "in/c", 0.875),
    }
    assert gone["in/d"]["where"] == f"{data}:4"
    assert gone["in/d"]["record"]["prompt"]["instruction"] == RECORDS[3]["instruction"]


@pytest.mark.parametrize(
    "flags",
    [
        ["--by", "exact", "--threshold", "0.5"],
    ],
)
def test_a_flag_that_would_do_nothing_is_refused(data: Path, flags: list[str]) -> None:
    result = dedupe(data, *flags)
    assert result.exit_code == 2
    assert f"{flags[2]} does nothing with --by {flags[1]}" in result.stderr
