"""The numbers of a model: every claim of a configuration or GGUF file is read or refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from redraft.errors import ModelError
from redraft.weights.gguf.config import (
    Rope,
    metadata_of,
    numbers_from_config,
    numbers_from_metadata,
    rope_factors,
)
from redraft.weights.gguf.quant import header_bytes

SOUND: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "vocab_size": 260,
    "max_position_embeddings": 256,
}
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
    config = {**SOUND, "architectures": [architecture], **changes}
    try:
        numbers = numbers_from_config(config)
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
