"""Loss and gradients equal those of full logits, for every kind of head, with a fraction of the memory."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from redraft.engines.hf.cache import cache_argument
from redraft.engines.hf.engine import HfEngine
from redraft.train import loss
from redraft.train.attention import use_segments
from redraft.train.loss import fuse, has_plain_head, summed_loss
from tests.engines.hf_folders import random_model, tokenizer
from tests.train.tiny_models import EXPERTS, adapted, gradients_of, packed, tiny


def plain_loss(model: Any, row: Any, count: int | None = None) -> Tensor:
    logits = model(input_ids=row.input_ids, position_ids=row.position_ids, use_cache=False).logits
    total = functional.cross_entropy(logits[0, :-1], row.labels[0, 1:], reduction="sum")
    return total / (count or (row.labels != -100).sum())


@pytest.mark.parametrize(
    ("kind", "changes", "sliced"),
    [
        ("Llama", {}, True),
        ("Llama", {"tie_word_embeddings": True}, True),
        ("Qwen3", {}, True),
        ("Gemma2", {"final_logit_softcapping": 1.5}, False),
        ("Granite", {"logits_scaling": 4.0}, False),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_loss_and_gradients_are_those_of_full_logits(
    kind: str, changes: dict[str, Any], sliced: bool, dtype: torch.dtype
) -> None:
    row = packed()
    expected_from = tiny(kind, **changes).to(dtype)
    use_segments(expected_from)
    model = copy.deepcopy(expected_from)
    assert fuse(model) is sliced
    plain_loss(expected_from, row).backward()
    out = model(input_ids=row.input_ids, position_ids=row.position_ids, labels=row.labels)
    out.loss.backward()
    exact = 1e-12 if dtype == torch.float64 and sliced else 1e-6
    with torch.no_grad():
        assert out.loss.item() == pytest.approx(plain_loss(expected_from, row).item(), rel=exact)
    expected, gradients = gradients_of(expected_from), gradients_of(model)
    assert expected.keys() == gradients.keys()
    for name in expected:
        torch.testing.assert_close(gradients[name], expected[name], rtol=1e-5, atol=exact, msg=name)


def test_of_experts_it_is_the_loss_of_words_alone() -> None:
    row, model = packed(), tiny("Qwen3Moe", output_router_logits=True, **EXPERTS)
    use_segments(model)
    theirs = model(row.input_ids, position_ids=row.position_ids, labels=row.labels)
    expected = plain_loss(model, row)
    assert theirs.loss > expected + 1
    assert fuse(model)
    found = model(row.input_ids, position_ids=row.position_ids, labels=row.labels).loss
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("wrapped", ["modules_to_save", "target_modules"])
def test_a_head_with_an_adapter_is_left_to_the_model(wrapped: str) -> None:
    row = packed()
    expected_from = adapted(tiny(), **{wrapped: ["q_proj", "lm_head"]})
    use_segments(expected_from.get_base_model())
    model = copy.deepcopy(expected_from)
    assert not fuse(model)
    plain_loss(expected_from, row).backward()
    model(input_ids=row.input_ids, position_ids=row.position_ids, labels=row.labels).loss.backward()
    gradients = gradients_of(model)
    assert any("lm_head" in name for name in gradients)
    for name, expected in gradients_of(expected_from).items():
        torch.testing.assert_close(gradients[name], expected, rtol=1e-4, atol=1e-6, msg=name)


def test_no_cache_is_built_whatever_the_caller_says() -> None:
    model, row = tiny(), packed()
    fuse(model)
    seen: list[Any] = []
    model.model.layers[0].register_forward_pre_hook(
        lambda _module, _args, inputs: seen.append(inputs[cache_argument(model)]), with_kwargs=True
    )
    model(input_ids=row.input_ids, position_ids=row.position_ids, labels=row.labels, use_cache=True)
    assert seen == [None]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    found: list[tuple[int, bool]] = []
    cross_entropy = loss._cross_entropy

    def watched(logits: Tensor, targets: Tensor, *, grad: bool) -> tuple[Tensor, Tensor]:
        found.append((len(logits), grad))
        return cross_entropy(logits, targets, grad=grad)

    monkeypatch.setattr(loss, "_cross_entropy", watched)
    return found


@pytest.mark.parametrize("training", [True, False])
def test_logits_without_loss_and_gradients_of_an_evaluation_are_not_made(
    training: bool, seen: list[tuple[int, bool]]
) -> None:
    model, row = tiny(), packed()
    use_segments(model)
    fuse(model)
    with torch.set_grad_enabled(training):
        model(input_ids=row.input_ids, position_ids=row.position_ids, labels=row.labels)
    assert sum(count for count, _ in seen) == (row.labels != -100).sum()
    assert max(seen) == (16, training)
    assert {grad for _, grad in seen} == {training}


def test_a_batch_without_loss_has_zero_gradients() -> None:
    model, row = tiny(), packed()
    fuse(model)
    ignored = torch.full_like(row.labels, -100)
    out = model(input_ids=row.input_ids, position_ids=row.position_ids, labels=ignored)
    out.loss.backward()
    assert out.loss.item() == 0
    gradients = gradients_of(model)
    assert gradients
    assert all(not gradient.any() for gradient in gradients.values())


def test_padded_rows_train_as_packed_ones() -> None:
    row = packed((6, 13))
    model = tiny()
    use_segments(model)
    fuse(model)
    expected = model(input_ids=row.input_ids, position_ids=row.position_ids, labels=row.labels).loss
    shape = (2, 13)
    padded = {"input_ids": torch.zeros(shape, dtype=torch.long), "labels": torch.full(shape, -100)}
    for i, part in enumerate(row.labels.split((6, 13), 1)):
        length = part.shape[1]
        padded["input_ids"][i, :length] = row.examples[i][0]
        padded["labels"][i, :length] = part[0]
    mask = (padded["input_ids"] != 0).long()
    for keep in (model, tiny("Llama")):
        if keep is not model:
            keep.lm_head = torch.nn.Sequential(keep.lm_head)  # no plain matrix, so all by logits
            fuse(keep)
        assert keep(**padded, attention_mask=mask).loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_without_labels_a_model_does_what_it_did() -> None:
    model, row = tiny(), packed((9,))
    before = model(row.input_ids).logits
    fuse(model)
    assert torch.equal(model(row.input_ids).logits, before)
    assert model.generate(row.input_ids, max_new_tokens=3, do_sample=False).shape == (1, 12)


@pytest.mark.parametrize("kind", ["Llama", "Gemma2"])
def test_an_engine_opens_a_model_that_was_just_trained(kind: str) -> None:
    model = random_model(kind)
    use_segments(model)
    fuse(model)
    assert not HfEngine(model, tokenizer(), name="toy", threads=1).info.native
    assert "num_items_in_batch" in inspect.signature(model.forward).parameters


def test_a_model_that_changes_its_logits_is_found_out_whatever_its_numbers() -> None:
    assert not has_plain_head(tiny("Gemma2", initializer_range=1e-6, final_logit_softcapping=30.0))
    assert has_plain_head(tiny("Gemma2", final_logit_softcapping=None))


def test_a_head_that_is_not_all_here_is_left_to_its_module() -> None:
    assert loss._is_here(torch.nn.Linear(4, 8))
    elsewhere = torch.nn.Linear(4, 8)
    elsewhere.weight = torch.nn.Parameter(torch.empty(0))
    assert not loss._is_here(elsewhere)


@settings(max_examples=25)
@given(
    count=st.integers(0, 40),
    bias=st.booleans(),
    frozen=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_the_sum_over_slices_is_the_sum(count: int, bias: bool, frozen: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(count)
    hidden = torch.randn(count, 8, dtype=dtype, requires_grad=True)
    weight = torch.randn(23, 8, dtype=dtype, requires_grad=not frozen)
    shift = torch.randn(23, dtype=dtype, requires_grad=not frozen) if bias else None
    targets = torch.randint(23, (count,))
    leaves = [each for each in (hidden, weight, shift) if each is not None and each.requires_grad]
    wide = torch.promote_types(dtype, torch.float32)
    logits = functional.linear(hidden, weight, shift)
    expected = functional.cross_entropy(logits.to(wide), targets, reduction="sum")
    found = summed_loss(hidden, weight, shift, targets)
    assert found.dtype == wide
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-5)
    for one, other in zip(
        torch.autograd.grad(3 * found, leaves), torch.autograd.grad(3 * expected, leaves), strict=True
    ):
        atol, rtol = (0.1, 0.05) if dtype == torch.bfloat16 else (1e-5, 1e-5)
        torch.testing.assert_close(one, other, atol=atol, rtol=rtol)


def test_in_autocast_the_head_computes_in_its_16_bits() -> None:
    hidden, weight = torch.randn(40, 8, requires_grad=True), torch.randn(23, 8, requires_grad=True)
    targets = torch.randint(23, (40,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = summed_loss(hidden, weight, None, targets)
        expected = functional.cross_entropy((hidden @ weight.T).float(), targets, reduction="sum")
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-4)
    found.backward()
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.float32


def test_in_autocast_a_bias_of_the_head_computes_with_it() -> None:
    model, row = tiny("Phi"), packed()
    use_segments(model)
    assert fuse(model)
    assert model.lm_head.bias is not None
    torch.nn.init.normal_(model.lm_head.bias)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = plain_loss(model, row)
        found = model(input_ids=row.input_ids, position_ids=row.position_ids, labels=row.labels).loss
    assert found.item() == pytest.approx(expected.item(), rel=2e-2)
    found.backward()
    assert model.lm_head.bias.grad.dtype == torch.float32


def test_in_fp16_a_small_gradient_is_scaled_before_it_is_rounded() -> None:
    hidden = torch.full((1, 2), 1e-5, dtype=torch.float16)
    weight = torch.zeros(2, 2, dtype=torch.float16, requires_grad=True)
    found = summed_loss(hidden, weight, None, torch.zeros(1, dtype=torch.long))
    (grad,) = torch.autograd.grad(found * 2.0**16, weight)
    expected = float(hidden[0, 0]) * 0.5 * 2.0**16
    assert grad[1].tolist() == pytest.approx([expected, expected], rel=1e-3)


def test_in_bf16_many_small_losses_add_up() -> None:
    hidden = torch.zeros(4096, 2, dtype=torch.bfloat16)
    weight = torch.zeros(2, 2, dtype=torch.bfloat16)
    found = summed_loss(hidden, weight, None, torch.zeros(4096, dtype=torch.long))
    assert found.item() == pytest.approx(4096 * 0.6931472, rel=1e-5)
