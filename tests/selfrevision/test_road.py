"""The whole road, on the default model."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from redraft.chain import read_jsonl
from redraft.errors import OutputError
from redraft.selfrevision import Judged, lessons
from redraft.selfrevision.road import Road, Scale
from redraft.selfrevision.tasks import TASKS, find_task
from tests.doc_blocks import blocks_of

ROOT = Path(__file__).resolve().parents[2]

SMALL = Scale(answers=60, drafts=60, held_out=2, answer_steps=3, chain_steps=1)


def stop_while_training(road: Road) -> None:
    """Walk the road as a command, and press Ctrl-C when it begins to train."""
    scale = [
        word
        for name, value in asdict(road.scale).items()
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]
    words = ["train", "self", str(road.folder), "--task", "count", "--parallel", "4", *scale]
    command = [sys.executable, "-m", "redraft", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr
        for line in child.stderr:
            if "steps of" in line:
                child.send_signal(signal.SIGINT)
    assert child.returncode == 130, line


@pytest.mark.slow  # it trains twice
def test_a_road_stops_and_goes_on_and_its_report_judges_held_out_chains(tmp_path: Path) -> None:
    road = Road(tmp_path / "run", [TASKS["count"]], scale=SMALL, parallel=4)
    stop_while_training(road)
    assert not road.path("drafted.jsonl").exists()
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
    [block] = [each for each in blocks_of(ROOT / "docs/self.md") if each.file]
    (tmp_path / str(block.file)).write_text(block.body)
    monkeypatch.chdir(tmp_path)
    task = find_task("python:products.PRODUCTS")
    assert task.judge({"a": 47, "b": 36}, "1692") == Judged(
        "47*30=1410, 47*6=282, 1410+282=1692, so 1692, and the answer says 1692: the same.", passed=True
    )
    assert lessons.held_out(task, 3, seed=1)
