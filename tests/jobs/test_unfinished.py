"""Work that was cut is kept aside; tests/cli/test_go_on.py has the kills and the damage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from redraft.jobs import unfinished
from redraft.jobs.provenance import Provenance
from redraft.jobs.unfinished import Unfinished


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_file_is_written_again_before_it_grows_large(monkeypatch: pytest.MonkeyPatch) -> None:
    provenance = Provenance("answer")
    monkeypatch.setattr(unfinished, "TIDIED_AT", 2000)
    done: set[str] = set()
    with Unfinished(Path("out.jsonl"), provenance, done) as kept:
        for number in range(100):
            kept.keep(str(number), json.dumps("x" * 100))
            done.add(str(number - 1))
            assert Path("out.jsonl.unfinished.jsonl").stat().st_size < 3000
        assert kept.get("99") == "x" * 100
    assert Unfinished(Path("out.jsonl"), provenance, done).get("99") == "x" * 100
    assert Unfinished(Path("out.jsonl"), Provenance("ask"), done).get("99") is None


def test_a_disk_that_is_full_only_ends_the_keeping() -> None:
    with Unfinished(Path("gone/out.jsonl"), Provenance("answer"), set()) as kept:
        kept.keep("1", "[]")
        assert kept.get("1") is None
