"""Adapters: what is trained, what is saved, and when they are the default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from redraft.errors import UsageError
from redraft.train.load import add_adapter, default_method, go_on_from
from redraft.train.options import SftOptions
from redraft.weights.lora.gguf import lora_gguf
from tests.train.tiny_models import VOCABULARY, tiny
from tests.weights.tiny_folders import lora, tiny_folder


def added(model: Any, lora_from: Path | None = None, **settings: Any) -> PeftModel:
    own = SftOptions(**{"model_name_or_path": "some/base", "lora_r": 4, **settings})
    made = add_adapter(model, own, note={})
    if lora_from:
        go_on_from(made, lora_from)
    return made


def test_an_adapter_alone_is_trained_in_32_bits() -> None:
    model = added(tiny().to(torch.bfloat16))
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    assert len(trained) == 2 * 2 * 7  # two matrices, two layers, seven linear parts each
    assert all("lora_" in name and each.dtype == torch.float32 for name, each in trained.items())
    assert not any("lm_head" in name for name in trained)


def test_its_scale_is_alpha_over_rank() -> None:
    layer: Any = added(tiny(), lora_alpha=10).base_model.model.model.layers[0].self_attn.q_proj
    assert layer.scaling == {"default": 2.5}


@pytest.mark.parametrize("targets", [("q_proj",), ("q_proj", "mlp.up_proj")])
def test_named_layers_alone_get_one(targets: tuple[str, ...]) -> None:
    model = added(tiny(), lora_target_modules=targets)
    names = {name.split(".lora_")[0] for name, _ in model.named_parameters() if ".lora_" in name}
    assert len(names) == 2 * len(targets)
    assert all(name.endswith(targets) for name in names)


def test_a_matrix_of_input_and_output_gets_one_without_a_warning_of_peft(
    recwarn: pytest.WarningsRecorder,
) -> None:
    model = added(tiny(tie_word_embeddings=True), lora_target_modules=("lm_head",))
    assert any("lm_head.lora_A" in name for name, _ in model.named_parameters())
    assert [str(each.message) for each in recwarn] == []


def test_a_name_that_no_layer_has_is_an_error_that_lists_them() -> None:
    with pytest.raises(UsageError, match=r"no linear layer 'query'\.") as caught:
        added(tiny(), lora_target_modules=("q_proj", "query"))
    assert "down_proj gate_proj k_proj" in str(caught.value.hint)


@pytest.mark.parametrize("whole", [False, True])
def test_the_vocabulary_is_saved_where_rows_were_added(tmp_path: Path, whole: bool) -> None:
    model = tiny()
    model.resize_token_embeddings(VOCABULARY + 1, mean_resizing=False)
    made = add_adapter(model, SftOptions(), note={}, whole_vocabulary=whole)
    made.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert any("embed_tokens" in name for name in saved) is whole


def test_it_goes_on_from_the_weights_of_another(tmp_path: Path) -> None:
    first: Any = added(tiny(), lora_alpha=32)
    for name, values in first.named_parameters():
        if ".lora_B" in name:
            torch.nn.init.normal_(values)
    first.save_pretrained(tmp_path)
    second: Any = added(tiny(), lora_alpha=16, lora_from=tmp_path)
    one, two = (each.base_model.model.model.layers[0].self_attn.q_proj for each in (first, second))
    torch.testing.assert_close(one.get_delta_weight("default"), two.get_delta_weight("default"))
    with pytest.raises(UsageError, match="is 4 × 32, not 2 × 32") as caught:
        added(tiny(), lora_r=2, lora_from=tmp_path)
    assert "--lora_r" in str(caught.value.hint)
    with pytest.raises(UsageError, match="only one of"):
        added(tiny(), lora_target_modules=("q_proj",), lora_from=tmp_path)
    third: Any = added(tiny(), lora_r=6, lora_alpha=16, lora_from=tmp_path)
    layer = third.base_model.model.model.layers[0].self_attn.q_proj
    torch.testing.assert_close(one.get_delta_weight("default"), layer.get_delta_weight("default"))
    assert bool(layer.lora_A["default"].weight[4:].all())


def test_a_gguf_adapter_without_alpha_is_taken_as_llamacpp_takes_it(tmp_path: Path) -> None:
    lora_gguf(lora(tiny_folder(tmp_path / "base"), tmp_path / "adapter"), tmp_path / "adapter.gguf")
    header, found, rest = (tmp_path / "adapter.gguf").read_bytes().partition(b"adapter.lora.alpha")
    (tmp_path / "adapter.gguf").write_bytes(header + found + rest[:4] + bytes(4) + rest[8:])
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    made: Any = added(model, lora_from=tmp_path / "adapter.gguf")
    layer = made.base_model.model.model.layers[0].self_attn.v_proj
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    a, b = (saved[f"base_model.model.model.layers.0.self_attn.v_proj.lora_{half}.weight"] for half in "AB")
    torch.testing.assert_close(layer.get_delta_weight("default"), (b @ a).float())


def test_a_gguf_adapter_is_taken_into_a_larger_one(tmp_path: Path) -> None:
    lora_gguf(lora(tiny_folder(tmp_path / "base"), tmp_path / "adapter"), tmp_path / "adapter.gguf")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    same: Any = added(model, lora_from=tmp_path / "adapter.gguf")
    expected = same.base_model.model.model.layers[0].self_attn.v_proj.get_delta_weight("default").clone()
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    larger: Any = added(model, lora_r=9, lora_alpha=5, lora_from=tmp_path / "adapter.gguf")
    layer = larger.base_model.model.model.layers[0].self_attn.v_proj
    torch.testing.assert_close(layer.get_delta_weight("default"), expected)


GB = 10**9


@pytest.mark.parametrize(
    ("parameters", "gpu_bytes", "lora"),
    [
        (135 * 10**6, None, True),
        (135 * 10**6, 8 * GB, False),
        (GB, 24 * GB, False),
        (7 * GB, 24 * GB, True),
        (7 * GB, 4 * 80 * GB, False),
    ],
)
def test_what_is_trained_by_default(parameters: int, gpu_bytes: int | None, lora: bool) -> None:
    found, why = default_method(parameters, gpu_bytes)
    assert found is lora
    assert why
