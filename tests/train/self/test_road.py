from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from redraft.chain import read_jsonl
from redraft.chain.read.inputs import licensed_records
from redraft.errors import ModelError, OutputError, RedraftError, UsageError
from redraft.train.self import Judged, lessons, road
from redraft.train.self.road import EVERYDAY as SHIPPED
from redraft.train.self.road import Road, Scale, Start
from redraft.train.self.tasks import TASKS, find_task
from redraft.weights.gguf.reader import read_header
from tests.doc_blocks import blocks_of

ROOT = Path(__file__).resolve().parents[3]
EVERYDAY = ROOT / "src/redraft/data/generate/instructions/seeds.jsonl"

SMALL = Scale(answers=60, drafts=60, held_out=2, answer_steps=3, chain_steps=1)
FEWER = f"import {road.__name__} as road; road.FEWEST_EVERYDAY = 1; from redraft.cli import main; main()"
"""The command with 20 answers to everyday prompts in place of 400, which take twenty minutes."""


@pytest.fixture
def _fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(road, "FEWEST_EVERYDAY", 1)


def test_what_the_default_model_has_learnt_is_rehearsed(tmp_path: Path) -> None:
    start = Start.of("default")
    assert start.answers.is_file()
    assert start.critic.is_file()
    run = Road(tmp_path, [TASKS["add"]], start=start)
    assert [task.name for task in run.rehearsed] == [name for name in TASKS if name != "add"]
    assert list(run.all) == ["add", *(task.name for task in run.rehearsed)]


def test_a_folder_without_both_adapters_is_no_start(tmp_path: Path) -> None:
    (tmp_path / "answers.gguf").touch()
    with pytest.raises(UsageError, match="does not contain both adapters") as caught:
        Start.of(str(tmp_path))
    assert "--from default" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ({"scale": replace(SMALL, answer_steps=0)}, UsageError, "needs an earlier .* none is named"),
        ({"model": "missing.gguf"}, ModelError, "cannot be read: No such file"),
        ({"model": "ollama:qwen3"}, UsageError, "--model must be default or a GGUF file"),
        ({"everyday": Path("missing.jsonl")}, UsageError, "missing.jsonl cannot be read"),
        ({"everyday": Path(os.devnull)}, UsageError, "/dev/null has no prompts"),
    ],
)
def test_what_no_run_can_begin_with_is_refused_before_anything_is_written(
    tmp_path: Path, given: dict[str, Any], kind: type[RedraftError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        Road(tmp_path / "run", [TASKS["dates"]], **given).walk()
    assert not (tmp_path / "run").exists()


def test_everyday_prompts_say_where_they_come_from() -> None:
    origins = [chain.meta["origin"] for chain in licensed_records(SHIPPED)]
    assert Counter(each["dataset"] for each in origins) == {
        "yizhongw/self_instruct": 421,
        "OpenAssistant/oasst1": 99,
    }
    assert {each["licence"] for each in origins} == {"Apache-2.0"}


@pytest.mark.usefixtures("_fewer")
@pytest.mark.slow  # it trains the critic
def test_a_run_goes_on_from_the_default_model(tmp_path: Path) -> None:
    start = Start.of("default")
    scale = replace(SMALL, answers=1, drafts=12, held_out=1, answer_steps=0)
    run = Road(tmp_path, [TASKS["dates"]], EVERYDAY, scale, start=replace(start, learnt=[TASKS["subtract"]]))
    report = run.walk()
    assert (run.folder / "answers.gguf").read_bytes() == start.answers.read_bytes()
    asked = Counter(chain.meta["task"] for chain in read_jsonl(run.folder / "asked.jsonl"))
    assert asked == {"dates": 12, "subtract": 6}
    assert "redraft.certain" in read_header(run.folder / "critic.gguf").metadata
    assert report.count("| subtract |") == 1


@pytest.mark.usefixtures("_fewer")
@pytest.mark.slow  # it trains twice
def test_a_road_stops_and_goes_on_and_its_report_judges_held_out_chains(tmp_path: Path) -> None:
    run = Road(tmp_path / "run", [TASKS["dates"]], EVERYDAY, SMALL, parallel=4)
    scale = [
        word
        for name, value in asdict(run.scale).items()
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]
    words = ["train", "self", str(run.folder), "--task", "dates", "--parallel", "4", *scale]
    command = [sys.executable, "-c", FEWER, *words, "--everyday", str(EVERYDAY)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr
        for line in child.stderr:
            if "steps of" in line:
                child.send_signal(signal.SIGINT)
    assert child.returncode == 130, line
    assert not (run.folder / "drafted.jsonl").exists()
    report = run.walk()
    card = (run.folder / "README.md").read_text()
    assert report in card
    assert "| base | SmolLM2-135M-Instruct" in card
    revised = list(read_jsonl(run.folder / "revised.jsonl"))
    assert len(revised) == 2
    assert all(chain.steps[0].feedback for chain in revised)
    before = {path: path.stat().st_mtime_ns for path in run.folder.glob("*.gguf")}
    assert len(before) == 2
    replace(run, folder=Path(os.path.relpath(run.folder))).walk()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert report.count("| dates |") == 1
    other = Road(run.folder, [TASKS["add"]], EVERYDAY, SMALL)
    with pytest.raises(OutputError, match="tasks"):
        other.walk()


def test_the_task_of_the_docs_is_one(here: Path) -> None:
    [block] = [each for each in blocks_of(ROOT / "docs/self_tasks.md") if each.file]
    (here / str(block.file)).write_text(block.body)
    task = find_task("python:prices.PRICES")
    assert task.judge({"items": "eggs 9, milk 8, tea 4"}, "21") == Judged(
        "9, 9+8=17, 17+4=21, so 21, and the answer says 21: the same.", passed=True
    )
    assert lessons.held_out(task, 3, seed=1)
