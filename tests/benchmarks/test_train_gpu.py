"""The benchmark of training on a GPU, on a CPU: that its code runs, and what it counts."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode


@pytest.fixture
def gpu(bench: Any) -> Any:
    return bench.train_gpu


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_ends_well(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train_gpu.py"])
    assert gpu.main() == 0
    assert capsys.readouterr().out.startswith("There is no GPU here, so nothing is measured.")


# Dynamo looks for the gradients of tensors that have none, and hides what torch says of it only by default.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_all_ways_of_a_tiny_model_run(gpu: Any) -> None:
    (shape,), cpu = gpu.SMALL, torch.device("cpu")
    lines = [gpu.line(shape, way, gpu.tried(shape, way, cpu, 1), 1e12) for way in gpu.ways(cpu)]
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
    counted = counter.get_flop_counts()["Global"]
    matrices = sum(flops for kind, flops in counted.items() if "mm" in str(kind))
    examples = torch.diff(torch.nonzero(batch["position_ids"][0] == 0).flatten(), append=torch.tensor([256]))
    pairs = int((examples * (examples + 1) // 2).sum())
    assert work == matrices + 12 * shape.layers * shape.width * pairs
