from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainingArguments

from redraft.train import attention
from redraft.train.attention import use_segments
from redraft.train.guards import smaller
from redraft.train.loss import fuse
from redraft.train.memory import (
    IN_HEAP,
    SCATTER,
    MemoryPlan,
    moments,
    plan_of,
    resident,
    room,
    size,
)
from redraft.train.options import LARGE
from tests.train.tiny_models import adapted, tiny

USED = {
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "activation_checkpointing": False,
    "lora": False,
    "model_max_length": 2048,
}


def arguments(**more: Any) -> TrainingArguments:
    return TrainingArguments(use_cpu=True, **more)


def model(**changes: Any) -> Any:
    made = tiny(**changes)
    use_segments(made)
    fuse(made)
    return made


def planned(
    made: Any = None, tokens: int = 4096, examples: Sequence[int] = (40, 40), **more: Any
) -> MemoryPlan:
    made = model() if made is None else made
    return plan_of(made, arguments(**more), tokens=tokens, share=0.5, examples=examples)


def plan(**changes: Any) -> MemoryPlan:
    """A plan with round numbers."""
    known: dict[str, Any] = {"libraries": 100, "weights": 1000, "gradients": 1000, "optimizer": 2000}
    known |= {"tokens": 1000, "kept": 10.0, "copies": 0.0, "edge": 1.0, "layers": 5, "on_cpu": False}
    known |= {"checkpointed": False, "accumulates": False}
    known |= {"head": 0, "table": 0, "loss_slice": 0, "loss_token": 0.0}
    return MemoryPlan(**(known | changes))


def test_small_activations_leave_holes_on_a_cpu() -> None:
    exact, least = plan().activations, LARGE // 2
    assert plan(on_cpu=True).activations == pytest.approx(IN_HEAP * exact)
    large, small = plan(on_cpu=True, edge=2.0, tokens=least), plan(on_cpu=True, edge=2.0, tokens=least - 1)
    assert large.activations == pytest.approx(SCATTER * plan(edge=2.0, tokens=least).activations)
    assert small.activations > large.activations


def test_weights_gradients_and_moments_are_counted() -> None:
    made = model()
    count = sum(each.numel() for each in made.parameters())
    found = planned(made)
    assert (found.weights, found.gradients, found.optimizer) == (4 * count, 4 * count, 8 * count)


def test_of_an_adapter_only_what_is_trained_has_gradients() -> None:
    made = tiny()
    use_segments(made)
    made = adapted(made)
    fuse(made)
    trained = sum(each.numel() for each in made.parameters() if each.requires_grad)
    found = planned(made)
    assert found.gradients == 4 * trained
    assert found.weights > 3 * found.gradients
    assert found.head == 0


@pytest.mark.parametrize(("bf16", "examples"), [(False, 2), (True, 2), (True, 1)])
def test_what_is_kept_is_what_a_longer_row_keeps(bf16: bool, examples: int) -> None:
    """On a CPU in bf16, two short examples attend in 32 bits, and one as long as both in 16 bits."""
    made = model()
    length = 1000 // examples
    assert (length < attention.LONG) == (examples == 2)
    kept = 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        own = {each.untyped_storage().data_ptr() for each in made.parameters()}
        at = tensor.untyped_storage().data_ptr()
        kept += 0 if at in own or at in seen else tensor.untyped_storage().nbytes()
        seen.add(at)
        return tensor

    seen: set[int] = set()
    found = planned(made, tokens=1000, examples=[length] * examples, bf16=bf16)
    ids = torch.ones(1, 1000, dtype=torch.long)
    positions = torch.arange(length).repeat(examples)[None]
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda each: each)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16), hooks:
        loss = made(input_ids=ids, position_ids=positions, labels=ids).loss
    assert loss.requires_grad
    assert found.kept * 1000 + found.copies == pytest.approx(kept, rel=0.05)


@pytest.mark.parametrize(("examples", "less"), [([600, 300], True), ([600, 500, 400], False)])
def test_most_of_a_batch_decides_how_its_attention_is_counted(examples: list[int], less: bool) -> None:
    assert (planned(bf16=True, examples=examples).kept < planned(bf16=True).kept) == less


def test_what_is_tried_is_short_also_where_a_batch_is_long() -> None:
    """Otherwise the trial could take more memory than the run, and would be measured instead."""
    made, tried = model(), list[int]()
    made.get_input_embeddings().register_forward_hook(lambda _, ids, __: tried.append(ids[0].numel()))
    planned(made, bf16=True, examples=[4 * attention.LONG])
    assert tried
    assert max(tried) < attention.LONG


def test_deeper_models_keep_more_and_half_precision_less() -> None:
    assert planned(model(num_hidden_layers=4)).kept > 1.7 * planned(model(num_hidden_layers=2)).kept
    assert planned(bf16=True).kept < planned().kept
    assert planned(bf16=True).copies > planned().copies  # of the weights


def test_planning_leaves_model_and_chance_as_they_were() -> None:
    made = model(attention_dropout=0.5)
    made.eval()
    before = torch.random.get_rng_state()
    planned(made)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not made.training
    assert all(each.grad is None for each in made.parameters())


def test_checkpointing_keeps_little() -> None:
    made = model(num_hidden_layers=16)
    again = planned(made, activation_checkpointing=True, tokens=100_000)
    assert again.activations < 0.5 * planned(made, tokens=100_000).activations
    assert again.activations == planned(made, tokens=100_000).recomputed().activations


@pytest.mark.parametrize(
    ("optim", "bytes_a_byte"),
    [("adamw_torch", 2), ("adamw_torch_fused", 2), ("adafactor", 0), ("sgd", 0), ("adamw_bnb_8bit", 0.5)],
)
def test_the_state_of_an_optimizer(optim: str, bytes_a_byte: float) -> None:
    assert moments(arguments(optim=optim)) == bytes_a_byte


def test_activations_go_as_gradients_come() -> None:
    assert plan().peak == 100 + 1000 + 2000 + 12_000
    assert plan(tokens=10).peak == 100 + 1000 + 2000 + 1000
    assert plan(accumulates=True).peak == plan().peak + 1000


@given(st.integers(1, 200), st.integers(3_000, 300_000))
def test_the_largest_batch_fits_and_the_next_does_not(row: int, free: int) -> None:
    most = plan().largest(free, row)
    assert most == 0 or plan().at(most * row).peak <= free
    assert plan().at((most + 1) * row).peak > free


def test_what_needs_less_says_how_much() -> None:
    big = plan(tokens=10**9, weights=10**9)
    lines = smaller(USED, big)
    assert [line.rsplit(", about ")[1] for line in lines] == ["7.00 GB", "10.00 GB", "13.00 GB", "7.00 GB"]
    assert all(", about" not in line for line in smaller(USED))


def test_this_process_has_memory_and_may_have_more() -> None:
    assert 50e6 < resident() < room(torch.device("cpu"))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="it is Linux that says this")
def test_memory_that_is_taken_is_seen() -> None:
    before = resident()
    with mmap.mmap(-1, 80_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:  # never reused
        held.write(b"1" * len(held))
        assert resident() - before > 0.9 * len(held)


def test_sizes() -> None:
    assert [size(each) for each in (1.5e9, 12_300_000)] == ["1.50 GB", "12.3 MB"]
