"""What a model is, in numbers: config.json <-> the keys of a GGUF file, and which tensors follow from them.

One value stands between the two, so that each side is read once and checked once, and so that the tensors
of a model can be held against what its numbers say. Rotary scaling is in gguf_rope.py, tokenizers are
elsewhere.

Not carried over: sliding windows. llama.cpp attends to the whole context in these architectures, so a model
that was trained with a window (Mistral 7B v0.1) sees more than it was trained to, after that many tokens.
Facts: transformers' configuration files of the four; llama.cpp's conversion/base.py and src/models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from redraft.errors import ModelError
from redraft.weights.gguf.names import (
    LLAMA,
    MISTRAL,
    OTHER_TOOL,
    QWEN3,
    Family,
    family_in_gguf,
    family_of,
    hf_name,
)
from redraft.weights.gguf.rope import (
    MOST_TOKENS,
    Rope,
    positive,
    rope_from_config,
    rope_from_metadata,
    rope_in_config,
    rope_metadata,
    shortest,
)

# The values that transformers takes where config.json is silent (configuration_*.py of each family).
_EPS, _THETA, _QWEN3_HEAD, _MISTRAL_WINDOW = 1e-6, 10000.0, 128, 4096


@dataclass(frozen=True)
class ModelNumbers:
    """The numbers of a model.

    Attributes:
        family: The architecture.
        layers: `num_hidden_layers`.
        width: `hidden_size`.
        inner: `intermediate_size`.
        heads: `num_attention_heads`.
        kv_heads: `num_key_value_heads`.
        head: Elements of a head.
        vocabulary: Rows of the embedding.
        context: `max_position_embeddings`, in tokens.
        eps: `rms_norm_eps`.
        rope: Base and scaling of the rotary embedding.
        tied: Whether the output matrix is the embedding.
        attention_bias: Whether q, k, v and o have biases (Llama).
        mlp_bias: Whether the three matrices of the MLP have biases (Llama).
    """

    family: Family
    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    context: int
    eps: float
    rope: Rope
    tied: bool
    attention_bias: bool = False
    mlp_bias: bool = False

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Every tensor that such a model has: its name in GGUF and its shape, rows first as in torch."""
        yield "token_embd.weight", (self.vocabulary, self.width)
        for layer in range(self.layers):
            for name, shape in self._block():
                yield f"blk.{layer}.{name}", shape
        yield "output_norm.weight", (self.width,)
        if not self.tied:
            yield "output.weight", (self.vocabulary, self.width)

    def _block(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        q, kv = self.heads * self.head, self.kv_heads * self.head
        yield "attn_norm.weight", (self.width,)
        for name, rows in (("attn_q", q), ("attn_k", kv), ("attn_v", kv)):
            yield f"{name}.weight", (rows, self.width)
            if self.family.bias or self.attention_bias:
                yield f"{name}.bias", (rows,)
        if self.family.head_norm:
            yield "attn_q_norm.weight", (self.head,)
            yield "attn_k_norm.weight", (self.head,)
        yield "attn_output.weight", (self.width, q)
        if self.attention_bias:
            yield "attn_output.bias", (self.width,)
        yield "ffn_norm.weight", (self.width,)
        inner, width = self.inner, self.width
        for name, shape in (("gate", (inner, width)), ("up", (inner, width)), ("down", (width, inner))):
            yield f"ffn_{name}.weight", shape
            if self.mlp_bias:
                yield f"ffn_{name}.bias", shape[:1]


def numbers_from_config(config: Mapping[str, Any]) -> ModelNumbers:
    """Reads and checks a config.json.

    Raises:
        ModelError: Another architecture, a number that is missing or cannot be, or a feature that GGUF lacks.
    """
    family = family_of(config)
    read = _Numbers(config, "config.json")
    heads, width = read.whole("num_attention_heads"), read.whole("hidden_size")
    head = read.whole("head_dim", _QWEN3_HEAD if family is QWEN3 else width // heads)
    if (act := config.get("hidden_act", "silu")) not in ("silu", "swish"):
        raise ModelError(f"config.json says hidden_act {act!r:.40}; GGUF has silu here.", hint=OTHER_TOOL)
    if family is not LLAMA and config.get("attention_bias") and not family.bias:
        raise ModelError(
            f"config.json says attention_bias, which llama.cpp's {family.gguf} lacks.",
            hint=OTHER_TOOL,
        )
    context = "max_position_embeddings" if "max_position_embeddings" in config else "max_sequence_length"
    return _checked(
        ModelNumbers(
            family,
            layers=read.whole("num_hidden_layers"),
            width=width,
            inner=read.whole("intermediate_size"),
            heads=heads,
            kv_heads=read.whole("num_key_value_heads", heads),
            head=head,
            vocabulary=read.whole("vocab_size"),
            context=read.whole(context),
            eps=read.real("rms_norm_eps", _EPS),
            rope=rope_from_config(config, family, head),
            tied=config.get("tie_word_embeddings") is True,
            attention_bias=family is LLAMA and config.get("attention_bias") is True,
            mlp_bias=family is LLAMA and config.get("mlp_bias") is True,
        )
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
    said: dict[str, int | float | str] = {
        "block_count": numbers.layers,
        "context_length": numbers.context,
        "embedding_length": numbers.width,
        "feed_forward_length": numbers.inner,
        "attention.head_count": numbers.heads,
        "attention.head_count_kv": numbers.kv_heads,
        "attention.layer_norm_rms_epsilon": numbers.eps,
        "attention.key_length": numbers.head,
        "attention.value_length": numbers.head,
        "vocab_size": numbers.vocabulary,
        "rope.dimension_count": numbers.head,
        **rope_metadata(numbers.rope),
    }
    return {f"{numbers.family.gguf}.{key}": value for key, value in said.items()}


def numbers_from_metadata(
    metadata: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
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
    read = _Numbers(
        {
            key.removeprefix(prefix): shortest(value) if isinstance(value, float) else value
            for key, value in metadata.items()
            if key.startswith(prefix)
        },
        "the GGUF file",
    )
    if read.values.get("expert_count"):
        raise ModelError("the GGUF file is a mixture of experts, which has no way back to a folder here.")
    heads, width = read.whole("attention.head_count"), read.whole("embedding_length")
    head = read.whole("attention.key_length", width // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if (other := read.whole(key, head)) != head:
            raise ModelError(f"the GGUF file says {prefix}{key} {other}, and its heads have {head} elements.")
    return _checked(
        ModelNumbers(
            family,
            layers=read.whole("block_count"),
            width=width,
            inner=read.whole("feed_forward_length"),
            heads=heads,
            kv_heads=read.whole("attention.head_count_kv", heads),
            head=head,
            vocabulary=shapes.get("token_embd.weight", (0,))[0],
            context=read.whole("context_length"),
            eps=read.real("attention.layer_norm_rms_epsilon"),
            rope=rope_from_metadata(read.values, rope_factors, head),
            tied="output.weight" not in shapes,
            attention_bias=not family.bias and "blk.0.attn_q.bias" in shapes,
            mlp_bias="blk.0.ffn_gate.bias" in shapes,
        )
    )


def config_of(numbers: ModelNumbers, dtype: str) -> dict[str, Any]:
    """A config.json that says these numbers.

    Args:
        numbers: What the model is.
        dtype: As torch names it: float32, float16 or bfloat16.
    """
    config: dict[str, Any] = {
        "architectures": [numbers.family.architecture],
        "model_type": numbers.family.model_type,
        "dtype": dtype,
        "vocab_size": numbers.vocabulary,
        "hidden_size": numbers.width,
        "intermediate_size": numbers.inner,
        "num_hidden_layers": numbers.layers,
        "num_attention_heads": numbers.heads,
        "num_key_value_heads": numbers.kv_heads,
        "head_dim": numbers.head,
        "hidden_act": "silu",
        "max_position_embeddings": numbers.context,
        "rms_norm_eps": numbers.eps,
        "rope_parameters": rope_in_config(numbers.rope),
        "tie_word_embeddings": numbers.tied,
    }
    if numbers.family is LLAMA:
        config |= {"attention_bias": numbers.attention_bias, "mlp_bias": numbers.mlp_bias}
    return config


def check_tensors(
    numbers: ModelNumbers, found: Mapping[str, tuple[int, ...]], where: str, *, in_hf: bool
) -> None:
    """Holds tensors against what the numbers say: all there, no others, each of its shape.

    Args:
        numbers: What the model is.
        found: Shapes by name in GGUF, rows first.
        where: The file or folder, for the message.
        in_hf: Whether the message should call the tensors as Hugging Face does.

    Raises:
        ModelError: They do not fit.
    """

    def called(name: str) -> str:
        return (hf_name(name) if in_hf else None) or name

    # One after the other: a configuration may claim a billion layers.
    for name, shape in numbers.tensors():
        if name not in found:
            raise ModelError(f"{where} lacks {called(name)}, which its configuration needs.")
        if found[name] != shape:
            raise ModelError(
                f"{where}: {called(name)} has the shape {_by(found[name])}, "
                f"and its configuration says {_by(shape)}."
            )
    unknown = [called(name) for name in found.keys() - {name for name, _ in numbers.tensors()}]
    if unknown:
        raise ModelError(
            f"{where} has tensors that no {numbers.family.architecture} has: {_some(unknown)}.",
            hint=OTHER_TOOL if in_hf else None,
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(f"{name:.80}" for name in sorted(names)[:3]) + more


def _by(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _checked(numbers: ModelNumbers) -> ModelNumbers:
    if numbers.head % 2 or numbers.heads % numbers.kv_heads:
        raise ModelError(
            f"{numbers.heads} heads of {numbers.head} elements with {numbers.kv_heads} key-value heads "
            "cannot be: heads have an even size, and are a multiple of the key-value heads."
        )
    return numbers


@dataclass(frozen=True)
class _Numbers:
    """Numbers by key, from somebody else's file. A null counts as missing, as transformers has it."""

    values: Mapping[str, Any]
    where: str

    def whole(self, key: str, default: int | None = None) -> int:
        value = self._value(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < MOST_TOKENS:
            raise ModelError(f"{self.where} says {key} {value!r:.40}, which is no whole number above 0.")
        return value

    def real(self, key: str, default: float | None = None) -> float:
        return positive(self._value(key, default), f"{key} of {self.where}")

    def _value(self, key: str, default: float | None) -> Any:
        value = self.values.get(key)
        if value is None and default is None:
            raise ModelError(f"{self.where} does not say {key}.")
        return default if value is None else value
