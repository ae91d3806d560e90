"""The benchmarks of training: their material, their rows on little data, and on a GPU. Nothing is timed."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode


def test_records_have_the_mix_of_lengths_that_selfee_has(
    bench: Any, shared_data: Path, tmp_path: Path
) -> None:
    chains, path = bench.train_material.Chains(shared_data), tmp_path / "chains.jsonl"
    bench.train_material.write_chains(path, chains, 3000)
    made = [json.loads(line) for line in path.read_bytes().splitlines()]
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


@pytest.fixture
def gpu(bench: Any) -> Any:
    return bench.train_gpu


# Dynamo looks for the gradients of tensors that have none, and hides what torch says of it only by default.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_all_ways_of_a_tiny_model_run(gpu: Any) -> None:
    (shape,), cpu = gpu.SMALL, torch.device("cpu")
    lines = [gpu.line(shape, way, gpu.tried(shape, way, cpu, 1), 1e12) for way in gpu.WAYS]
    assert [each.split(" | ")[1] for each in lines] == ["bf16", "bf16, compiled"]
    assert all("%" in each and each.endswith(" kept |") for each in lines)
    result = gpu.measure(shape, gpu.Way("bf16"), cpu, steps=1, recompute=True)
    assert "recomputed" in gpu.line(shape, gpu.Way("bf16"), result, None)
    assert "does not fit" in gpu.line(shape, gpu.Way("bf16"), None, None)


def test_work_is_what_torch_counts_of_matrices_and_that_of_attention(gpu: Any) -> None:
    (shape,), cpu = gpu.SMALL, torch.device("cpu")
    (batch, work), *_ = gpu.batches(shape, 1)
    model = gpu.made(shape, gpu.Way("bf16"), cpu, recompute=False)
    with FlopCounterMode(display=False) as counter:
        model(**batch).loss.backward()
    matrices = sum(flops for kind, flops in counter.get_flop_counts()["Global"].items() if "mm" in str(kind))
    examples = torch.diff(torch.nonzero(batch["position_ids"][0] == 0).flatten(), append=torch.tensor([256]))
    assert work == matrices + 12 * shape.layers * shape.width * int((examples * (examples + 1) // 2).sum())
