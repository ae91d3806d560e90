"""Adapters for the models of `tiny_folders`, with weights that are not zero, saved as peft saves them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from tests.weights.tiny_folders import SPECIAL, VOCABULARY, load

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def lora(base: Path, folder: Path, *, std: float = 0.2, **settings: Any) -> Path:
    """Saves an adapter on a model, with random values in every tensor that training would change."""
    torch.manual_seed(3)
    settings = {"r": 4, "lora_alpha": 6, "target_modules": LINEAR, "task_type": "CAUSAL_LM", **settings}
    with warnings.catch_warnings(action="ignore"):  # peft: a tied embedding is changed, embeddings are saved
        model = get_peft_model(load(base), LoraConfig(**settings))
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=std)
            if "lm_head.lora_B" in name:
                parameter.data[:SPECIAL] = 0
        model.save_pretrained(folder)
    return folder


def with_adapter(base: Path, adapter: Path) -> Any:
    """The model with the adapter at run time, as peft does it."""
    with warnings.catch_warnings(action="ignore"):
        return PeftModel.from_pretrained(load(base), adapter).eval()


def logits(model: Any) -> torch.Tensor:
    """Return a model's logits for a fixed text with every token. Shape: (tokens, vocabulary)."""
    with torch.no_grad():
        return model(torch.arange(VOCABULARY).unsqueeze(0)).logits[0]
