"""What a file is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("scipy")

from redraft.chain import Chain
from redraft.errors import RecordError, UsageError
from redraft.evaluation.reports.inputs import opened
from redraft.evaluation.reports.report import describe
from tests.cli.verbs import write
from tests.evaluation.made import answer, review

GRADE = {"question_id": 1, "model": "new", "judgment": "So.", "score": 7}
CHAIN: dict[str, Any] = json.loads(Chain(id="a").to_json())
RECORDS = {"reviews": review(1, "a", "b", (9, 8)), "grades": GRADE, "chains": CHAIN}


@pytest.mark.parametrize("kind", RECORDS)
def test_the_first_record_says_what_a_file_is(tmp_path: Path, kind: str) -> None:
    assert opened(write(tmp_path / "a.jsonl", [RECORDS[kind], {}])).kind == kind
    (tmp_path / "b.json").write_text(json.dumps(RECORDS[kind], indent=1))
    given = opened(tmp_path / "b.json")
    assert (given.kind, len(list(given.records))) == (kind, 1)


@pytest.mark.parametrize("other", ["grades", "chains"])
def test_several_kinds_are_refused_by_name(tmp_path: Path, other: str) -> None:
    files = [write(tmp_path / f"{kind}.jsonl", [RECORDS[kind]]) for kind in ("reviews", other)]
    files.append(write(tmp_path / "more.jsonl", [RECORDS["reviews"]]))
    said = rf"reviews in \S*reviews.jsonl, \S*more.jsonl; {other} in \S*{other}.jsonl"
    with pytest.raises(UsageError, match=said):
        describe(files)


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (answer("new", 1, "x"), "no report can read this record; its fields are answer_id, model_id"),
        ({}, "its fields are none"),
        ("9 8", "the record is '9 8', which no report can read"),
        ({"files": [], "comparisons": []}, "its fields are files, comparisons"),
    ],
)
def test_anything_else_is_named(tmp_path: Path, record: Any, problem: str) -> None:
    with pytest.raises(RecordError, match=f"a.jsonl:1: .*{problem}") as raised:
        opened(write(tmp_path / "a.jsonl", [record]))
    assert raised.value.hint


def test_answers_with_chains_are_refused(tmp_path: Path) -> None:
    chains = write(tmp_path / "chains.jsonl", [CHAIN])
    with pytest.raises(UsageError, match="--answers is for reviews and grades"):
        describe([chains], answers=[chains])
