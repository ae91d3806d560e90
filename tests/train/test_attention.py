"""Packed examples have the same logits and loss as single ones, in every kind of model."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import varlen
from torch.nn.functional import scaled_dot_product_attention
from transformers import MambaConfig, MambaForCausalLM

from redraft.errors import ModelError
from redraft.train import attention
from redraft.train.attention import NAME, attend, segments, use_segments
from redraft.train.loss import fuse
from tests.train.tiny_models import KINDS, LENGTHS, VOCABULARY, adapted, gradients_of, packed, tiny

Model = Any


def alone(model: Model, examples: list[Tensor]) -> Tensor:
    model.set_attn_implementation("eager")
    with torch.no_grad():
        logits = torch.cat([model(each, use_cache=False).logits for each in examples], 1)
    use_segments(model)
    return logits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("use_cache", [False, True])
def test_a_packed_row_has_the_logits_of_its_examples(kind: str, use_cache: bool) -> None:
    model, row = tiny(kind), packed()
    expected = alone(model, row.examples)
    logits = model(row.input_ids, position_ids=row.position_ids, use_cache=use_cache).logits
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


def test_stock_attention_with_a_cache_leaks_so_the_test_above_can_fail() -> None:
    model, row = tiny(), packed()
    expected = alone(model, row.examples)
    model.set_attn_implementation("sdpa")
    logits = model(row.input_ids, position_ids=row.position_ids, use_cache=True).logits
    assert (logits - expected).abs().max() > 0.1


@pytest.mark.parametrize(
    ("kind", "checkpointing", "lora"),
    [*((kind, False, False) for kind in KINDS), ("Llama", True, False), ("Gemma2", True, True)],
)
def test_the_loss_of_a_packed_row_is_that_of_its_parts(kind: str, checkpointing: bool, lora: bool) -> None:
    model, row = tiny(kind), packed()
    use_segments(model)
    if lora:
        model = adapted(model)
    fuse(model)
    model.train()
    if checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    whole = model(input_ids=row.input_ids, position_ids=row.position_ids, labels=row.labels).loss
    whole.backward()
    gradients = gradients_of(model)
    model.zero_grad()
    count = int((row.labels != -100).sum())
    total = 0.0
    for example, label in zip(row.examples, row.labels.split(LENGTHS, 1), strict=True):
        positions = torch.arange(example.shape[1])[None]
        part = model(input_ids=example, position_ids=positions, labels=label, num_items_in_batch=count).loss
        part.backward()
        total += part.item()
    assert whole.item() == pytest.approx(total, abs=1e-5)
    assert gradients
    for name, gradient in gradients_of(model).items():
        torch.testing.assert_close(gradient, gradients[name], atol=1e-5, rtol=1e-4, msg=name)


def test_an_example_before_it_changes_nothing() -> None:
    model = tiny()
    use_segments(model)
    one, other = packed((9, 12), seed=1), packed((9, 12), seed=2)
    both = torch.cat([one.examples[0], other.examples[1]], 1)
    with torch.no_grad():
        first = model(both, position_ids=one.position_ids).logits[:, 9:]
        second = model(other.input_ids, position_ids=one.position_ids).logits[:, 9:]
    assert torch.equal(first, second)


@pytest.mark.parametrize("kind", ["Llama", "Mistral", "Gemma2"])
def test_padded_batches_and_generation_are_as_without_it(kind: str) -> None:
    model = tiny(kind)
    prompt = torch.randint(3, VOCABULARY, (2, 9))
    mask = torch.ones_like(prompt)
    mask[0, :4] = 0
    ways = []
    for name in ("eager", NAME):
        if name == NAME:
            use_segments(model)
        else:
            model.set_attn_implementation(name)
        logits = model(prompt, attention_mask=mask).logits[mask.bool()]
        ids = model.generate(prompt, attention_mask=mask, max_new_tokens=8, do_sample=False, eos_token_id=63)
        ways.append((logits, ids, model.generate(prompt[:1], max_new_tokens=8, do_sample=False)))
    torch.testing.assert_close(ways[0][0], ways[1][0], atol=1e-5, rtol=0)
    assert torch.equal(ways[0][1], ways[1][1])
    assert torch.equal(ways[0][2], ways[1][2])


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8))
def test_examples_are_found_by_their_positions(lengths: list[int]) -> None:
    found = segments(torch.cat([torch.arange(length) for length in lengths])[None])
    bounds = found["cu_seq_lens_q"]
    assert (bounds.dtype, bounds.diff().tolist()) == (torch.int32, lengths)
    assert found["max_length_q"] == found["max_length_k"] == max(lengths)


def reference_varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> Tensor:
    """What torch documents for its kernel, computed with a mask for each example. Tokens come first here."""
    assert cu_seq_q.dtype == torch.int32
    assert max_q == max_k == int(cu_seq_q.diff().max())
    left, right = window_size
    assert right == 0
    parts = []
    for i, j in pairwise(cu_seq_q.tolist()):
        apart = torch.arange(j - i)[:, None] - torch.arange(j - i)[None]
        mask = (apart >= 0) & (apart <= left if left >= 0 else True)
        q, k, v = (each[i:j].transpose(0, 1)[None] for each in (query, key, value))
        out = functional.scaled_dot_product_attention(q, k, v, mask, scale=scale, enable_gqa=enable_gqa)
        parts.append(out[0].transpose(0, 1))
    return torch.cat(parts)


@pytest.mark.parametrize("kind", ["Llama", "Qwen3", "Mistral"])
def test_one_call_of_the_gpu_kernel_would_do_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, row = tiny(kind), packed()
    expected = alone(model, row.examples)
    monkeypatch.setattr(varlen, "varlen_attn", reference_varlen)
    monkeypatch.setattr(attention, "_has_kernel", lambda _query, _value: True)
    logits = model(row.input_ids, position_ids=row.position_ids, use_cache=False).logits
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


def test_the_kernel_is_for_16_bits_on_a_gpu() -> None:
    tensor = torch.zeros(1, 1, 1, 8, dtype=torch.bfloat16)
    assert not attention._has_kernel(tensor, tensor)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("length", "exact"), [(60, True), (attention.LONG, False)])
def test_on_a_cpu_only_long_examples_attend_in_16_bits(length: int, exact: bool, dtype: torch.dtype) -> None:
    """Even with 32-bit weights, for which positions are rotated into queries and keys in 32 bits."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, length, 8, dtype=dtype) for _ in range(3))
    value = value.to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = attend(
            torch.nn.Identity(), query, key, value, None, position_ids=torch.arange(length)[None]
        )
    wide = scaled_dot_product_attention(query.float(), key.float(), value.float(), is_causal=True)
    assert (found.dtype, found.equal(wide.to(torch.bfloat16).transpose(1, 2))) == (torch.bfloat16, exact)


