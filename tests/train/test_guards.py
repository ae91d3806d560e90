from __future__ import annotations

import math

import pytest
import torch

from redraft.train.guards import (
    MARGIN,
    STRETCH,
    Divergence,
    Moment,
    diverged,
    is_out_of_memory,
    no_number,
    out_of_memory,
    smaller,
)
from redraft.train.memory import Plan

MOMENT = Moment(7, 3.25, 0.5, 1e-3, 4e-3, [f"r/{n}" for n in range(20)], "out/checkpoint-5")
USED = {
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "activation_checkpointing": False,
    "lora": False,
    "model_max_length": 2048,
}


def test_the_diagnosis_of_a_step() -> None:
    said = no_number(MOMENT)
    assert said.message.startswith(
        "step 7: the gradient is not a finite number (loss 3.25, gradient norm 0.5,"
    )
    assert "learning rate 0.001; records: r/0, r/1" in said.message
    assert "r/7, …; newest checkpoint: out/checkpoint-5" in said.message
    assert said.hint
    assert "Begin anew (--overwrite_output_dir) with --learning_rate 0.001," in said.hint
    nan = Moment(1, math.nan, None, 0.0, 4e-3, ["a"], None)
    assert "step 1: the loss" in no_number(nan).message
    assert "records: a; newest checkpoint: none yet" in no_number(nan).message
    assert "--learning_rate 0.001," in str(no_number(nan).hint)  # not what the warm-up begins with


def steps_until_tripped(losses: list[float], patience: int) -> int | None:
    guard = Divergence(patience)
    return next((n for n, loss in enumerate(losses, 1) if guard.add(loss)), None)


def test_a_loss_that_stays_far_above_its_best_is_divergence() -> None:
    assert steps_until_tripped([1.0] * STRETCH + [1.1 + MARGIN] * 10, 5) == STRETCH + 5


def test_jumps_plateaus_and_slow_learning_are_none() -> None:
    jumps = [1.0] * STRETCH + [9.0, 9.0, 9.0, 9.0, 1.0] * 20
    assert steps_until_tripped(jumps, 5) is None
    assert steps_until_tripped([1.0 + MARGIN - 0.1] * 10 + [1.0] * STRETCH + [0.9 + MARGIN] * 99, 5) is None
    assert steps_until_tripped([11 - n / 100 for n in range(1000)], 5) is None
    assert steps_until_tripped([20.0] * 5, 5) is None  # nothing is known yet to be above


def test_no_number_is_far_off() -> None:
    assert steps_until_tripped([1.0] * STRETCH + [math.nan] * 10, 5) == STRETCH + 5


def test_it_can_be_turned_off() -> None:
    assert steps_until_tripped([1.0] * STRETCH + [99.0] * 1000, 0) is None


def test_the_diagnosis_of_divergence() -> None:
    guard = Divergence(5, best=1.5)
    said = diverged(MOMENT, guard)
    assert "step 7: training diverges. For 5 steps the loss has been more than 2 above 1.5" in said.message
    assert said.hint
    assert "--learning_rate 0.001," in said.hint


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_memory_that_ran_out_names_the_settings_that_need_less(error: Exception) -> None:
    assert is_out_of_memory(error)
    said = out_of_memory(error, USED, 8192)
    assert "batches of up to 8,192 tokens" in said.message
    assert said.hint
    about, first, *rest = [line.strip() for line in said.hint.splitlines()]
    assert "With --lora or --model_max_length, begin anew (--overwrite_output_dir)" in about
    assert first.startswith("--per_device_train_batch_size 2 --gradient_accumulation_steps 4 ")
    assert [line.split()[0] for line in rest] == [
        "--activation_checkpointing",
        "--lora",
        "--model_max_length",
    ]


@pytest.mark.parametrize(
    ("size", "times", "said"),
    [(3, 1, (1, 3)), (5, 2, (2, 5)), (7, 3, (3, 7)), (2, 1, (1, 2))],
)
def test_smaller_batches_make_the_same_step(size: int, times: int, said: tuple[int, int]) -> None:
    used = {**USED, "per_device_train_batch_size": size, "gradient_accumulation_steps": times}
    flags = "--per_device_train_batch_size {} --gradient_accumulation_steps {} ".format(*said)
    assert smaller(used)[0].startswith(flags)


def test_only_settings_that_are_not_in_use_are_named() -> None:
    used = {**USED, "per_device_train_batch_size": 1, "activation_checkpointing": True, "lora": True}
    assert [line.split()[0] for line in smaller(used)] == ["--model_max_length"]


def test_the_estimate_says_what_each_of_them_comes_to() -> None:
    known = {"tokens": 1000, "libraries": 10**9, "weights": 10**9, "gradients": 10**9, "optimizer": 0}
    known |= {"kept": 4_000_000, "copies": 0, "edge": 1000, "layers": 2, "head": 0, "table": 0}
    plan = Plan(**known, checkpointed=False, accumulates=False, loss_slice=0, loss_token=0.0, on_cpu=False)
    said = out_of_memory(MemoryError(), USED, 1000, plan)
    assert said.message.endswith(" The run takes about 8.00 GB.")
    assert str(said.hint).splitlines()[1].endswith("as many records a step, about 5.00 GB")
    assert all(", about " in line for line in str(said.hint).splitlines()[1:])


def test_other_errors_are_others() -> None:
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_a_real_failure_to_allocate_is_known() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(error.value)
