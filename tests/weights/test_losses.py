"""Losses by rounding: counted as by torch, and reported."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from redraft.weights.header import FLOATS, torch_dtype
from redraft.weights.losses import Losses, not_finite


@pytest.mark.parametrize("dtype", sorted(FLOATS))
@given(raw=st.binary(min_size=8, max_size=64))
def test_bits_are_told_apart_as_torch_does(dtype: str, raw: bytes) -> None:
    values = torch.tensor(list(raw[: len(raw) // 8 * 8]), dtype=torch.uint8).view(torch_dtype(dtype))
    wide = values.float() if values.itemsize < 8 else values
    assert not_finite(values) == (int(wide.isnan().sum()), int(wide.isinf().sum()))


@pytest.mark.parametrize("dtype", sorted(FLOATS))
def test_the_borders_between_numbers_and_what_is_none(dtype: str) -> None:
    largest = torch.finfo(torch_dtype(dtype)).max
    odd = torch.tensor([largest, -largest, float("nan"), 0.0], dtype=torch.float64)
    assert not_finite(odd.to(torch_dtype(dtype))) == (1, 0)
    both = torch.tensor([float("inf"), float("-inf"), largest], dtype=torch.float64)
    assert not_finite(both.to(torch_dtype(dtype))) == (0, 2)


def test_what_is_no_number_with_a_fraction_is_finite() -> None:
    assert not_finite(torch.tensor([2**31 - 1, -1], dtype=torch.int32)) == (0, 0)
    assert not_finite(torch.empty(0)) == (0, 0)


WIDE = [1e30, -1e30, 1e-30, 0.0, 1.0, float("nan"), float("inf")]


def test_losses_of_each_kind() -> None:
    losses, wide = Losses(), torch.tensor(WIDE)
    losses.count("a", wide, wide.half())
    losses.count("a", wide, wide.half())
    losses.count("b", wide[3:5], wide[3:5].half())
    assert losses == Losses(odd={"a": 4}, infinite={"a": 4}, zero={"a": 2})


@given(st.lists(st.floats(width=32), min_size=1), st.sampled_from([torch.float16, torch.bfloat16]))
def test_losses_are_what_torch_finds(numbers: list[float], dtype: torch.dtype) -> None:
    losses, wide = Losses(), torch.tensor(numbers, dtype=torch.float32)
    rounded = wide.to(dtype)
    losses.count("a", wide, rounded)
    assert losses.odd.get("a", 0) == int((~wide.isfinite()).sum())
    assert losses.infinite.get("a", 0) == int((wide.isfinite() & ~rounded.isfinite()).sum())
    assert losses.zero.get("a", 0) == int(((wide != 0) & (rounded == 0)).sum())


def test_what_keeps_its_format_loses_nothing() -> None:
    losses, half = Losses(), torch.tensor(WIDE).half()
    losses.count("a", half, half)
    assert losses == Losses(odd={"a": 4})


def test_damage_is_a_warning_and_zeros_are_a_remark() -> None:
    warned: list[str] = []
    told: list[str] = []
    losses = Losses(odd={"a": 1}, infinite={"a": 1000, "b": 2}, zero={"c": 5})
    losses.say(warn=warned.append, tell=told.append, wider="--dtype bf16")
    worst = "at most 1,000 in one of them, 'a'"
    assert warned == [
        "1 number in 'a' came infinite or NaN from the source: it is damaged.",
        f"1,002 numbers in 2 tensors became infinite, {worst}: --dtype bf16 holds larger ones.",
    ]
    assert told == ["5 numbers in 'c' became zero."]
    Losses().say(warn=pytest.fail, tell=pytest.fail, wider="")
