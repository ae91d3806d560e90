"""What the benchmarks of training are measured on, and their rows on little data. Nothing here is timed."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest


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


@pytest.mark.model
@pytest.mark.usefixtures("default_model")
@pytest.mark.parametrize("row", ["memory", "prepare"])
def test_a_row_is_measured_and_leaves_nothing(
    bench: Any, row: str, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDRAFT_SHARED", str(shared_data.parent))
    arguments = ["--quick", "--only", row, "--work", str(tmp_path)]
    status = bench.report.main("", "", bench.train.ROWS, room="", arguments=arguments)
    # Tests are not timed, and what small rows take is mostly Python itself.
    assert status in (0, 1)
    assert list(tmp_path.iterdir()) == []
