"""What a model is, in numbers: config.json <-> the keys of a GGUF file.

One value stands between the two, so that each side is read once and checked once. Its sizes, and the tensors
that follow from them, are in `sizes`; rotary scaling is in `rope`, tokenizers are elsewhere.

Not carried over: sliding windows. llama.cpp attends to the whole context in these architectures, so a model
that was trained with a window (Mistral 7B v0.1) sees more than it was trained to, after that many tokens.
Facts: transformers' configuration files of the four; llama.cpp's conversion/base.py and src/models.
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

# The values that transformers takes where config.json is silent (configuration_*.py of each family).
_EPS, _MISTRAL_WINDOW = 1e-6, 4096


@dataclass(frozen=True)
class ModelNumbers:
    """The numbers of a model.

    Attributes:
        sizes: Those that its tensors follow from.
        context: `max_position_embeddings`, in tokens.
        eps: `rms_norm_eps`.
        rope: Base and scaling of the rotary embedding.
    """

    sizes: Sizes
    context: int
    eps: float
    rope: Rope


def numbers_from_config(config: Mapping[str, Any]) -> ModelNumbers:
    """Reads and checks a config.json.

    Raises:
        ModelError: Another architecture, a number that is missing or cannot be, or a feature that GGUF lacks.
    """
    sizes = sizes_from_config(config)
    family = sizes.family
    if (act := config.get("hidden_act", "silu")) not in ("silu", "swish"):
        raise NotHandled(f"config.json says hidden_act {act!r:.40}; GGUF has silu here.", hint=OTHER_TOOL)
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
    """The sliding window that a model was trained with, in tokens; None if it always saw everything."""
    family = family_of(config)
    if family is LLAMA or (family is not MISTRAL and config.get("use_sliding_window") is not True):
        return None
    window = config.get("sliding_window", _MISTRAL_WINDOW)
    return window if isinstance(window, int) and not isinstance(window, bool) and window > 0 else None


def metadata_of(numbers: ModelNumbers) -> dict[str, int | float | str]:
    """The keys of a GGUF file that say these numbers: whole ones for u32, others for f32."""
    sizes = numbers.sizes
    said: dict[str, int | float | str] = {
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
    return {f"{sizes.family.gguf}.{key}": value for key, value in said.items()}


def numbers_from_metadata(
    metadata: Mapping[str, Any],
    shapes: Mapping[str, Shape],
    rope_factors: tuple[float, ...] = (),
) -> ModelNumbers:
    """Reads and checks the keys of a GGUF file.

    Args:
        metadata: Keys and values.
        shapes: The shapes of its tensors, rows first.
        rope_factors: The values of `rope_freqs.weight`, where the file has that.

    Raises:
        ModelError: Another architecture, a number that is missing or cannot be, or what no folder can say.
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
        raise NotHandled("the GGUF file is a mixture of experts, which has no way back to a folder here.")
    sizes = sizes_from_metadata(read, family, shapes)
    for key in ("attention.value_length", "rope.dimension_count"):
        if (other := read.whole(key, sizes.head)) != sizes.head:
            raise NotHandled(
                f"the GGUF file says {prefix}{key} {other}, and its heads have {sizes.head} elements."
            )
    return ModelNumbers(
        sizes,
        context=read.whole("context_length"),
        eps=read.real("attention.layer_norm_rms_epsilon"),
        rope=rope_from_metadata(read.values, rope_factors, sizes.head),
    )


def config_of(numbers: ModelNumbers, dtype: str) -> dict[str, Any]:
    """A config.json that says these numbers.

    Args:
        numbers: What the model is.
        dtype: As torch names it: float32, float16 or bfloat16.
    """
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
