"""Convert between config.json and the keys of a GGUF file.

Both formats are read into `ModelNumbers`, and all numbers are checked. For sizes and tensors, see `families`.

Sliding windows are not converted. llama.cpp attends to the whole context in these architectures, so a model
trained with a sliding window (Mistral 7B v0.1) attends to more tokens than in training.
Sources: transformers' configuration files of the families; llama.cpp's conversion/base.py and src/models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from redraft.errors import ModelError
from redraft.weights.gguf import families

_EPS = 1e-6  # transformers' default (configuration_*.py of each family)

THETA = 10000.0  # the default base: `default_theta` of transformers, and llama.cpp's

_LLAMA3_KEYS = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")


@dataclass(frozen=True)
class Rope:
    """Base and scaling of a rotary position embedding."""

    theta: float
    kind: str = "default"  # `default`, `linear` or `llama3`
    numbers: Mapping[str, float] = field(default_factory=dict)  # the scaling, as in `rope_parameters`


@dataclass(frozen=True)
class ModelNumbers:
    """The numbers that both config.json and GGUF metadata contain."""

    sizes: families.Sizes
    context: int  # `max_position_embeddings`, in tokens
    eps: float  # `rms_norm_eps`
    rope: Rope


def numbers_from_config(config: Mapping[str, Any]) -> ModelNumbers:
    """Read and check the numbers of a config.json."""
    sizes = families.sizes_from_config(config)
    family = sizes.family
    if (act := config.get("hidden_act", "silu")) not in ("silu", "swish"):
        message = f"config.json sets hidden_act {act!r:.40}; only silu can be converted to GGUF."
        raise ModelError(message, hint=families.OTHER_TOOL)
    if family is not families.LLAMA and config.get("attention_bias") and not family.bias:
        message = f"config.json sets attention_bias, which llama.cpp does not support for {family.gguf}."
        raise ModelError(message, hint=families.OTHER_TOOL)
    read = families.Numbers(config, "config.json")
    context = "max_position_embeddings" if "max_position_embeddings" in config else "max_sequence_length"
    length, eps = read.whole(context), read.real("rms_norm_eps", _EPS)
    return ModelNumbers(sizes, length, eps, _rope_from_config(config, family, sizes.head))


def metadata_of(numbers: ModelNumbers) -> dict[str, int | float | str]:
    """Return GGUF metadata for these numbers. Llama 3's rotary scaling has no key: see `rope_factors`."""
    sizes, rope = numbers.sizes, numbers.rope
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
        "rope.freq_base": rope.theta,
    }
    if rope.kind == "linear":
        keys |= {"rope.scaling.type": rope.kind, "rope.scaling.factor": rope.numbers["factor"]}
    return {f"{sizes.family.gguf}.{key}": value for key, value in keys.items()}


def numbers_from_metadata(
    metadata: Mapping[str, Any], shapes: Mapping[str, families.Shape], factors: tuple[float, ...] = ()
) -> ModelNumbers:
    """Read and check the numbers of a GGUF file, from metadata and tensor shapes (rows first).

    `factors` are the values of the tensor `rope_freqs.weight`, if the file has this tensor.
    """
    family = families.family_in_gguf(metadata.get("general.architecture"))
    prefix = family.gguf + "."
    own = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    exact = {key: families.shortest(n) if isinstance(n, float) else n for key, n in own.items()}
    read = families.Numbers(exact, "the GGUF file")
    if read.values.get("expert_count"):
        raise ModelError("the GGUF file is a mixture of experts, which redraft cannot convert to a folder.")
    sizes = families.sizes_from_metadata(read, family, shapes)
    for key in ("attention.value_length", "rope.dimension_count"):
        if (other := read.whole(key, sizes.head)) != sizes.head:
            found = f"the GGUF file sets {prefix}{key} to {other}, but its heads have {sizes.head} elements."
            raise ModelError(found)
    length, eps = read.whole("context_length"), read.real("attention.layer_norm_rms_epsilon")
    return ModelNumbers(sizes, length, eps, _rope_from_metadata(read.values, factors, sizes.head))


def config_of(numbers: ModelNumbers, dtype: str) -> dict[str, Any]:
    """Return the content of a config.json. `dtype` is torch's name: float32, float16 or bfloat16."""
    sizes, rope = numbers.sizes, numbers.rope
    scaling = {key: int(n) if key.startswith("original") else n for key, n in rope.numbers.items()}
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
        "rope_parameters": {"rope_type": rope.kind, "rope_theta": rope.theta, **scaling},
        "tie_word_embeddings": sizes.tied,
    }
    if sizes.family is families.LLAMA:
        config |= {"attention_bias": sizes.attention_bias, "mlp_bias": sizes.mlp_bias}
    return config


