"""Converts between config.json and the keys of a GGUF file.

Both sides are read into `ModelNumbers`, so that each is checked once. For sizes and tensors see `sizes`, for
rotary scaling `rope`.

Sliding windows are not converted. llama.cpp attends to the whole context in these architectures, so a model
trained with a window (Mistral 7B v0.1) attends to more tokens than in training.
Sources: transformers' configuration files of the four; llama.cpp's conversion/base.py and src/models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redraft.weights.gguf.names import LLAMA, MISTRAL, OTHER_TOOL, family_in_gguf, family_of
from redraft.weights.gguf.rope import (
    Rope,
    rope_from_config,
    rope_from_metadata,
    rope_in_config,
    rope_metadata,
    shortest,
)
from redraft.weights.gguf.sizes import Numbers, Shape, Sizes, sizes_from_config, sizes_from_metadata
from redraft.weights.header import NotHandled

# Transformers' defaults (configuration_*.py of each family).
_EPS, _MISTRAL_WINDOW = 1e-6, 4096


@dataclass(frozen=True)
class ModelNumbers:
    """The numbers that describe a model.

    Attributes:
        context: `max_position_embeddings`, in tokens.
        eps: `rms_norm_eps`.
    """

    sizes: Sizes
    context: int
    eps: float
    rope: Rope


def numbers_from_config(config: Mapping[str, Any]) -> ModelNumbers:
    """Read and check a config.json."""
    sizes = sizes_from_config(config)
    family = sizes.family
    if (act := config.get("hidden_act", "silu")) not in ("silu", "swish"):
        raise NotHandled(
            f"config.json says hidden_act {act!r:.40}; only silu can be converted to GGUF.", hint=OTHER_TOOL
        )
    if family is not LLAMA and config.get("attention_bias") and not family.bias:
        raise NotHandled(
            f"config.json says attention_bias, which llama.cpp's {family.gguf} lacks.", hint=OTHER_TOOL
        )
    read = Numbers(config, "config.json")
    context = "max_position_embeddings" if "max_position_embeddings" in config else "max_sequence_length"
    return ModelNumbers(
        sizes,
        context=read.whole(context),
        eps=read.real("rms_norm_eps", _EPS),
        rope=rope_from_config(config, family, sizes.head),
    )


def window_of(config: Mapping[str, Any]) -> int | None:
    """Return the sliding window that a model was trained with, in tokens, or None."""
    family = family_of(config)
    if family is LLAMA or (family is not MISTRAL and config.get("use_sliding_window") is not True):
        return None
    window = config.get("sliding_window", _MISTRAL_WINDOW)
    return window if isinstance(window, int) and not isinstance(window, bool) and window > 0 else None


def metadata_of(numbers: ModelNumbers) -> dict[str, int | float | str]:
    """Return the keys of a GGUF file: int values become u32, floats f32."""
    sizes = numbers.sizes
    keys: dict[str, int | float | str] = {
        "block_count": sizes.layers,
        "context_length": numbers.context,
        "embedding_length": sizes.width,
        "feed_forward_length": sizes.inner,
        "attention.head_count": sizes.heads,
        "attention.head_count_kv": sizes.kv_heads,
        "attention.layer_norm_rms_epsilon": numbers.eps,
        "attention.key_length": sizes.head,
        "attention.value_length": sizes.head,
        "vocab_size": sizes.vocabulary,
        "rope.dimension_count": sizes.head,
        **rope_metadata(numbers.rope),
    }
    return {f"{sizes.family.gguf}.{key}": value for key, value in keys.items()}


def numbers_from_metadata(
    metadata: Mapping[str, Any],
    shapes: Mapping[str, Shape],
    rope_factors: tuple[float, ...] = (),
) -> ModelNumbers:
    """Read and check the keys of a GGUF file.

    `shapes` are those of its tensors, rows first. `rope_factors` are the values of `rope_freqs.weight`, if
    the file has it.
    """
    family = family_in_gguf(metadata.get("general.architecture"))
    prefix = family.gguf + "."
    read = Numbers(
        {
            key.removeprefix(prefix): shortest(value) if isinstance(value, float) else value
            for key, value in metadata.items()
            if key.startswith(prefix)
        },
        "the GGUF file",
    )
    if read.values.get("expert_count"):
        raise NotHandled("the GGUF file is a mixture of experts, which redraft cannot convert to a folder.")
    sizes = sizes_from_metadata(read, family, shapes)
    for key in ("attention.value_length", "rope.dimension_count"):
        if (other := read.whole(key, sizes.head)) != sizes.head:
            raise NotHandled(
                f"the GGUF file says {prefix}{key} {other}, but its heads have {sizes.head} elements."
            )
    return ModelNumbers(
        sizes,
        context=read.whole("context_length"),
        eps=read.real("attention.layer_norm_rms_epsilon"),
        rope=rope_from_metadata(read.values, rope_factors, sizes.head),
    )


def config_of(numbers: ModelNumbers, dtype: str) -> dict[str, Any]:
    """Return a config.json for these numbers and a dtype of torch: float32, float16 or bfloat16."""
    sizes = numbers.sizes
    config: dict[str, Any] = {
        "architectures": [sizes.family.architecture],
        "model_type": sizes.family.model_type,
        "dtype": dtype,
        "vocab_size": sizes.vocabulary,
        "hidden_size": sizes.width,
        "intermediate_size": sizes.inner,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads,
        "head_dim": sizes.head,
        "hidden_act": "silu",
        "max_position_embeddings": numbers.context,
        "rms_norm_eps": numbers.eps,
        "rope_parameters": rope_in_config(numbers.rope),
        "tie_word_embeddings": sizes.tied,
    }
    if sizes.family is LLAMA:
        config |= {"attention_bias": sizes.attention_bias, "mlp_bias": sizes.mlp_bias}
    return config
