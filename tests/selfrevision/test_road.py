"""The whole road, on the default model."""

from __future__ import annotations

from pathlib import Path

import pytest

from redraft.chain import read_jsonl
from redraft.errors import OutputError
from redraft.selfrevision import Judged, lessons
from redraft.selfrevision.road import Road, Scale
from redraft.selfrevision.tasks import TASKS, find_task
from tests.doc_blocks import blocks_of

ROOT = Path(__file__).resolve().parents[2]

SMALL = Scale(answers=60, drafts=60, held_out=2, answer_steps=1, chain_steps=1)


@pytest.mark.slow  # it trains twice
def test_a_road_is_walked_once_and_its_report_judges_held_out_chains(tmp_path: Path) -> None:
    road = Road(tmp_path / "run", [TASKS["count"]], scale=SMALL, parallel=4)
    road.walk()
    revised = list(read_jsonl(road.path("revised.jsonl")))
    assert len(revised) == 2
    assert all(chain.steps[0].feedback for chain in revised)
    before = {path: path.stat().st_mtime_ns for path in road.folder.glob("*.gguf")}
    assert len(before) == 2
    road.walk()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert road.trial.report().count("| count |") == 2
    other = Road(road.folder, [TASKS["add"]], scale=SMALL)
    with pytest.raises(OutputError, match="tasks"):
        other.walk()


def test_the_task_of_the_docs_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [block] = [each for each in blocks_of(ROOT / "docs/self.md") if "file" in each.directives]
    (tmp_path / block.directives["file"]).write_text(block.body)
    monkeypatch.chdir(tmp_path)
    task = find_task("python:products.PRODUCTS")
    assert task.judge({"a": 47, "b": 36}, "1692") == Judged(
        "47*30=1410, 47*6=282, 1410+282=1692, so 1692, and the answer says 1692: the same.", passed=True
    )
    assert lessons.held_out(task, 3, seed=1)
