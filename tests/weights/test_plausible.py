"""The right base of a delta is told from a wrong one by its numbers alone, in every format that is in use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from redraft.errors import ModelError
from redraft.weights import plausible
from redraft.weights.checkpoint import open_checkpoint
from tests.weights.model_files import save

SIZE = 128


def matrix(seed: int, by: float = 0.02) -> torch.Tensor:
    return torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) * by


def insist(folder: Path, base: torch.Tensor, delta: torch.Tensor) -> None:
    save(folder / "base", {"a.weight": base})
    save(folder / "delta", {"a.weight": delta})
    plausible.insist(open_checkpoint(folder / "base"), open_checkpoint(folder / "delta"))


@pytest.mark.parametrize("change", [0.005, 0.1, 1.0])
@pytest.mark.parametrize("delta_in", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("base_in", [torch.float32, torch.float16, torch.bfloat16])
def test_the_right_base_passes_and_a_wrong_one_does_not(
    tmp_path: Path, base_in: torch.dtype, delta_in: torch.dtype, change: float
) -> None:
    base = matrix(1).to(base_in)
    target = (base.float() + matrix(2) * change).to(delta_in)
    delta = (target.float() - base.float()).to(delta_in)
    insist(tmp_path, base, delta)
    with pytest.raises(ModelError, match=r"is not the base of .*% of the sums are exact"):
        insist(tmp_path, matrix(3).to(base_in), delta)


def test_a_delta_of_nothing_says_nothing(tmp_path: Path) -> None:
    insist(tmp_path, matrix(1), torch.zeros(SIZE, SIZE))


def test_sums_that_are_not_finite(tmp_path: Path) -> None:
    delta = matrix(2)
    delta[3, 4] = float("inf")
    with pytest.raises(ModelError, match=r"base \+ delta has NaN or infinite values in 'a.weight'"):
        insist(tmp_path, matrix(1), delta)
