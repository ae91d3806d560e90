"""Folders of tiny random models that can write any text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PAIRS = [" t", "he", "in", "er", "on", " a", "ed", "##", " re", "is", "visi", "eed"]
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONTEXT = 512


def tokenizer(*, chat_template: str | None = CHATML) -> Any:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    fast = Tokenizer(models.BPE({token: i for i, token in enumerate((*SPECIAL, *alphabet))}, []))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens(list(SPECIAL))
    fast.add_tokens(PAIRS)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=fast, eos_token=SPECIAL[2], pad_token=SPECIAL[0], chat_template=chat_template
    )


def config(kind: str = "Llama", **changes: Any) -> Any:
    said = {
        "vocab_size": len(tokenizer()), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": CONTEXT,
        "initializer_range": 0.3, "bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    name = {"Gemma3": "Gemma3Text"}.get(kind, kind)
    return getattr(transformers, f"{name}Config")(**said | changes)


def random_model(kind: str = "Llama", *, seed: int = 5, **changes: Any) -> Any:
    torch.manual_seed(seed)
    made = getattr(transformers, f"{kind}ForCausalLM")(config(kind, **changes)).eval()
    made.generation_config.eos_token_id = 2
    return made


def folder(path: Path, kind: str = "Llama", *, said: dict[str, Any] | None = None, **changes: Any) -> Path:
    random_model(kind, **changes).save_pretrained(path)
    tokenizer().save_pretrained(path)
    settings = json.loads((path / "config.json").read_text("utf-8"))
    (path / "config.json").write_text(json.dumps({**settings, **(said or {})}), "utf-8")
    return path


def greedy(model: Any, prompt: tuple[int, ...], count: int) -> list[int]:
    ids = torch.tensor([prompt])
    output = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=count,
        pad_token_id=0,
    )
    return [int(token) for token in output[0, len(prompt) :]]
