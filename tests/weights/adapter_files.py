"""Tiny random models and peft adapters with weights that are not zero, saved as their libraries save them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

ARCHITECTURES = ("Llama", "Mistral", "Qwen2", "Qwen3")
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
VOCABULARY = 101


def tiny(
    folder: Path, architecture: str = "Llama", *, tied: bool = False, dtype: torch.dtype = torch.float32
) -> Path:
    """Saves a model of two layers, 64 wide, with 4 heads of which 2 share keys and values."""
    torch.manual_seed(7)
    config = getattr(transformers, f"{architecture}Config")(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=256,
        initializer_range=0.2,
        tie_word_embeddings=tied,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        dtype=dtype,
    )
    model = getattr(transformers, f"{architecture}ForCausalLM")(config)
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    model.to(dtype).save_pretrained(folder)
    return folder


def letter_tokenizer(folder: Path) -> None:
    """Gives a folder a tokenizer with a token for each ASCII letter, split as GPT-2 does, and a single merge.

    Without the other bytes whatever a model says is UTF-8, so that no token waits for the rest of a letter.
    """
    tokens = ["<pad>", "<s>", "</s>", "<unk>", *map(chr, range(33, 127)), "Ġ", "Ċ", "Ġa"]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, [("Ġ", "a")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(folder)


def load(folder: Path) -> Any:
    """A model as transformers loads it, in 32 bits."""
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def lora(base: Path, folder: Path, *, dtype: torch.dtype = torch.float32, **settings: Any) -> Path:
    """Saves an adapter on a model, with random values in every tensor that training would change."""
    torch.manual_seed(3)
    settings = {"r": 4, "lora_alpha": 6, "target_modules": LINEAR, "task_type": "CAUSAL_LM", **settings}
    with warnings.catch_warnings(action="ignore"):  # peft: a tied embedding is changed, embeddings are saved
        model = get_peft_model(load(base), LoraConfig(**settings))
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "magnitude" in name:
                parameter.data *= torch.rand_like(parameter) + 0.5
            elif parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.2)
        model.to(dtype).save_pretrained(folder)
    return folder


def with_adapter(base: Path, adapter: Path) -> Any:
    """The model with the adapter at run time, as peft does it."""
    with warnings.catch_warnings(action="ignore"):
        return PeftModel.from_pretrained(load(base), adapter).eval()


def logits(model: Any) -> torch.Tensor:
    """What a model says to a fixed text that has every token. Shape (tokens, vocabulary)."""
    with torch.no_grad():
        return model(torch.arange(VOCABULARY).unsqueeze(0)).logits[0]
