from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import Result

from tests.cli.verbs import redraft, refused, write

RECORDS = [
    {"id": "a", "instruction": "Write a poem about the rain in spring.", "output": "Drip."},
    {"id": "b", "instruction": "Name three rivers of France.", "output": "Loire, Rhône, Seine."},
    {"id": "c", "instruction": "write a poem  about the rain in SPRING.", "output": "Drip, drop, drip."},
    {"id": "d", "instruction": "Write a poem about the snow in spring.", "output": "Flake."},
]


def dedupe(*args: object) -> Result:
    return redraft("data", "dedupe", *args)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "in.jsonl", RECORDS)


@pytest.mark.parametrize(
    ("args", "kept"),
    [
        (["--by", "exact"], ["in/a", "in/b", "in/c", "in/d"]),
        (["--by", "query"], ["in/b", "in/c", "in/d"]),
        (["--by", "rouge", "--threshold", "0.9"], ["in/b", "in/c", "in/d"]),
    ],
)
def test_each_way_keeps_its_own(data: Path, args: list[str], kept: list[str]) -> None:
    result = dedupe(data, *args)
    assert result.exit_code == 0
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == kept
    assert f"{len(kept)} kept, {4 - len(kept)} dropped" in result.stderr


def test_a_flag_that_would_do_nothing_is_refused(data: Path) -> None:
    refused(dedupe(data, "--by", "exact", "--threshold", "0.5"), "--threshold does nothing with --by exact")
