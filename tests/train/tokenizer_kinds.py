"""Small tokenizers of the kinds that models have, trained here, as transformers loads them.

- `llama`: BPE with byte fallback, spaces as marks, `<s>` before a text, and a space before its first word;
- `legacy`: the same with a space before every text, also behind a control token, as Llama's first files had;
- `spaced`: like `llama`, but line breaks merge with what is beside them;
- `bytes`: byte-level BPE that cuts as GPT-2's, without beginning-of-text;
- `merging`: byte-level BPE that cuts nowhere, so that tokens reach over every border that texts often have.
"""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tests.engines.hf_folders import CHATML
from tests.weights.tokenizer_files import save

KINDS = ("llama", "legacy", "spaced", "bytes", "merging")

_TEXTS = (
    "Below is an instruction that describes a task. Write a response that appropriately completes it.",
    "### Instruction:\nSort the list.\n\n### Input:\n3, 1, 2\n\n### Answer:\nSorted: 1, 2, 3.\n\n",
    "### Feedback 1:\nThe answer is right. Revision is not needed.",
    "### Answer:\n    return x\n\n### Feedback 1:\nWrong.\n\n### Revision 1:\n    return y\n\n",
    "### Response:\nThe answer.",
    "A chat between a curious user and an artificial intelligence assistant. USER: Hi ASSISTANT: Hi!",
    "def area(radius: float) -> float:\n    return 3.14159 * radius ** 2\n\n",
    "user\nHello\nassistant\nHi",
)
_UNKNOWN = "<unk>"


@functools.cache
def tokenizer(kind: str, template: str | None = CHATML) -> PreTrainedTokenizerBase:
    folder = Path(tempfile.mkdtemp())
    made, named = _bytes(kind) if kind in ("bytes", "merging") else _llama(kind)
    save(folder, made, {**named, **({"chat_template": template} if template else {})})
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    return loaded


def _llama(kind: str) -> tuple[Tokenizer, dict[str, Any]]:
    special = [_UNKNOWN, "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    made = Tokenizer(models.BPE(unk_token=_UNKNOWN, byte_fallback=True, fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=kind != "spaced")
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=[*special, *(f"<0x{byte:02X}>" for byte in range(256))],
        limit_alphabet=80,
        show_progress=False,
    )
    # Llama's alphabet has no line break: it is a byte there, and merges with nothing.
    lines = [line for text in _TEXTS * 3 for line in text.splitlines()]
    made.train_from_iterator(_TEXTS * 3 if kind == "spaced" else lines, trainer)
    made = Tokenizer.from_str(_only_special(made, len(special)))
    scheme = "always" if kind == "legacy" else "first"
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s> $B", [("<s>", 1)])
    return made, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": _UNKNOWN}


def _only_special(made: Tokenizer, count: int) -> str:
    """The JSON of a tokenizer in which only the first tokens are added ones; its bytes are words."""
    written = json.loads(made.to_str())
    written["added_tokens"] = written["added_tokens"][:count]
    return json.dumps(written)


def _bytes(kind: str) -> tuple[Tokenizer, dict[str, Any]]:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "bytes")
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(_TEXTS * 3, trainer)
    # GPT-2's own: it leaves spaces out of the places that it tells.
    made.post_processor = processors.ByteLevel(trim_offsets=True)
    return made, {"eos_token": "<|im_end|>", "bos_token": "<|im_start|>", "pad_token": "<|endoftext|>"}
