"""What a run kept out of its output is counted from the files beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from redraft.chain import Chain, Prompt, Step, write_jsonl
from redraft.collect.report.findings import findings
from redraft.collect.report.stats import DataReport, describe
from redraft.errors import EmptyReply, RecordError
from redraft.jobs.ledger import Ledger
from redraft.jobs.provenance import Provenance

CHAIN = Chain(id="a/1", prompt=Prompt(instruction="Hi"), steps=(Step(answer="Ho"),), best=0)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A run of four records: one is done, two failed, one of them twice, and one was dropped."""
    path = tmp_path / "out.jsonl"
    with Ledger(path, Provenance("generate chains")) as ledger:
        ledger.append("a/1", CHAIN.to_json())
        ledger.fail("a/2", EmptyReply("a/2: no text."))
        ledger.fail("a/2", RecordError("a/2 has no gold answer."))
        ledger.fail("a/3", RecordError("a/3 has no gold answer."))
    write_jsonl(tmp_path / "out.jsonl.leaks.jsonl", [CHAIN.model_copy(update={"id": "a/4"})])
    return path


def described(*paths: Path) -> DataReport:
    return describe(paths, len)


def test_failures_are_counted_by_cause_and_dropped_chains_beside_them(out: Path) -> None:
    report = described(out)
    assert report.totals()["records"] == 1
    assert report.kinds()["failures"] == [("bad prompt", 2)]
    said = {each.name: each for each in findings(report)}
    assert said["failed"].text == "2 records failed when the chains were made: bad prompt (2)."
    assert said["failed"].examples[0] == "bad prompt: a/2 has no gold answer."
    assert said["dropped"].text == "1 chain dropped because of a quote of the gold answer."
    assert report.examples["leaking"].chain.id == "a/4"


def test_without_such_files_nothing_is_said(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [CHAIN])
    report = described(tmp_path / "a.jsonl")
    assert "failures" not in report.kinds()
    assert not {"failed", "dropped"} & {each.name for each in findings(report)}


def test_lines_of_other_programs_are_passed_over(out: Path) -> None:
    lines = ['{"id": 1, "error": "x"}', "[]", "{torn", '{"id": "b", "error": null}']
    out.with_name("out.jsonl.errors.jsonl").write_text("\n".join(lines))
    out.with_name("out.jsonl.leaks.jsonl").write_text(json.dumps({"steps": 3}) + "\n[]\n")
    report = described(out)
    assert "failures" not in report.kinds()
    assert "leaking" not in report.examples
