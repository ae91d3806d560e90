"""Conversion: every value as torch rounds it, losses counted, and .bin files to safetensors."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft.errors import ModelError, UsageError
from redraft.weights import checkpoint, header
from redraft.weights.convert import convert
from redraft.weights.header import torch_dtype
from redraft.weights.losses import Losses, not_finite
from redraft.weights.output import Run
from tests.weights import model_files


@settings(max_examples=settings().max_examples // 3)
@given(data=st.data())
def test_every_value_is_as_torch_rounds_it(data: st.DataObject) -> None:
    shapes = st.lists(st.integers(0, 9), max_size=3)
    dtypes = st.sampled_from((*model_files.FLOATS, *model_files.EIGHT_BITS, *model_files.INTEGERS))
    count = data.draw(st.integers(1, 5))
    tensors = {f"t{i}": model_files.bits(data.draw(shapes), data.draw(dtypes), i) for i in range(count)}
    wanted = data.draw(st.sampled_from([None, "F32", "F16", "BF16"]))
    with tempfile.TemporaryDirectory() as temp, pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "CHUNK", data.draw(st.integers(1, 64), "chunk"))
        source, result = Path(temp) / "source", Path(temp) / "result"
        model_files.save(source, tensors, files=data.draw(st.integers(1, count)))
        convert(source, result, dtype=wanted)
        converted = model_files.load(result)
    assert set(converted) == set(tensors)
    for name, values in tensors.items():
        rounded = values.to(torch_dtype(wanted)) if wanted and values.dtype in model_files.FLOATS else values
        assert converted[name].dtype == rounded.dtype
        torch.testing.assert_close(converted[name], rounded, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("how", ["config", "scales"])
def test_quantised_numbers_are_no_weights(tmp_path: Path, how: str) -> None:
    tensors = {"a.weight": torch.zeros(4, 4).to(torch.float8_e4m3fn)}
    quantised = {"quantization_config": {"quant_method": "fp8"}}
    if how == "scales":
        tensors["a.weight_scale_inv"] = torch.ones(1)
    model_files.save(
        tmp_path / "a", tensors, config=model_files.CONFIG | (quantised if how == "config" else {})
    )
    with pytest.raises(ModelError, match=r"is quantised .*: it contains codes, not weights"):
        convert(tmp_path / "a", tmp_path / "b", dtype="BF16")
    convert(tmp_path / "a", tmp_path / "b")
    assert model_files.same_model(model_files.load(tmp_path / "b"), tensors)


def test_a_large_transposed_tensor_of_a_bin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "CHUNK", 64)
    values = torch.arange(600.0).reshape(20, 30)
    model_files.save_bin(tmp_path / "a", {"x": values.T, "y": values.T[1:5, 3:7]})
    convert(tmp_path / "a", tmp_path / "b", Run(allow_pickle=True))
    expected = {"x": values.T.contiguous(), "y": values.T[1:5, 3:7].contiguous()}
    assert model_files.same_model(model_files.load(tmp_path / "b"), expected)


def test_from_bin_to_safetensors(tmp_path: Path) -> None:
    model = model_files.llama(dtype=torch.float16) | {
        "steps": torch.arange(3),
        "flag": torch.tensor([True, False, True]),
    }
    model_files.save_bin(tmp_path / "a", model)
    with pytest.raises(UsageError, match="is a pickle"):
        convert(tmp_path / "a", tmp_path / "b")
    convert(tmp_path / "a", tmp_path / "b", Run(allow_pickle=True))
    assert model_files.same_model(model_files.load(tmp_path / "b"), model)


def test_the_configuration_names_the_new_format(tmp_path: Path) -> None:
    model_files.save(tmp_path / "a", model_files.llama(), config=model_files.CONFIG | {"more": "é"})
    (tmp_path / "a" / "trainer_state.json").write_text("{}")
    (tmp_path / "a" / "modeling_odd.py").write_text("raise SystemExit")
    convert(tmp_path / "a", tmp_path / "b", dtype="F16")
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert config == model_files.CONFIG | {"torch_dtype": "float16", "more": "é"}
    found = {path.name for path in (tmp_path / "b").iterdir()}
    assert found == {"config.json", "model.safetensors", "redraft.json"}


def test_transformers_loads_what_comes_out(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=100))
    model.save_pretrained(tmp_path / "a", max_shard_size="40KB")
    convert(tmp_path / "a", tmp_path / "b", dtype="BF16")
    again = LlamaForCausalLM.from_pretrained(tmp_path / "b")
    assert again.dtype == torch.bfloat16
    for name, values in model.state_dict().items():
        assert model_files.same_bits(again.state_dict()[name], values.bfloat16())


# Losses by rounding: counted as by torch, and reported.


@pytest.mark.parametrize("dtype", sorted(header.FLOATS))
@given(raw=st.binary(min_size=8, max_size=64))
def test_bits_are_told_apart_as_torch_does(dtype: str, raw: bytes) -> None:
    values = torch.tensor(list(raw[: len(raw) // 8 * 8]), dtype=torch.uint8).view(torch_dtype(dtype))
    wide = values.float() if values.itemsize < 8 else values
    assert not_finite(values) == (int(wide.isnan().sum()), int(wide.isinf().sum()))


@pytest.mark.parametrize("dtype", sorted(header.FLOATS))
def test_the_borders_between_numbers_and_what_is_none(dtype: str) -> None:
    largest = torch.finfo(torch_dtype(dtype)).max
    odd = torch.tensor([largest, -largest, float("nan"), 0.0], dtype=torch.float64)
    assert not_finite(odd.to(torch_dtype(dtype))) == (1, 0)
    both = torch.tensor([float("inf"), float("-inf"), largest], dtype=torch.float64)
    assert not_finite(both.to(torch_dtype(dtype))) == (0, 2)


WIDE = [1e30, -1e30, 1e-30, 0.0, 1.0, float("nan"), float("inf")]


def test_losses_of_each_kind() -> None:
    losses, wide = Losses(), torch.tensor(WIDE)
    losses.count("a", wide, wide.half())
    losses.count("a", wide, wide.half())
    losses.count("b", wide[3:5], wide[3:5].half())
    assert losses == Losses(odd={"a": 4}, infinite={"a": 4}, zero={"a": 2})


@given(
    st.lists(st.floats(width=32), min_size=1), st.sampled_from([torch.float16, torch.bfloat16, torch.float32])
)
def test_losses_are_what_torch_finds(numbers: list[float], dtype: torch.dtype) -> None:
    losses, wide = Losses(), torch.tensor(numbers, dtype=torch.float32)
    rounded = wide.to(dtype)
    losses.count("a", wide, rounded)
    assert losses.odd.get("a", 0) == int((~wide.isfinite()).sum())
    assert losses.infinite.get("a", 0) == int((wide.isfinite() & ~rounded.isfinite()).sum())
    assert losses.zero.get("a", 0) == int(((wide != 0) & (rounded == 0)).sum())


def test_damage_is_a_warning_and_zeros_are_a_remark() -> None:
    warned: list[str] = []
    told: list[str] = []
    losses = Losses(odd={"a": 1}, infinite={"a": 1000, "b": 2}, zero={"c": 5})
    losses.say(warn=warned.append, tell=told.append, wider="--dtype bf16")
    worst = "1,000 of them in 'a'"
    assert warned == [
        "1 number in 'a' had an infinite or NaN value: the source is damaged.",
        f"1,002 numbers in 2 tensors became infinite, {worst}: --dtype bf16 allows larger numbers.",
    ]
    assert told == ["5 numbers in 'c' became zero: too small for the dtype. A few do no harm."]
    Losses().say(warn=pytest.fail, tell=pytest.fail, wider="")
