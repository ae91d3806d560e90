"""How large a model is, and so which tensors it has and of which shapes; by either side's numbers.

One generator says what is amiss between numbers and tensors: `verify` lists all of it, a conversion stops at
the first. What a model computes with beyond its sizes is in `config`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from redraft.errors import ModelError
from redraft.weights.gguf.names import LLAMA, OTHER_TOOL, QWEN3, Family, family_of, hf_name
from redraft.weights.gguf.rope import MOST_TOKENS, positive

Shape = tuple[int, ...]

COMPUTED = ".rotary_emb.inv_freq"
"""What checkpoints of old versions of transformers hold beside weights: it is computed from config.json."""

_QWEN3_HEAD = 128  # what transformers takes where config.json is silent (configuration_qwen3.py)
_LAYER = re.compile(r"blk\.([0-9]{1,6})\.")


@dataclass(frozen=True)
class Sizes:
    """The numbers of a model that its tensors follow from.

    Attributes:
        family: The architecture.
        layers: `num_hidden_layers`.
        width: `hidden_size`.
        inner: `intermediate_size`.
        heads: `num_attention_heads`.
        kv_heads: `num_key_value_heads`.
        head: Elements of a head.
        vocabulary: Rows of the embedding.
        tied: Whether the output matrix is the embedding.
        attention_bias: Whether q, k, v and o have biases.
        mlp_bias: Whether the three matrices of the MLP have biases.
    """

    family: Family
    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    tied: bool
    attention_bias: bool = False
    mlp_bias: bool = False

    def __post_init__(self) -> None:
        if self.head % 2 or self.heads % self.kv_heads:
            raise ModelError(
                f"{self.heads} heads of {self.head} elements with {self.kv_heads} key-value heads "
                "cannot be: heads have an even size, and are a multiple of the key-value heads."
            )

    def tensors(self, layers: Iterable[int] | None = None) -> Iterator[tuple[str, Shape]]:
        """Every tensor that such a model has, or those of some of its layers.

        Yields:
            Its name in GGUF and its shape, rows first as in torch.
        """
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
    """Reads and checks the sizes in a config.json.

    Raises:
        ModelError: Another architecture, or a number that is missing or cannot be.
    """
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
    """Reads and checks the sizes in a GGUF file.

    Args:
        read: The keys of its architecture, without that name.
        family: The architecture.
        shapes: The shapes of its tensors, rows first.

    Raises:
        ModelError: A number is missing or cannot be.
    """
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
    """Elements of a head: as the file says, or as many as there are for each head.

    Raises:
        ModelError: The file does not say, and the heads do not divide the width.
    """
    if usual is None and read.values.get(key) is None and width % heads:
        raise ModelError(
            f"{read.where} says hidden size {width}, which its {heads} attention heads do not divide."
        )
    return read.whole(key, usual or width // heads)


def misfits(sizes: Sizes, found: Mapping[str, Shape], *, in_hf: bool) -> Iterator[str]:
    """What a model lacks, or has in another shape than its configuration says: each in words.

    Of layers, those are looked at that there are: a configuration may claim a billion.

    Args:
        sizes: What the configuration says.
        found: Shapes by name in GGUF, rows first.
        in_hf: Whether the words should call the tensors as Hugging Face does.
    """
    layers = layers_of(found)
    last = max(layers, default=-1)
    if len(layers) != sizes.layers or last >= sizes.layers:
        there = f"{len(layers)}, up to {last}" if layers else "none"
        yield f"the configuration says layers 0 to {sizes.layers - 1}, and there are {there}"
    for name, shape in sizes.tensors(sorted(layers)):
        if name not in found:
            yield f"{_called(name, in_hf=in_hf)} is missing"
        elif found[name] != shape:
            is_so = f"{_called(name, in_hf=in_hf)} is {by(found[name])}"
            yield f"{is_so}, and the configuration says {by(shape)}"


def layers_of(names: Iterable[str]) -> set[int]:
    """The layers that tensors belong to, by their names in GGUF."""
    return {int(match[1]) for name in names if (match := _LAYER.match(name))}


def check_tensors(sizes: Sizes, found: Mapping[str, Shape], where: str, *, in_hf: bool) -> None:
    """Sees that all tensors of a model are there, and no others, each of its shape.

    Args:
        sizes: What its configuration says.
        found: Shapes by name in GGUF, rows first.
        where: The file or folder, for the message.
        in_hf: Whether the message should call the tensors as Hugging Face does.

    Raises:
        ModelError: They do not fit.
    """
    for misfit in misfits(sizes, found, in_hf=in_hf):
        raise ModelError(f"{where} does not fit its configuration: {misfit}.")
    if more := surplus(sizes, found, in_hf=in_hf):
        raise ModelError(f"{where} has {more}.", hint=OTHER_TOOL if in_hf else None)


def surplus(sizes: Sizes, found: Mapping[str, Shape], *, in_hf: bool) -> str:
    """The tensors that such a model does not have, in words; empty where there are none.

    Args:
        sizes: What the configuration says.
        found: Shapes by name in GGUF.
        in_hf: Whether the words should call the tensors as Hugging Face does.
    """
    unknown = found.keys() - {name for name, _ in sizes.tensors(sorted(layers_of(found)))}
    called = [_called(name, in_hf=in_hf) for name in unknown]
    return f"tensors that no {sizes.family.architecture} has: {_some(called)}" if called else ""


def by(shape: Shape) -> str:
    """A shape in words."""
    return " × ".join(map(str, shape)) or "a single number"


@dataclass(frozen=True)
class Numbers:
    """Numbers by key, from somebody else's file. A null counts as missing, as transformers has it."""

    values: Mapping[str, Any]
    where: str

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number above 0.

        Raises:
            ModelError: It is missing, or something else.
        """
        value = self._value(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < MOST_TOKENS:
            raise ModelError(f"{self.where} says {key} {value!r:.40}, which is no whole number above 0.")
        return value

    def real(self, key: str, default: float | None = None) -> float:
        """A number above 0.

        Raises:
            ModelError: It is missing, or something else.
        """
        return positive(self._value(key, default), f"{key} of {self.where}")

    def _value(self, key: str, default: float | None) -> Any:
        value = self.values.get(key)
        if value is None and default is None:
            raise ModelError(f"{self.where} does not say {key}.")
        return default if value is None else value


def _called(name: str, *, in_hf: bool) -> str:
    return (hf_name(name) if in_hf else None) or name


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(f"{name!r:.80}" for name in sorted(names)[:3]) + more