SAMPLING = {
    "temperature": "temp",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "penalty_repeat",
}
"""Maps settings of generation_config.json to GGUF keys without the prefix `general.sampling.` (gguf.Keys)."""


def sampling_metadata(generation: Mapping[str, Any]) -> dict[str, int | float]:
    """Return GGUF metadata with the sampling settings that a generation_config.json recommends."""
    given = {theirs: generation.get(ours) for ours, theirs in SAMPLING.items()}
    known = {key: n for key, n in given.items() if isinstance(n, int | float) and 0 <= n < 2**31}
    return {f"general.sampling.{key}": int(n) if key == "top_k" else float(n) for key, n in known.items()}


def _rope_from_config(config: Mapping[str, Any], family: families.Family, head: int) -> Rope:
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(given, Mapping):
        raise ModelError(f"config.json has rope_parameters {given!r:.60}, which is not an object.")
    theta = _number({"rope_theta": config.get("rope_theta", THETA), **given}, "rope_theta")
    kind = given.get("rope_type", given.get("type", "default"))
    part = given.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    if part not in (None, 1):
        raise _refused(f"a partial rotary embedding ({part!r:.20})")
    match kind:
        case "default":
            return Rope(theta)
        case "linear":
            return Rope(theta, kind, {"factor": _number(given, "factor")})
        case "llama3" if family in (families.LLAMA, families.MISTRAL):
            rope = Rope(theta, kind, {key: _number(given, key) for key in _LLAMA3_KEYS})
            rope_factors(rope, head)
            return rope
    raise _refused(f"rotary scaling of the kind {kind!r:.40} for {family.architecture}")


def _rope_from_metadata(values: Mapping[str, Any], factors: tuple[float, ...], head: int) -> Rope:
    theta = _number({"rope.freq_base": THETA, **values}, "rope.freq_base")
    kind = values.get("rope.scaling.type", "none")
    if not all(0 < factor < math.inf for factor in factors):
        raise ModelError("the GGUF file has a rope_freqs.weight with values that are not positive numbers.")
    if any(factor != 1 for factor in factors):
        return Rope(theta, "llama3", _llama3(theta, factors, head))
    match kind:
        case "none":
            return Rope(theta)
        case "linear":
            factor = _number(values, "rope.scaling.factor")
            return Rope(theta) if factor == 1 else Rope(theta, "linear", {"factor": factor})
    found = f"the GGUF file has rotary scaling of the kind {kind!r:.40}"
    raise ModelError(f"{found}, so it cannot be converted to a folder.")


def rope_factors(rope: Rope, head: int) -> list[float]:
    """Return Llama 3's divisor for each of the `head` / 2 rotary frequencies."""
    factor, low, high, original = (rope.numbers[key] for key in _LLAMA3_KEYS)
    if not low < high:
        below = f"{low:g}, which is not below high_freq_factor {high:g}"
        raise ModelError(f"config.json has low_freq_factor {below}.")

    def divisor(index: int) -> float:
        wavelength = 2 * math.pi * math.pow(rope.theta, 2 * index / head)
        if wavelength < original / high:
            return 1.0
        if wavelength > original / low:
            return factor
        smooth = (original / wavelength - low) / (high - low)
        return 1 / ((1 - smooth) / factor + smooth)

    return [divisor(index) for index in range(head // 2)]


def _llama3(theta: float, factors: tuple[float, ...], head: int) -> dict[str, float]:
    for original in (8192, *(1 << bits for bits in range(6, 21))):
        numbers = dict(zip(_LLAMA3_KEYS, (max(factors), 1.0, 4.0, original), strict=True))
        made = rope_factors(Rope(theta, "llama3", numbers), head)
        if np.shape(made) == np.shape(factors) and np.allclose(made, factors, rtol=1e-5):
            return numbers
    found = "the GGUF file cannot be converted to a folder: it has a rope_freqs.weight that is not Llama 3's."
    raise ModelError(found)


def _number(values: Mapping[str, Any], key: str) -> float:
    return families.positive(values.get(key), f"{key} of the rotary embedding")


def _refused(what: str) -> ModelError:
    return ModelError(f"{what} cannot be converted to GGUF.", hint=families.OTHER_TOOL)
