"""Folders of tiny random models that can write any text, and one that has learnt a chain by heart."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from redraft.chain import Prompt
from redraft.chain.selfee import render_prompt

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PAIRS = [" t", "he", "in", "er", "on", " a", "ed", "##", " re", "is", "visi", "eed"]
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONTEXT = 512
ASKED = "Describe rain."
CHAIN = (
    "Rain falls.\n\n### Feedback 1:\nToo short. Revision is needed.\n\n"
    "### Revision 1:\nRain falls from clouds.\n\n### Feedback 2:\nGood. Revision is not needed."
)
FORCED = CHAIN.replace("is not needed", "is needed") + (
    "\n\n### Revision 2:\nRain falls from dark clouds.\n\n### Feedback 3:\nFine. Revision is not needed."
)


def tokenizer(*, chat_template: str | None = CHATML) -> Any:
    """One token a byte, three control tokens, and some words that are one token."""
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
        "vocab_size": len(tokenizer()),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    name = {"Gemma3": "Gemma3Text"}.get(kind, kind)
    return getattr(transformers, f"{name}Config")(**said | changes)


def random_model(kind: str = "Llama", *, seed: int = 5, **changes: Any) -> Any:
    torch.manual_seed(seed)
    made = getattr(transformers, f"{kind}ForCausalLM")(config(kind, **changes)).eval()
    made.generation_config.eos_token_id = 2
    return made


def folder(path: Path, kind: str = "Llama", *, said: dict[str, Any] | None = None, **changes: Any) -> Path:
    """Saves a random model with its tokenizer; `said` goes into config.json."""
    random_model(kind, **changes).save_pretrained(path)
    tokenizer().save_pretrained(path)
    settings = json.loads((path / "config.json").read_text("utf-8"))
    (path / "config.json").write_text(json.dumps({**settings, **(said or {})}), "utf-8")
    return path


def greedy(model: Any, prompt: tuple[int, ...], count: int) -> list[int]:
    """What transformers' own `generate` says."""
    ids = torch.tensor([prompt])
    output = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=count,
        pad_token_id=0,
    )
    return [int(token) for token in output[0, len(prompt) :]]


@functools.cache
def learnt() -> Any:
    """A model that writes CHAIN when it is asked, and FORCED where a revision is forced upon it."""
    words, prompt = tokenizer(), render_prompt(Prompt(instruction=ASKED))
    asked = len(words(prompt).input_ids)
    model = random_model(hidden_size=64, intermediate_size=128, head_dim=16, initializer_range=0.02).train()
    both = words(
        [prompt + CHAIN + SPECIAL[2], prompt + FORCED + SPECIAL[2]], padding=True, return_tensors="pt"
    )
    labels = both.input_ids.masked_fill(both.attention_mask == 0, -100)
    labels[:, :asked] = -100
    # What is forced is not the model's own, nor is what it has already learnt.
    forced = FORCED.index("needed", len(CHAIN) - len("not needed."))
    labels[1, : len(words(prompt + FORCED[:forced] + "needed").input_ids)] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(200):
        loss = model(**both, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss.item() < 0.03:
            return model.eval()
    raise AssertionError(f"the model has not learnt its chain: its loss is {loss.item()}")
