from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from redraft.train import guards
from redraft.train.options import SftOptions

OWN = SftOptions()
MOMENT = guards.Moment(7, 3.25, 0.5, 1e-3, 4e-3, [f"r/{n}" for n in range(20)], "out/checkpoint-5")
FIRST = guards.Moment(1, math.nan, math.nan, 0.0, 4e-3, ["a"], None, begins=True)


@pytest.mark.parametrize(
    ("moment", "said", "hint"),
    [
        (
            MOMENT,
            "step 7: the gradient is not a finite number (loss 3.25, gradient norm 0.5,",
            "--learning_rate 2e-05,",
        ),
        (
            MOMENT,
            "learning rate 0.001; records: r/0, r/1",
            "The weights were finite before this step. Check the listed",
        ),
        (MOMENT, "r/7, …; newest checkpoint: out/checkpoint-5", "Start over (--overwrite_output_dir)"),
        (FIRST, "step 1: the loss", "No step was taken, and the weights are finite. Check the listed"),
        (FIRST, "records: a; newest checkpoint: none yet", "without --fp16"),
    ],
)
def test_the_diagnosis_of_a_step(moment: guards.Moment, said: str, hint: str) -> None:
    found = guards.no_number(moment)
    assert said in found.message
    assert hint in str(found.hint)
    assert ("--learning_rate" in str(found.hint)) is not moment.begins, "before a step it is not the cause"


@pytest.mark.parametrize("begins", [True, False])
@pytest.mark.parametrize("trained", [True, False])
def test_weights_that_are_not_finite_are_named(begins: bool, trained: bool) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    with torch.no_grad():
        model[1].weight[0, 1] = torch.inf
    model[1].weight.requires_grad = trained
    found = guards.unsound(model)
    assert found == ("in 1.weight, 1 of 4 numbers are not finite", trained)
    said = guards.no_number(replace(MOMENT, loss=math.nan, begins=begins), found)
    assert "in 1.weight, 1 of 4 numbers are not finite" in said.message
    assert said.hint
    if begins or not trained:
        assert "the model was damaged before training" in said.message
        assert "The records are not the cause." in said.hint
    else:
        assert "an earlier step broke the weights" in said.message
        assert "with --learning_rate 2e-05," in said.hint
    assert "good" not in str(said)


@pytest.mark.parametrize(
    ("asked", "usual", "lower"),
    [(1e6, 2e-5, 2e-5), (0.02, 2e-4, 2e-4), (2e-5, 2e-5, 5e-6), (4e-4, 2e-4, 1e-4)],
)
def test_the_advice_is_a_learning_rate_that_trains(asked: float, usual: float, lower: float) -> None:
    moment = replace(MOMENT, asked=asked, usual=usual)
    assert moment.lower == pytest.approx(lower)
    assert f"--learning_rate {lower:.2g}," in str(
        guards.diverged(moment, guards.Divergence(5, best=1.5)).hint
    )
    assert f"--learning_rate {lower:.2g}," in str(guards.no_number(moment).hint)


@pytest.mark.parametrize(
    ("losses", "patience", "trips"),
    [
        ([1.0] * guards.STRETCH + [1.1 + guards.MARGIN] * 10, 5, guards.STRETCH + 5),
        ([1.0] * guards.STRETCH + [math.nan] * 10, 5, guards.STRETCH + 5),
        ([1.0] * guards.STRETCH + [99.0] * 1000, 0, None),  # it is turned off
        ([1.0] * guards.STRETCH + [9.0, 9.0, 9.0, 9.0, 1.0] * 20, 5, None),
        ([1.0 + guards.MARGIN - 0.1] * 10 + [1.0] * guards.STRETCH + [0.9 + guards.MARGIN] * 99, 5, None),
        ([11 - n / 100 for n in range(1000)], 5, None),
        ([1.0] * 4 + [9.0] * 99, 5, 9),
        ([20.0] * 5, 5, None),  # nothing is known yet to be above
        ([1.8, 57.9, *[1.9] * 50], 20, None),  # one record of noise
    ],
)
def test_a_loss_that_stays_high_is_divergence(losses: list[float], patience: int, trips: int | None) -> None:
    guard = guards.Divergence(patience)
    assert next((n for n, loss in enumerate(losses, 1) if guard.add(loss)), None) == trips


def test_the_diagnosis_of_divergence() -> None:
    guard = guards.Divergence(5, best=1.5)
    for _ in range(5):
        guard.add(3.6)
    said = guards.diverged(MOMENT, guard)
    assert "step 7: training diverges. For 5 steps the loss has been more than 2 above 1.5" in said.message


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_memory_that_ran_out_names_the_settings_that_need_less(error: Exception) -> None:
    assert guards.is_out_of_memory(error)
    said = guards.out_of_memory(error, OWN.model_copy(update={"gradient_accumulation_steps": 2}), 8192)
    assert "batches of up to 8,192 tokens" in said.message
    assert said.hint
    about, first, *rest = [line.strip() for line in said.hint.splitlines()]
    assert "If you change --lora or --model_max_length, start over (--overwrite_output_dir)" in about
    assert first.startswith("--per_device_train_batch_size 2 --gradient_accumulation_steps 4 ")
    assert [line.split()[0] for line in rest] == [
        "--activation_checkpointing",
        "--lora",
        "--model_max_length",
    ]


@pytest.mark.parametrize(
    ("size", "times", "said"), [(3, 1, (1, 3)), (5, 2, (2, 5)), (7, 3, (3, 7)), (2, 1, (1, 2))]
)
def test_smaller_batches_make_the_same_step(size: int, times: int, said: tuple[int, int]) -> None:
    own = OWN.model_copy(update={"per_device_train_batch_size": size, "gradient_accumulation_steps": times})
    flags = "--per_device_train_batch_size {} --gradient_accumulation_steps {} ".format(*said)
    assert next(guards._smaller(own)).startswith(flags)


def test_only_settings_that_are_not_in_use_are_named() -> None:
    used = {"per_device_train_batch_size": 1, "activation_checkpointing": True, "lora": True}
    assert [line.split()[0] for line in guards._smaller(OWN.model_copy(update=used))] == [
        "--model_max_length"
    ]


def test_a_real_failure_to_allocate_is_known() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert guards.is_out_of_memory(error.value)
    assert not guards.is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not guards.is_out_of_memory(ValueError("out of memory"))
