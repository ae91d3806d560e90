"""What the benchmarks of training are measured on, and their rows on little data. Nothing here is timed."""

from __future__ import annotations

import importlib
import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from redraft.formats.read.records import read_records

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
MODULES = ("train", "train_material", "train_exact")


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """The modules by name, and none of that folder in the interpreter afterwards."""
    before = set(sys.modules)
    sys.path.insert(0, str(FOLDER))
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    sys.path.remove(str(FOLDER))
    for name in set(sys.modules) - before:
        if (FOLDER / f"{name}.py").is_file():
            del sys.modules[name]


def test_records_have_the_mix_of_lengths_that_selfee_has(
    bench: Any, shared_data: Path, tmp_path: Path
) -> None:
    chains, path = bench.train_material.Chains(shared_data), tmp_path / "chains.jsonl"
    bench.train_material.write_chains(path, chains, 3000)
    lines = path.read_bytes().splitlines()
    made = [json.loads(line) for line in lines]
    counts = {kind.name: kind.records for kind in bench.train_material.KINDS}
    for name, count in counts.items():
        share = sum(each["dataset"] == name for each in made) / len(made)
        assert share == pytest.approx(count / sum(counts.values()), abs=0.03)
    released = [
        json.loads(line)
        for name in ("conala", "mbpp")
        for line in (shared_data / "selfee" / "chains" / f"{name}.jsonl").read_text("utf-8").splitlines()
    ]

    def steps(records: list[Any]) -> float:
        return statistics.mean(len(each["outputs"]) for each in records)

    def words(records: list[Any]) -> float:
        found = [step.get("feedback", "") for each in records for step in each["outputs"]]
        return statistics.mean(len(text.split()) for text in found)

    assert steps(made) == pytest.approx(steps(released), rel=0.05)
    assert words(made) == pytest.approx(words(released), rel=0.15)


def test_the_same_records_are_made_again_and_can_be_read(
    bench: Any, shared_data: Path, tmp_path: Path
) -> None:
    path = tmp_path / "chains.jsonl"
    for _ in range(2):
        size = bench.train_material.write_chains(path, bench.train_material.Chains(shared_data), 20)
        assert size == path.stat().st_size
    made = bench.train_material.Chains(shared_data)
    assert [json.loads(line) for line in path.read_bytes().splitlines()] == [made.make(n) for n in range(20)]
    assert all(chain.answer and chain.steps[-1].feedback for chain in read_records(path))


def test_rows_of_training_are_those_of_the_promise(bench: Any) -> None:
    assert list(bench.train.ROWS) == ["speed", "memory", "packed", "resumed", "prepare", "estimate"]


def test_without_the_shared_data_nothing_is_measured(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDRAFT_SHARED", str(tmp_path))
    rows = [word for name in ("speed", "packed", "resumed", "prepare") for word in ("--only", name)]
    assert bench.train.main(["--quick", *rows]) == 1
    assert capsys.readouterr().out.count("the shared data is not here") == 4


def test_losses_are_those_of_lines_that_are_whole(bench: Any, tmp_path: Path) -> None:
    assert bench.train_exact.losses(tmp_path) == []
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "lo')
    assert bench.train_exact.losses(tmp_path) == [2.5]


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.usefixtures("default_model")
@pytest.mark.parametrize("row", ["speed", "memory", "packed", "resumed", "prepare", "estimate"])
def test_a_row_is_measured_and_leaves_nothing(
    bench: Any, row: str, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDRAFT_SHARED", str(shared_data.parent))
    status = bench.train.main(["--quick", "--only", row, "--work", str(tmp_path)])
    # Tests are not timed, and what small rows take is mostly Python itself.
    assert status in ((0,) if row in {"packed", "resumed"} else (0, 1))
    assert list(tmp_path.iterdir()) == []
