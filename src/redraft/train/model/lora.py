"""Add adapters with peft: small trained matrices beside a model's own weights (LoRA, Hu et al. 2021).

`default_method` chooses between an adapter and the whole model if the settings do not.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel

from redraft.errors import UsageError
from redraft.train.settings.options import RunOptions

ALL = "all-linear"  # every linear layer except the head

_FULL, _BF16, _FOUR = 16.0, 2.0, 0.6
"""Bytes per parameter: 32-bit weight, gradient and AdamW's two moments; a bf16 weight; an NF4 weight with its
scales (0.52 in Dettmers et al. 2023, plus what is not quantised)."""

_FOR_ACTIVATIONS = 0.75  # the share of a GPU's memory for the above. The rest is for activations.


class Method(NamedTuple):
    """What to train, and the reason."""

    lora: bool
    four_bits: bool
    why: str


def default_method(parameters: int, gpu_bytes: int | None, *, can_four_bits: bool) -> Method:
    """Return what to train by default: the whole model if it fits a GPU, else an adapter.

    Args:
        gpu_bytes: Memory of the GPU, or of all that share the model; None without a GPU.
    """
    if gpu_bytes is None:
        return Method(lora=True, four_bits=False, why="no GPU is used")
    room = gpu_bytes * _FOR_ACTIVATIONS
    full = parameters * _FULL
    asks = (
        f"full training takes {full / 1e9:.1f} GB before activations, and the GPU has {gpu_bytes / 1e9:.0f}"
    )
    if full <= room:
        return Method(lora=False, four_bits=False, why=asks)
    four_bits = parameters * _BF16 > room and can_four_bits
    return Method(lora=True, four_bits=four_bits, why=asks)


@dataclass
class _Config(LoraConfig):
    """peft's config, with redraft's notes on the result, which peft ignores."""

    redraft_format: str | None = field(default=None)
    redraft_reward: dict[str, Any] | None = field(default=None)


def add_adapter(
    model: PreTrainedModel,
    own: RunOptions,
    *,
    task: str = "CAUSAL_LM",
    note: Mapping[str, Any],
    whole_vocabulary: bool = False,
) -> PeftModel:
    """Add an adapter to a model, in 32 bits, and freeze everything else.

    Its initial values are random: seed torch before.

    Args:
        own: The settings: `lora_*`, and the name of the base model for the adapter's config.
        task: The task, in peft's words. Of SEQ_CLS the whole head is trained too.
        note: `redraft_format` if it learns chains, or `redraft_reward`.
        whole_vocabulary: Save the vocabulary's matrices too, because rows were added.
    """
    _check_layers(model, own.lora_target_modules)
    if getattr(model, "is_quantized", False):
        model = prepare_model_for_kbit_training(  # type: ignore[no-untyped-call]
            model, use_gradient_checkpointing=False
        )
    config = _Config(
        r=own.lora_r,
        lora_alpha=own.lora_alpha,  # type: ignore[arg-type]  # any number will do
        lora_dropout=own.lora_dropout,
        target_modules=ALL if ALL in own.lora_target_modules else list(own.lora_target_modules),
        task_type=task,
        **note,
    )
    with warnings.catch_warnings():
        # peft 0.21 asks for a property that transformers 5.23 has renamed.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        # `weights.lora.plan` merges these, and what a GGUF file cannot have is refused earlier.
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`", UserWarning)
        added = get_peft_model(model, config)
    added.peft_config["default"].base_model_name_or_path = own.model_name_or_path
    # By default, peft asks the hub at each save whether rows were added.
    save = partial(added.save_pretrained, save_embedding_layers=whole_vocabulary)
    added.save_pretrained = save  # type: ignore[method-assign]
    return added


def leave_inputs_to_autocast(model: nn.Module, *, leave: bool = True) -> None:
    """Keep peft from casting an adapter's input to 32 bits, which autocast would only round again.

    Use it while the model is called under autocast only, and undo it with `leave=False`.
    """
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.cast_input_dtype_enabled = not leave


def _check_layers(model: PreTrainedModel, targets: tuple[str, ...]) -> None:
    if ALL in targets:
        return
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    ends = tuple(f".{name}" for name in names)
    wrong = [target for target in targets if not any(end.endswith(f".{target}") for end in ends)]
    if wrong:
        known = sorted({name.rsplit(".", 1)[-1] for name in names})
        raise UsageError(
            f"{type(model).__name__} has no linear layer {', '.join(map(repr, wrong))}.",
            hint=f"--lora_target_modules {' '.join(known)}   (or {ALL})",
        )
