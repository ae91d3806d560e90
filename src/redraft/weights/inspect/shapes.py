"""What tensors a model of the Llama family must have, by its config.json, and in which shapes.

Known are Llama, Mistral, Qwen2 and Qwen3. Of other models, of quantised ones and of adapters nothing is
expected.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

Shape = tuple[int, ...]

_FAMILY = {"llama", "mistral", "qwen2", "qwen3"}
_LAYER = re.compile(r"model\.layers\.(\d{1,6})\.")
_SIZES = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "vocab_size")
_MAYBE = ("num_key_value_heads", "head_dim")


def misfits(shapes: Mapping[str, Shape], config: Mapping[str, Any]) -> Iterator[str]:
    """What is missing or has another shape than config.json says, a line each.

    Args:
        shapes: Of all tensors, by name.
        config: The content of config.json.
    """
    if config.get("model_type") not in _FAMILY or config.get("quantization_config"):
        return
    given = [key for key in _MAYBE if config.get(key) is not None]
    odd = [key for key in (*_SIZES, *given) if not _is_size(config.get(key))]
    if odd:
        yield from (f"config.json: {key} is {config.get(key)!r:.40}" for key in odd)
        return
    layers = {int(found[1]) for name in shapes if (found := _LAYER.match(name))}
    count = config["num_hidden_layers"]
    if layers and (len(layers) != count or max(layers) != count - 1):
        yield f"config.json says {count:,} layers, and there are {len(layers):,}, up to {max(layers):,}"
    for name, shape in _expected(config, sorted(layers)):
        if name not in shapes:
            yield f"{name!r} is missing"
        elif shapes[name] != shape:
            yield f"{name!r} is {_words(shapes[name])}, and config.json says {_words(shape)}"


def _expected(config: Mapping[str, Any], layers: list[int]) -> Iterator[tuple[str, Shape]]:
    width, rows = config["hidden_size"], config["vocab_size"]
    yield "model.embed_tokens.weight", (rows, width)
    yield "model.norm.weight", (width,)
    if not config.get("tie_word_embeddings", False):
        yield "lm_head.weight", (rows, width)
    for layer in layers:
        for name, shape in _layer(config).items():
            yield f"model.layers.{layer}.{name}.weight", shape


def _layer(config: Mapping[str, Any]) -> dict[str, Shape]:
    width, inner = config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"]
    size = config.get("head_dim") or width // heads
    queries, keys = heads * size, (config.get("num_key_value_heads") or heads) * size
    return {
        "self_attn.q_proj": (queries, width),
        "self_attn.k_proj": (keys, width),
        "self_attn.v_proj": (keys, width),
        "self_attn.o_proj": (width, queries),
        "mlp.gate_proj": (inner, width),
        "mlp.up_proj": (inner, width),
        "mlp.down_proj": (width, inner),
        "input_layernorm": (width,),
        "post_attention_layernorm": (width,),
    }


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 40


def _words(shape: Shape) -> str:
    return " × ".join(map(str, shape)) or "a single number"
