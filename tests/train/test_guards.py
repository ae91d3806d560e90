from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from redraft.train import guards
from redraft.train.guards import (
    MARGIN,
    SCHEDSTAT,
    STRETCH,
    WINDOW,
    Contention,
    Divergence,
    Moment,
    Unsound,
    diverged,
    is_out_of_memory,
    no_number,
    out_of_memory,
    smaller,
    unsound,
)
from redraft.train.memory import MemoryPlan
from tests.train.test_memory import USED

MOMENT = Moment(7, 3.25, 0.5, 1e-3, 4e-3, [f"r/{n}" for n in range(20)], "out/checkpoint-5")


def test_the_diagnosis_of_a_step() -> None:
    said = no_number(MOMENT)
    assert said.message.startswith(
        "step 7: the gradient is not a finite number (loss 3.25, gradient norm 0.5,"
    )
    assert "learning rate 0.001; records: r/0, r/1" in said.message
    assert "r/7, …; newest checkpoint: out/checkpoint-5" in said.message
    assert said.hint
    assert said.hint.startswith("The weights before this step are finite. Look at these records. Start over")
    assert "(--overwrite_output_dir) with --learning_rate 2e-05," in said.hint


def test_before_any_step_the_learning_rate_is_not_the_cause() -> None:
    said = no_number(Moment(1, math.nan, None, 0.0, 4e-3, ["a"], None, begins=True))
    assert "step 1: the loss" in said.message
    assert "records: a; newest checkpoint: none yet" in said.message
    assert said.hint
    assert "No step was taken, and the weights are finite. Look at these records" in said.hint
    assert "--learning_rate" not in said.hint


@pytest.mark.parametrize("begins", [True, False])
@pytest.mark.parametrize("trained", [True, False])
def test_weights_that_are_not_finite_are_named(begins: bool, trained: bool) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    with torch.no_grad():
        model[1].weight[0, 1] = torch.inf
    model[1].weight.requires_grad = trained
    found = unsound(model)
    assert found == Unsound("1.weight", 1, 4, trained)
    said = no_number(replace(MOMENT, loss=math.nan, begins=begins), found)
    assert "1.weight has 1 of 4 numbers that are not finite" in said.message
    assert said.hint
    if begins or not trained:
        assert "the model was damaged before training" in said.message
        assert "The records are not the cause." in said.hint
    else:
        assert "an earlier step broke the weights" in said.message
        assert "with --learning_rate 2e-05," in said.hint
    assert "good" not in str(said)


def test_finite_weights_are_sound() -> None:
    assert unsound(torch.nn.Linear(3, 2)) is None


@pytest.mark.parametrize(
    ("asked", "usual", "lower"),
    [(1e6, 2e-5, 2e-5), (0.02, 2e-4, 2e-4), (2e-5, 2e-5, 5e-6), (4e-4, 2e-4, 1e-4)],
)
def test_the_advice_is_a_learning_rate_that_trains(asked: float, usual: float, lower: float) -> None:
    moment = replace(MOMENT, asked=asked, usual=usual)
    assert moment.lower == pytest.approx(lower)
    assert f"--learning_rate {lower:.2g}," in str(diverged(moment, Divergence(5, best=1.5)).hint)
    assert f"--learning_rate {lower:.2g}," in str(no_number(moment).hint)


VOCABULARY = 49_152
"""Of the default model: a random guess has 10.8 nats."""


def steps_until_tripped(losses: list[float], patience: int) -> int | None:
    guard = Divergence(patience, VOCABULARY)
    return next((n for n, loss in enumerate(losses, 1) if guard.add(loss)), None)


def test_a_loss_that_stays_far_above_its_best_is_divergence() -> None:
    assert steps_until_tripped([1.0] * STRETCH + [1.1 + MARGIN] * 10, 5) == STRETCH + 5


def test_jumps_plateaus_and_slow_learning_are_none() -> None:
    jumps = [1.0] * STRETCH + [9.0, 9.0, 9.0, 9.0, 1.0] * 20
    assert steps_until_tripped(jumps, 5) is None
    assert steps_until_tripped([1.0 + MARGIN - 0.1] * 10 + [1.0] * STRETCH + [0.9 + MARGIN] * 99, 5) is None
    assert steps_until_tripped([11 - n / 100 for n in range(1000)], 5) is None
    assert steps_until_tripped([20.0] * 5, 5) is None  # nothing is known yet to be above


EARLY = [1.8, 2.1, 57.9, 31.0, 12.0, *[7.3] * 30]
"""The default model at a learning rate of 0.02."""


def test_a_run_that_blows_up_in_its_first_steps_is_stopped() -> None:
    assert steps_until_tripped(EARLY, 20) == 22
    assert steps_until_tripped([1.8, 2.1, *[7.3] * 30], 20) == 22


@pytest.mark.parametrize(("steps", "ends_off"), [(2, False), (6, False), (7, True), (12, True), (20, True)])
def test_a_run_that_ends_before_that_is_known_by_its_last_losses(steps: int, ends_off: bool) -> None:
    guard = Divergence(20, VOCABULARY)
    assert not any(map(guard.add, EARLY[:steps]))
    assert guard.ends_off is ends_off
    never = Divergence(0, VOCABULARY)
    assert not any(map(never.add, EARLY[:steps]))
    assert not never.ends_off


