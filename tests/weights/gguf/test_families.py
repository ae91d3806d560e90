from __future__ import annotations

import math
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from redraft.errors import ModelError
from redraft.weights.gguf import families
from redraft.weights.gguf.config import (
    Rope,
    metadata_of,
    numbers_from_config,
    numbers_from_metadata,
    rope_factors,
)
from redraft.weights.gguf.quant import header_bytes

_PARTS = ["input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm"]
_PARTS += [f"self_attn.{each}_proj" for each in "qkvo"] + [
    f"mlp.{each}_proj" for each in ("gate", "up", "down")
]
MODULES = ["model.embed_tokens", "model.norm", "lm_head"]
MODULES += [f"model.layers.{layer}.{module}" for layer in (0, 11) for module in _PARTS]


@pytest.mark.parametrize("family", families.FAMILIES, ids=lambda family: family.model_type)
def test_names_are_those_of_ggufs_own_table(family: families.Family) -> None:
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH[family.gguf.upper()], 12)
    for module in MODULES:
        if theirs := table.get_name(module):
            assert families.gguf_name(f"{module}.weight") == f"{theirs}.weight"
            assert families.gguf_name(f"{module}.bias") == f"{theirs}.bias"
            assert families.hf_name(f"{theirs}.bias") == f"{module}.bias"


@pytest.mark.parametrize(
    "name",
    [
        "", "weight", "model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.00.mlp.up_proj.weight",
        "model.layers.-1.mlp.up_proj.weight", "model.layers.0.mlp.experts.0.up_proj.weight",
        "layers.0.mlp.up_proj.weight", "model.layers.99999999999999.mlp.up_proj.weight",
        "lm_head.weight_scale",
    ],
)  # fmt: skip
def test_other_names_have_none(name: str) -> None:
    assert families.gguf_name(name) is None
    assert families.hf_name(name) is None


shapes = st.tuples(
    st.integers(1, 5), st.integers(1, 6), st.lists(st.integers(1, 4), max_size=2)
)  # heads, half a head, what follows


@given(shapes)
def test_permuting_and_back_changes_nothing(shape: tuple[int, int, list[int]]) -> None:
    heads, half, rest = shape
    rows = np.arange(2 * heads * half * int(np.prod(rest)), dtype=np.int64).reshape(2 * heads * half, *rest)
    assert np.array_equal(families.unpermute(families.permute(rows, heads), heads), rows)
    assert np.array_equal(families.permute(families.unpermute(rows, heads), heads), rows)
    assert torch.equal(
        families.permute(torch.from_numpy(rows), heads), torch.from_numpy(families.permute(rows, heads))
    )


def test_halves_become_pairs() -> None:
    assert families.permute(np.arange(8), 1).tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    assert families.permute(np.arange(8), 2).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_what_is_permuted() -> None:
    names = ["blk.0.attn_q.weight", "blk.9.attn_k.weight", "blk.0.attn_k.bias", "blk.0.attn_v.weight"]
    assert [families.permuted_heads(families.LLAMA, name, 8, 2) for name in names] == [8, 2, 2, 0]
    assert [families.permuted_heads(families.MISTRAL, name, 8, 2) for name in names] == [8, 2, 2, 0]
    assert [families.permuted_heads(families.QWEN2, name, 8, 2) for name in names] == [0, 0, 0, 0]
    assert families.permuted_heads(families.LLAMA, "blk.0.attn_q_norm.weight", 8, 2) == 0


def test_which_family() -> None:
    assert [families.family_of({"architectures": [each.architecture]}) for each in families.FAMILIES] == list(
        families.FAMILIES
    )
    assert [families.family_of({"model_type": each.model_type}) for each in families.FAMILIES] == list(
        families.FAMILIES
    )
    assert families.family_of({"architectures": ["LLaMAForCausalLM"]}) is families.LLAMA
    assert [families.family_in_gguf(each) for each in ("llama", "qwen2", "qwen3")] == [
        families.LLAMA,
        families.QWEN2,
        families.QWEN3,
    ]


# The numbers of a model: every claim of a configuration or GGUF file is read or refused.


SOUND: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128,
    "num_attention_heads": 4, "vocab_size": 260, "max_position_embeddings": 256,
}  # fmt: skip
_MORE = "num_key_value_heads head_dim hidden_act rms_norm_eps tie_word_embeddings attention_bias mlp_bias"
_MORE += " rope_theta rope_scaling rope_parameters partial_rotary_factor sliding_window use_sliding_window"
KEYS = [*SOUND, *_MORE.split(), "quantization_config", "num_experts", "text_config"]
ROPE_KEYS = ["rope_type", "type", "rope_theta", "factor", "low_freq_factor", "high_freq_factor"]
ROPE_KEYS.append("original_max_position_embeddings")
odd = (
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.integers()
    | st.floats()
    | st.sampled_from(["llama", "yarn", "linear", "llama3", "silu", "", 10**400])
    | st.lists(st.integers(), max_size=2)
)
nested = odd | st.dictionaries(st.sampled_from(ROPE_KEYS), odd, max_size=6)
types = st.sampled_from(["LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"])


@given(types, st.dictionaries(st.sampled_from(KEYS), nested, max_size=4))
def test_any_configuration_is_written_or_refused(architecture: str, changes: dict[str, Any]) -> None:
    try:
        numbers = numbers_from_config({**SOUND, "architectures": [architecture], **changes})
    except ModelError:
        return
    header_bytes(numbers.sizes.family.gguf, metadata_of(numbers), [])
    if numbers.rope.kind == "llama3":
        assert all(math.isfinite(factor) for factor in rope_factors(numbers.rope, numbers.sizes.head))


@given(st.dictionaries(st.sampled_from(sorted(metadata_of(numbers_from_config(SOUND)))), odd, max_size=3))
def test_any_metadata_is_read_or_refused(changes: dict[str, Any]) -> None:
    said = {"general.architecture": "llama", **metadata_of(numbers_from_config(SOUND)), **changes}
    try:
        numbers_from_metadata(said, {"token_embd.weight": (260, 64)}, (1.0, 2.0))
    except ModelError:
        return


@pytest.mark.parametrize("original", [64, 8192, 131072])
def test_llama3s_divisors_are_transformers_own(original: int) -> None:
    numbers = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    context = {"original_max_position_embeddings": original}
    scaling = {"rope_type": "llama3", "rope_theta": 5e5, **context, **numbers}
    config = LlamaConfig(
        hidden_size=512, num_attention_heads=4, max_position_embeddings=2**18, rope_parameters=scaling
    )
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    made = rope_factors(Rope(5e5, "llama3", {**numbers, "original_max_position_embeddings": original}), 128)
    plain = [5e5 ** (-2 * index / 128) for index in range(64)]
    assert made == pytest.approx([a / b for a, b in zip(plain, scaled.tolist(), strict=True)], rel=1e-5)