def test_a_mask_of_numbers_hides_what_one_of_truths_hides_under_a_bound() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 2, 5, 8) for _ in range(3))
    sees = torch.ones(2, 1, 5, 5, dtype=torch.bool).tril()
    sees[0, :, 1:, 0] = False
    added = torch.zeros(sees.shape).masked_fill(~sees, torch.finfo(torch.float32).min)
    layer = torch.nn.Identity()
    expected, _ = attend(layer, query, key, value, sees, softcap=2.0)
    found, _ = attend(layer, query, key, value, added, softcap=2.0)
    torch.testing.assert_close(found, expected)


def test_layers_that_would_leak_are_refused() -> None:
    config = MambaConfig(vocab_size=32, hidden_size=16, num_hidden_layers=1, state_size=4)
    with pytest.raises(ModelError, match="would see each other") as caught:
        use_segments(MambaForCausalLM(config))
    assert "--packing" in str(caught.value)
    mixed = tiny("Qwen3")
    mixed.config.layer_types = ["full_attention", "linear_attention"]
    with pytest.raises(ModelError, match="linear_attention"):
        use_segments(mixed)


def test_attention_with_sinks_and_without_positions_is_refused() -> None:
    tensor = torch.zeros(1, 2, 3, 8)
    layer = torch.nn.Identity()
    with pytest.raises(ModelError, match="s_aux"):
        attend(layer, tensor, tensor, tensor, None, s_aux=torch.zeros(2))
    with pytest.raises(ModelError, match="position_ids"):
        attend(layer, tensor, tensor, tensor, None)


def test_a_saved_model_does_not_name_it(tmp_path: Any) -> None:
    model = tiny()
    use_segments(model)
    model.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()
