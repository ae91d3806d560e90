"""Tiny random models in folders of transformers' making, that say nothing but text.

Texts of llama.cpp and of transformers are compared, so every token makes sense by itself: ASCII, and pairs.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

ARCHITECTURES = ("Llama", "Mistral", "Qwen2", "Qwen3")
SPECIAL, VOCABULARY = 4, 260
LETTERS = [chr(code) for code in range(33, 127)] + ["Ġ", "Ċ"]
_KEPT = tempfile.TemporaryDirectory()  # until the end
_MADE: dict[str, Path] = {}
PAIRS = [a + b for a in "abcdefgh" for b in LETTERS][: VOCABULARY - SPECIAL - len(LETTERS)]


def tiny_folder(
    path: Path, architecture: str = "Llama", *, dtype: torch.dtype = torch.float16, **changes: Any
) -> Path:
    """Two layers, 64 wide, 4 heads of which 2 share keys and values; or as the configuration's `changes` say.

    It never says a special token: their logits are 0, and another's is always above that. Each is made once.
    """
    key = repr((architecture, dtype, changes))
    if key not in _MADE:
        _MADE[key] = Path(_KEPT.name, str(len(_MADE)))
        _make(_MADE[key], architecture, dtype, changes)
    return shutil.copytree(_MADE[key], path, dirs_exist_ok=True)


def _make(path: Path, architecture: str, dtype: torch.dtype, changes: dict[str, Any]) -> None:
    torch.manual_seed(7)
    said = {
        "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 256,
        "initializer_range": 0.2, "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
        "pad_token_id": 0, "dtype": dtype,
    }  # fmt: skip
    config = getattr(transformers, f"{architecture}Config")(**said | changes)
    model = getattr(transformers, f"{architecture}ForCausalLM")(config)
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "norm.weight")):
            torch.nn.init.normal_(parameter, float(name.endswith("norm.weight")), 0.1)
    model.to(dtype).save_pretrained(path)
    weights = load_file(path / "model.safetensors")
    weights["lm_head.weight" if "lm_head.weight" in weights else "model.embed_tokens.weight"][:SPECIAL] = 0
    save_file(weights, path / "model.safetensors", {"format": "pt"})
    tokens = ["<pad>", "<s>", "</s>", "<unk>", *LETTERS, *PAIRS]
    merges = [(pair[0], pair[1]) for pair in PAIRS]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(path)


def load(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


# Adapters.


LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def lora(base: Path, folder: Path, *, std: float = 0.2, **settings: Any) -> Path:
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
    with warnings.catch_warnings(action="ignore"):
        return PeftModel.from_pretrained(load(base), adapter).eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(VOCABULARY).unsqueeze(0)).logits[0]
