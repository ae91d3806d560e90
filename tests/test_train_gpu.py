"""The benchmark of training on a GPU, on a CPU: that its code runs, and what it counts."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.conftest import ROOT

SCRIPT = ROOT / "benchmarks" / "train_gpu.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_gpu", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_gpu"] = module  # where dataclasses look for their module
    spec.loader.exec_module(module)
    del sys.modules["train_gpu"]
    return module


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_ends_well(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT)])
    assert bench.main() == 0
    assert capsys.readouterr().out.startswith("There is no GPU here, so nothing is measured.")


# Dynamo looks for the gradients of tensors that have none, and hides what torch says of it only by default.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_all_ways_of_a_tiny_model_run(bench: ModuleType) -> None:
    (shape,), cpu = bench.SMALL, torch.device("cpu")
    lines = [bench.line(shape, way, bench.tried(shape, way, cpu, 1), 1e12) for way in bench.ways(cpu)]
    assert [each.split(" | ")[1] for each in lines] == ["bf16", "bf16, compiled"]
    assert all("%" in each and each.endswith(" kept |") for each in lines)
    result = bench.measure(shape, bench.Way("bf16"), cpu, steps=1, recompute=True)
    assert "recomputed" in bench.line(shape, bench.Way("bf16"), result, None)
    assert "does not fit" in bench.line(shape, bench.Way("bf16"), None, None)


def test_work_is_what_torch_counts_of_matrices_and_that_of_attention(bench: ModuleType) -> None:
    (shape,), cpu = bench.SMALL, torch.device("cpu")
    (batch, work), *_ = bench.batches(shape, 1)
    model = bench.made(shape, bench.Way("bf16"), cpu, recompute=False)
    with FlopCounterMode(display=False) as counter:
        model(**batch).loss.backward()
    counted = counter.get_flop_counts()["Global"]
    matrices = sum(flops for kind, flops in counted.items() if "mm" in str(kind))
    examples = torch.diff(torch.nonzero(batch["position_ids"][0] == 0).flatten(), append=torch.tensor([256]))
    pairs = int((examples * (examples + 1) // 2).sum())
    assert work == matrices + 12 * shape.layers * shape.width * pairs


def test_rows_are_full(bench: ModuleType) -> None:
    for batch, _ in bench.batches(bench.SMALL[0], 3):
        assert batch["input_ids"].shape == (1, 256)


@pytest.mark.parametrize(
    ("name", "flops"),
    [
        ("NVIDIA H200", 989.4e12),
        ("NVIDIA H100 80GB HBM3", 989.4e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L40", None),
        ("NVIDIA GeForce RTX 4090", 165.2e12),
    ],
)
def test_the_peak_of_a_device(bench: ModuleType, name: str, flops: float | None) -> None:
    assert bench.peak(name) == flops
