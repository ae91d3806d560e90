"""Describe the architectures that can be converted: sizes, and names, shapes and row order of tensors.

Four architectures have nearly the same blocks: Llama, Mistral, Qwen2, Qwen3. In GGUF, Llama and Mistral are
the same architecture, "llama", with interleaved rotary halves in each head (`permute`). Qwen's heads are not
permuted. Sources: llama.cpp's conversion/llama.py and conversion/qwen.py, and the tables of the gguf package
(tensor_mapping.py).

For other architectures, mixtures of experts and vision models, the error names a tool that converts such
models. For other settings of a model, see `config`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from redraft.errors import ModelError
from redraft.weights.header import by

OTHER_TOOL = "llama.cpp's convert_hf_to_gguf.py supports more models: python convert_hf_to_gguf.py FOLDER"

_TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_BLOCK = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_TOP_BACK = {theirs: ours for ours, theirs in _TOP.items()}
_BLOCK_BACK = {theirs: ours for ours, theirs in _BLOCK.items()}
_HF_BLOCK = re.compile(r"model\.layers\.(0|[1-9][0-9]{0,5})\.(.+)")
_GGUF_BLOCK = re.compile(r"blk\.(0|[1-9][0-9]{0,5})\.(.+)")
_PART = re.compile(r"(.+)\.(weight|bias)")
_Q_OR_K = re.compile(r"blk\.\d+\.attn_([qk])\.(?:weight|bias)")

Array = TypeVar("Array", "np.ndarray[Any, Any]", torch.Tensor)

Shape = tuple[int, ...]

LEAST, MOST = 1e-37, 1e37  # the range in which float32 has its full precision

MOST_TOKENS = 1 << 31

_QWEN3_HEAD = 128  # transformers' default (configuration_qwen3.py)
_LAYER = re.compile(r"blk\.([0-9]{1,6})\.")


@dataclass(frozen=True)
class Family:
    """A supported architecture."""

    architecture: str  # the name in `architectures` of config.json
    model_type: str
    gguf: str  # the name in `general.architecture` of a GGUF file; also the prefix of its keys
    permuted: bool = False  # whether GGUF permutes the rows of q and k
    bias: bool = False  # whether q, k and v always have biases
    head_norm: bool = False  # whether q and k are normalised per head


LLAMA = Family("LlamaForCausalLM", "llama", "llama", permuted=True)
MISTRAL = Family("MistralForCausalLM", "mistral", "llama", permuted=True)
QWEN2 = Family("Qwen2ForCausalLM", "qwen2", "qwen2", bias=True)
QWEN3 = Family("Qwen3ForCausalLM", "qwen3", "qwen3", head_norm=True)
FAMILIES = (LLAMA, MISTRAL, QWEN2, QWEN3)
_OLD = {"LLaMAForCausalLM": LLAMA}  # the spelling of the first conversions to Hugging Face's format
_NESTED = ("text_config", "vision_config", "audio_config")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


def family_of(config: Mapping[str, Any]) -> Family:
    """Return the architecture that a config.json names in `architectures` or, if missing, in `model_type`."""
    named = config.get("architectures")
    first = named[0] if isinstance(named, list) and named else None
    known = {family.architecture: family for family in FAMILIES} | _OLD
    by_type = {family.model_type: family for family in FAMILIES}
    found = known.get(str(first)) if first is not None else by_type.get(str(config.get("model_type")))
    if found is None:
        raise _refused(f"the architecture {first or config.get('model_type')!r:.80}")
    for key in _EXPERTS:
        if config.get(key):
            raise _refused(f"a mixture of experts ({key} is {config[key]!r:.20})")
    for key in _NESTED:
        if config.get(key):
            raise _refused(f"a model of several parts (config.json has {key})")
    return found


def family_in_gguf(architecture: object) -> Family:
    """Return the architecture for a GGUF file's `general.architecture`."""
    for family in FAMILIES:  # Llama comes before Mistral, which GGUF also calls "llama"
        if family.gguf == architecture:
            return family
    hint = "Use the folder that the GGUF file was made from: the model card on the hub names the folder."
    why = "cannot be converted to a folder; llama, qwen2 and qwen3 can"
    raise ModelError(f"the GGUF architecture {architecture!r:.80} {why}.", hint=hint)