FALLING = [1.86, 1.76, 14.68, 28.5, 10.56, 13.96, 6.58, 6.08, 5.48, 5.02, 4.43, 4.22]
"""All weights of the default model at a learning rate of 0.02, on sums: word frequencies alone do better."""


def test_a_run_that_blew_up_is_sound_only_near_its_first_loss() -> None:
    guard = Divergence(20, VOCABULARY)
    assert not any(map(guard.add, FALLING))
    assert guard.ends_off
    assert not any(map(guard.add, [3.9, 3.8]))
    assert not guard.ends_off


@pytest.mark.parametrize(
    "losses",
    [
        [10.9, *[10.8 - n / 20 for n in range(150)]],  # from random weights
        [30.0, *[30 - n / 10 for n in range(200)]],  # from weights that are larger than usual
        [3.9, 6.0, 9.5, 8.0, 5.1, *[3.0] * 50],  # tokens that were added, and a jump
        [0.2, *[3.0, 4.5] * 40],  # batches of one short answer, the first an easy one
        [1.8, 57.9, *[1.9] * 50],  # one record of noise
        [2.0] * 60,  # a warm-up that takes all steps
    ],
)
def test_sound_runs_are_not_stopped(losses: list[float]) -> None:
    guard = Divergence(20, VOCABULARY)
    assert not any(guard.add(loss) for loss in losses)
    assert not guard.ends_off


def test_no_number_is_far_off() -> None:
    assert steps_until_tripped([1.0] * STRETCH + [math.nan] * 10, 5) == STRETCH + 5


def test_it_can_be_turned_off() -> None:
    assert steps_until_tripped([1.0] * STRETCH + [99.0] * 1000, 0) is None


def test_the_diagnosis_of_divergence() -> None:
    guard = Divergence(5, VOCABULARY, best=1.5, first=6.0)
    for _ in range(5):
        guard.add(3.6)
    said = diverged(MOMENT, guard)
    assert "step 7: training diverges. For 5 steps the loss has been more than 2 above 1.5" in said.message
    early = Divergence(5, VOCABULARY)
    for loss in (1.8, 57.9, 7.3):
        early.add(loss)
    assert (
        "For 2 steps the loss has been above 5.401, and it began at 1.8 (" in diverged(MOMENT, early).message
    )


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
    assert "With --lora or --model_max_length, start over (--overwrite_output_dir)" in about
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
    plan = MemoryPlan(
        **known, checkpointed=False, accumulates=False, loss_slice=0, loss_token=0.0, on_cpu=False
    )
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


def after(path: Path, ran: float, waited: float, threads: int = 4) -> list[str | None]:
    """The results of three checks, between which a thread ran and waited for so many seconds."""
    made, said = Contention(threads, path), []
    for count in range(3):
        path.write_text(f"{int(ran * count * 1e9)} {int(waited * count * 1e9)} 7\n")
        said.append(made.check())
    return said


def test_waiting_is_said_once_with_what_to_type(tmp_path: Path) -> None:
    first, second, third = after(tmp_path / "stat", ran=WINDOW / 2, waited=WINDOW / 2)
    assert (first, third) == (None, None)
    assert second
    assert "with 4 threads, the run waited for one 50% of the time" in second
    assert "the same command again with OMP_NUM_THREADS=2 before it" in second


@pytest.mark.parametrize(
    ("ran", "waited", "threads"),
    [(WINDOW, 0.2 * WINDOW, 4), (0.1, 0.4, 4), (0, 0, 4), (WINDOW, 9 * WINDOW, 1)],
    ids=["little", "soon", "asleep", "alone"],
)
def test_what_is_nothing_to_say(tmp_path: Path, ran: float, waited: float, threads: int) -> None:
    assert after(tmp_path / "stat", ran, waited, threads) == [None, None, None]


def test_at_least_one_thread_is_advised(tmp_path: Path) -> None:
    said = after(tmp_path / "stat", ran=1, waited=50, threads=2)[1]
    assert said
    assert "with 2 threads, the run waited for one 98% of the time" in said
    assert "OMP_NUM_THREADS=1 " in said


def test_where_the_system_does_not_count_nothing_is_said(tmp_path: Path) -> None:
    assert Contention(4, tmp_path / "nowhere").check() is None
    (tmp_path / "other").write_text("no numbers")
    assert Contention(4, tmp_path / "other").check() is None


@pytest.mark.skipif(not SCHEDSTAT.exists(), reason="Linux counts this")
def test_a_core_that_is_shared_with_another_process_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "WINDOW", 0.5)
    core = {min(os.sched_getaffinity(0))}
    busy = f"import os\nos.sched_setaffinity(0, {core})\nprint(flush=True)\nwhile True: pass"
    found: list[str | None] = []

    def compute() -> None:
        os.sched_setaffinity(0, core)  # of this thread alone
        made, end = Contention(2), time.monotonic() + 60
        while made.notice is None and time.monotonic() < end:
            sum(range(10_000))
            made.check()
        found.append(made.notice)

    with subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        thread = threading.Thread(target=compute)
        thread.start()
        thread.join()
        other.kill()
    assert found[0]
    assert "OMP_NUM_THREADS=1 " in found[0]
