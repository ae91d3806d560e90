"""Maps tensor names between Hugging Face folders and GGUF files, and permutes the rows of q and k.

Four architectures have nearly the same blocks: Llama, Mistral, Qwen2, Qwen3. GGUF treats Llama and Mistral as
one, "llama", and interleaves the rotary halves of each head, which is the permutation here. The heads of Qwen
are not permuted. Sources: llama.cpp's conversion/llama.py and conversion/qwen.py, and the tables of the gguf
package (tensor_mapping.py).

Other architectures, mixtures of experts and vision models are refused, with the name of a tool that supports
them. `sizes` and `config` read the rest of config.json.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from redraft.errors import ModelError
from redraft.weights.header import NotHandled

OTHER_TOOL = "llama.cpp's convert_hf_to_gguf.py supports many more: python convert_hf_to_gguf.py FOLDER"

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
# The spelling of the first conversions of LLaMA to Hugging Face's format.
_OLD = {"LLaMAForCausalLM": LLAMA}
_NESTED = ("text_config", "vision_config", "audio_config")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


def family_of(config: Mapping[str, Any]) -> Family:
    """Return the architecture of a config.json, by `architectures` or else `model_type`."""
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
    """Return the architecture for a GGUF file's `general.architecture`; "llama" becomes Llama."""
    for family in FAMILIES:
        if family.gguf == architecture:
            return family
    hint = "Look for the model's original folder on the hub: its card names it."
    why = "cannot be converted to a folder; llama, qwen2 and qwen3 can"
    raise NotHandled(f"the GGUF architecture {architecture!r:.80} {why}.", hint=hint)


def gguf_name(hf_name: str) -> str | None:
    """Convert `model.layers.3.self_attn.q_proj.weight` to `blk.3.attn_q.weight`; None for other names."""
    return _renamed(hf_name, _HF_BLOCK, _BLOCK, _TOP, "blk")


def hf_name(gguf_name: str) -> str | None:
    """Convert `blk.3.attn_q.weight` to `model.layers.3.self_attn.q_proj.weight`; None for other names."""
    return _renamed(gguf_name, _GGUF_BLOCK, _BLOCK_BACK, _TOP_BACK, "model.layers")


def permuted_heads(family: Family, gguf_name: str, heads: int, kv_heads: int) -> int:
    """Return the number of heads in which GGUF permutes the rows of a weight or bias, or 0."""
    found = _Q_OR_K.fullmatch(gguf_name)
    if not found or not family.permuted:
        return 0
    return heads if found[1] == "q" else kv_heads


def permute(rows: Array, heads: int) -> Array:
    """Reorder rows for GGUF: in each head, rows i and d/2 + i become rows 2i and 2i + 1.

    `rows` is a weight, a bias, or the B of a LoRA pair, of shape (heads · d, …), d even.
    """
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def unpermute(rows: Array, heads: int) -> Array:
    """Reorder rows for Hugging Face: the inverse of `permute`."""
    return rows.reshape(heads, -1, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def _renamed(
    name: str, block: re.Pattern[str], inside: Mapping[str, str], top: Mapping[str, str], prefix: str
) -> str | None:
    part = _PART.fullmatch(name)
    if not part:
        return None
    module, kind = part.groups()
    found = block.fullmatch(module)
    if not found:
        return f"{top[module]}.{kind}" if module in top else None
    number, within = found.groups()
    return f"{prefix}.{number}.{inside[within]}.{kind}" if within in inside else None


def _refused(what: str) -> ModelError:
    can = "Llama, Mistral, Qwen2 and Qwen3 can"
    return NotHandled(f"{what} cannot be converted to GGUF; {can}.", hint=OTHER_TOOL)