def gguf_name(hf_name: str) -> str | None:
    """Convert `model.layers.3.self_attn.q_proj.weight` to `blk.3.attn_q.weight`, unknown names to None."""
    return _renamed(hf_name, _HF_BLOCK, _BLOCK, _TOP, "blk")


def hf_name(gguf_name: str) -> str | None:
    """Convert `blk.3.attn_q.weight` to `model.layers.3.self_attn.q_proj.weight`, unknown names to None."""
    return _renamed(gguf_name, _GGUF_BLOCK, _BLOCK_BACK, _TOP_BACK, "model.layers")


def permuted_heads(family: Family, gguf_name: str, heads: int, kv_heads: int) -> int:
    """Return the number of heads if GGUF permutes the tensor's rows within each head, otherwise 0."""
    found = _Q_OR_K.fullmatch(gguf_name)
    if not found or not family.permuted:
        return 0
    return heads if found[1] == "q" else kv_heads


def permute(rows: Array, heads: int) -> Array:
    """Reorder rows for GGUF: in each head, rows i and d/2 + i become rows 2i and 2i + 1.

    `rows` is a weight, a bias, or the B of a LoRA pair, of shape (heads · d, …), where d is even.
    """
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def unpermute(rows: Array, heads: int) -> Array:
    """Reorder rows for Hugging Face: the inverse of `permute`."""
    return rows.reshape(heads, -1, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def _renamed(
    name: str, block: re.Pattern[str], inside: Mapping[str, str], top: Mapping[str, str], prefix: str
) -> str | None:
    if not (part := _PART.fullmatch(name)):
        return None
    module, kind = part.groups()
    if not (found := block.fullmatch(module)):
        return f"{top[module]}.{kind}" if module in top else None
    number, within = found.groups()
    return f"{prefix}.{number}.{inside[within]}.{kind}" if within in inside else None


def _refused(what: str) -> ModelError:
    can = "Llama, Mistral, Qwen2 and Qwen3 can"
    return ModelError(f"{what} cannot be converted to GGUF; {can}.", hint=OTHER_TOOL)


@dataclass(frozen=True)
class Sizes:
    """The numbers that determine the names and shapes of a model's tensors."""

    family: Family
    layers: int  # `num_hidden_layers`
    width: int  # `hidden_size`
    inner: int  # `intermediate_size`
    heads: int
    kv_heads: int
    head: int  # elements of a head
    vocabulary: int  # rows of the embedding
    tied: bool  # whether the output matrix is the embedding
    attention_bias: bool = False  # whether q, k, v and o have biases
    mlp_bias: bool = False

    def __post_init__(self) -> None:
        if self.head % 2 or self.heads % self.kv_heads:
            found = f"head count {self.heads}, head size {self.head} and key-value head count {self.kv_heads}"
            rule = "The head size must be even. The number of key-value heads must divide the number of heads"
            raise ModelError(f"a model cannot have {found}. {rule}.")

    def tensors(self, layers: Iterable[int] | None = None) -> Iterator[tuple[str, Shape]]:
        """Yield GGUF name and shape (rows first) of each tensor. `layers` selects layers (default: all)."""
        yield "token_embd.weight", (self.vocabulary, self.width)
        for layer in range(self.layers) if layers is None else layers:
            for name, shape in self._block():
                yield f"blk.{layer}.{name}", shape
        yield "output_norm.weight", (self.width,)
        if not self.tied:
            yield "output.weight", (self.vocabulary, self.width)

    def _block(self) -> Iterator[tuple[str, Shape]]:
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


def sizes_from_config(config: Mapping[str, Any]) -> Sizes:
    """Read and check the sizes in a config.json."""
    family = family_of(config)
    read = Numbers(config, "config.json")
    heads, width = read.whole("num_attention_heads"), read.whole("hidden_size")
    return Sizes(
        family,
        layers=read.whole("num_hidden_layers"),
        width=width,
        inner=read.whole("intermediate_size"),
        heads=heads,
        kv_heads=read.whole("num_key_value_heads", heads),
        head=_head(read, "head_dim", width, heads, _QWEN3_HEAD if family is QWEN3 else None),
        vocabulary=read.whole("vocab_size"),
        tied=config.get("tie_word_embeddings") is True,
        attention_bias=family in (LLAMA, QWEN3) and config.get("attention_bias") is True,
        mlp_bias=family is LLAMA and config.get("mlp_bias") is True,
    )


def sizes_from_metadata(read: Numbers, family: Family, shapes: Mapping[str, Shape]) -> Sizes:
    """Read and check the sizes of a GGUF model. Keys in `read` lack the architecture's prefix."""
    heads, width = read.whole("attention.head_count"), read.whole("embedding_length")
    return Sizes(
        family,
        layers=read.whole("block_count"),
        width=width,
        inner=read.whole("feed_forward_length"),
        heads=heads,
        kv_heads=read.whole("attention.head_count_kv", heads),
        head=_head(read, "attention.key_length", width, heads),
        vocabulary=next(iter(shapes.get("token_embd.weight", ())), 0),
        tied="output.weight" not in shapes,
        attention_bias=family is LLAMA and "blk.0.attn_q.bias" in shapes,
        mlp_bias=family is LLAMA and "blk.0.ffn_gate.bias" in shapes,
    )


def _head(read: Numbers, key: str, width: int, heads: int, usual: int | None = None) -> int:
    if usual is None and read.values.get(key) is None and width % heads:
        fault = f"which is not a multiple of its {heads} attention heads"
        raise ModelError(f"{read.where} sets hidden size {width}, {fault}.")
    return read.whole(key, usual or width // heads)


def layers_of(names: Iterable[str]) -> set[int]:
    """Return the layer indices that occur in GGUF tensor names."""
    return {int(match[1]) for name in names if (match := _LAYER.match(name))}


def check_tensors(sizes: Sizes, found: Mapping[str, Shape], where: str, *, in_hf: bool) -> None:
    """Raise unless the model in `where` has exactly the tensors that `sizes` describes.

    `found` maps GGUF names to shapes, rows first. If `in_hf`, messages use Hugging Face's names.
    """

    def called(name: str) -> str:
        return (hf_name(name) if in_hf else None) or name

    layers = layers_of(found)
    misfit, last = "", max(layers, default=-1)
    expected = dict(sizes.tensors(sorted(layers)))  # not all: a configuration may state a billion layers
    if len(layers) != sizes.layers or last >= sizes.layers:
        there = f"{len(layers)} (the highest index is {last})" if layers else "0"
        misfit = f"the configuration has layers 0 to {sizes.layers - 1}, but the weights have {there}"
    elif wrong := next((name for name, shape in expected.items() if found.get(name) != shape), None):
        misfit = f"{called(wrong)} is missing"
        if wrong in found:
            says = f"the configuration says {by(expected[wrong])}"
            misfit = f"{called(wrong)} is {by(found[wrong])}, but {says}"
    if misfit:
        raise ModelError(f"{where} does not fit its configuration: {misfit}.")
    if unknown := sorted(called(name) for name in found.keys() - expected.keys()):
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        some = ", ".join(f"{name!r:.80}" for name in unknown[:3])
        message = f"{where} has tensors that no {sizes.family.architecture} has: {some}{more}."
        raise ModelError(message, hint=OTHER_TOOL if in_hf else None)


@dataclass(frozen=True)
class Numbers:
    """Untrusted numbers by key. A value of None counts as missing."""

    values: Mapping[str, Any]
    where: str

    def whole(self, key: str, default: int | None = None) -> int:
        """Return a key's value, or `default` if missing. Raise unless the value is a positive integer."""
        value = self._value(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < MOST_TOKENS:
            raise ModelError(f"{self.where} sets {key} {value!r:.40}, which is not a positive whole number.")
        return value

    def real(self, key: str, default: float | None = None) -> float:
        """Return a key's value, or `default` if missing. Raise unless the value is a positive number."""
        return positive(self._value(key, default), f"{key} of {self.where}")

    def _value(self, key: str, default: float | None) -> Any:
        value = self.values.get(key)
        if value is None and default is None:
            raise ModelError(f"{self.where} does not set {key}.")
        return default if value is None else value


def shortest(value: float) -> float:
    """Return the shortest decimal that rounds to the same float32: 1e-05, not 9.999999747378752e-06."""
    with np.errstate(over="ignore"):  # a float64 may become infinite, and is refused later
        return float(str(np.float32(value)))


def positive(value: Any, what: str) -> float:
    """Return `value` if it is a number between `LEAST` and `MOST`. Otherwise raise an error about `what`."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not LEAST < value < MOST:
        raise ModelError(f"{what} is {value!r:.40}, which is not a positive number of a sensible size.")
    return float(value)
