"""Tiny random models of many kinds, and packed rows for them."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import Tensor

from redraft.train.batches import IGNORED
from tests.train.tiny import SHAPE

VOCABULARY = 64
WINDOW = 5  # for kinds with a window: shorter than the longest example

KINDS: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Qwen2": {},
    "Qwen3": {},
    "Mistral": {"sliding_window": WINDOW},
    "Gemma2": {"sliding_window": WINDOW, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 2.0},
    "Gemma3Text": {"sliding_window": WINDOW},
}

EXPERTS: dict[str, Any] = {
    "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "router_aux_loss_coef": 1.0,
}  # fmt: skip
"""For Qwen3Moe: its loss for balancing experts would weigh as much as that of the tokens."""

LENGTHS = (11, 1, 7, 30)


class Row(NamedTuple):
    examples: list[Tensor]
    input_ids: Tensor
    position_ids: Tensor
    labels: Tensor


def tiny(kind: str = "Llama", **changes: Any) -> Any:
    torch.manual_seed(3)
    said = {
        "vocab_size": VOCABULARY,
        **SHAPE,
        "head_dim": 8, "max_position_embeddings": 128, "initializer_range": 0.3, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    config = getattr(transformers, f"{kind}Config")(**said | KINDS.get(kind, {}) | changes)
    return getattr(transformers, f"{kind.removesuffix('Text')}ForCausalLM")(config).eval()


def adapted(model: Any, **changes: Any) -> Any:
    config = LoraConfig(init_lora_weights=False, **{"target_modules": "all-linear", **changes})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return get_peft_model(model, config)


def gradients_of(model: Any) -> dict[str, Tensor]:
    return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


def packed(lengths: tuple[int, ...] = LENGTHS, *, seed: int = 5) -> Row:
    torch.manual_seed(seed)
    examples = [torch.randint(3, VOCABULARY, (1, length)) for length in lengths]
    labels = [each.clone() for each in examples]
    for each in labels:
        each[:, : max(1, each.shape[1] // 3)] = IGNORED
    positions = [torch.arange(length)[None] for length in lengths]
    return Row(examples, torch.cat(examples, 1), torch.cat(positions, 1), torch.cat(labels, 1))
