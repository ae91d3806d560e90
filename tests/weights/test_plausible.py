"""Values alone distinguish a delta's base from others, in every dtype in use."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch

from redraft.errors import ModelError
from redraft.weights.checkpoint import open_checkpoint
from redraft.weights.vocabulary import check_base
from tests.weights.model_files import save

SIZE = 256

Pair = tuple[torch.Tensor, torch.Tensor]


def matrix(seed: int, by: float = 0.02) -> torch.Tensor:
    return torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) * by


def insist(folder: Path, base: torch.Tensor, delta: torch.Tensor) -> None:
    save(folder / "base", {"a.weight": base})
    save(folder / "delta", {"a.weight": delta})
    check_base(open_checkpoint(folder / "base"), open_checkpoint(folder / "delta"))


F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16
KEPT = list(product((F32, F16, BF16), repeat=3))
"""The dtypes of base, target and delta."""


def made(base_in: torch.dtype, target_in: torch.dtype, delta_in: torch.dtype, change: float) -> Pair:
    base = matrix(1).to(base_in)
    target = (base.float() + matrix(2) * change).to(target_in)
    return base, (target.double() - base.double()).to(delta_in)


@pytest.mark.parametrize("change", [0.005, 0.1, 0.5])
@pytest.mark.parametrize("kept", KEPT, ids=str)
def test_the_right_base_is_never_refused(
    tmp_path: Path, kept: tuple[torch.dtype, ...], change: float
) -> None:
    insist(tmp_path, *made(kept[0], kept[1], kept[2], change))


@pytest.mark.parametrize("change", [0.005, 0.1])
@pytest.mark.parametrize("kept", [kept for kept in KEPT if kept[2] == F32 or F32 not in kept[:2]], ids=str)
def test_a_wrong_base_is_refused_unless_the_delta_was_rounded(
    tmp_path: Path, kept: tuple[torch.dtype, ...], change: float
) -> None:
    _, delta = made(kept[0], kept[1], kept[2], change)
    with pytest.raises(ModelError, match=r"is not the base of .*low bits do not fit"):
        insist(tmp_path, matrix(3).to(kept[0]), delta)


def test_a_whole_model_is_no_delta(tmp_path: Path) -> None:
    for model in (matrix(1), matrix(1) + matrix(2, 0.001), matrix(5)):
        with pytest.raises(ModelError, match=r"is not a delta over .*as large as the weights"):
            insist(tmp_path, matrix(1).half(), model.half())


def test_a_delta_of_nothing_says_nothing(tmp_path: Path) -> None:
    insist(tmp_path, matrix(1), torch.zeros(SIZE, SIZE))


def test_sums_that_are_not_finite(tmp_path: Path) -> None:
    delta = matrix(2)
    delta[3, 4] = float("inf")
    with pytest.raises(ModelError, match=r"base \+ delta has NaN or infinite values in 'a.weight'"):
        insist(tmp_path, matrix(1), delta)
