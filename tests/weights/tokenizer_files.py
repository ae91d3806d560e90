"""Trains small tokenizers of each kind, and asks llama.cpp for the ids that it makes of a text.

llama.cpp is asked through the engine, with a model of a few kilobytes that has the tokenizer's metadata.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from redraft.engines.llamacpp.engine import LlamaCppEngine
from tests.gguf_files import TINY, gguf, tiny_tensors

TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "I've told you he'll say they're here, we'd see; I'M SURE, She'Ll, can't WON'T 'tis o'clock",
    "def area(radius: float) -> float:\n\treturn 3.14159 * radius ** 2\n\n\n# done\n",
    'for (int i = 0; i < 10; ++i) { printf("%d\\n", arr[i]); }\r\n\r\n',
    "1 12 123 1234 12345 123456 1,234.56 3.3 3..3 0x1F ½ ④ ٣٤ 1a2b",
    "  leading, two  inside, and trailing   ",
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n",
    "日本語のテキスト、我想在apple工作1314151天～ 한국어 문장입니다.",
    "Größe, façade, naïve, нещо на Български, ελληνικά, עברית, العربية",
    "🚀 (normal) 😶‍🌫️ 👩‍👩‍👧 ✅ 🦙🦙", "កាន់តែពិសេសអាច हिन्दी ไทย",
    "------======= ''''''```````\"\"\"\"......!!!!!!??????",
    "a\u00a0b\u3000c\u2028d\u0085e\u200bf",
    "<|im_start|>user\nHello<|im_end|>\n",
    "x", " ", "",
)  # fmt: skip
UNKNOWN = "<unk>"
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def byte_level(
    folder: Path, pre_tokenizer: Any, *, ignore_merges: bool = False, nfc: bool = False
) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 2, trainer)
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    save(folder, tokenizer, {"bos_token": SPECIAL[0], "eos_token": SPECIAL[2], "add_bos_token": False})
    return tokenizer


def from_rule(rule: Any) -> Any:
    empty = {"model": {"type": "BPE", "vocab": {}, "merges": []}, "pre_tokenizer": rule}
    return Tokenizer.from_str(json.dumps(empty)).pre_tokenizer


def llama_like(folder: Path, *, prepend: str = "first", split: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN, byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend, split=True)
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=[UNKNOWN, "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 2, trainer)
    written = json.loads(tokenizer.to_str())
    written["added_tokens"] = written["added_tokens"][:3]
    tokenizer = Tokenizer.from_str(json.dumps(written))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend, split=split)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s> $B", [("<s>", 1)])
    save(folder, tokenizer, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": UNKNOWN})
    return tokenizer


def sentencepiece_model(folder: Path, **changes: Any) -> sentencepiece.SentencePieceProcessor:
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "model_type": "bpe", "vocab_size": 600, "byte_fallback": True, "split_digits": True,
        "allow_whitespace_only_pieces": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False, "character_coverage": 0.98, "minloglevel": 3,
        **changes,
    }  # fmt: skip
    sentences = (line for text in TEXTS * 3 for line in text.splitlines() if line.strip())
    with (folder / "tokenizer.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=sentences, model_writer=file, **options)
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


def save(folder: Path, tokenizer: Tokenizer, config: Mapping[str, Any] | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    write(folder, "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **(config or {})})


def write(folder: Path, name: str, value: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(value), "utf-8")


def changed(folder: Path, name: str, change: Any) -> None:
    value = json.loads((folder / name).read_text("utf-8"))
    write(folder, name, change(value) or value)


def model_file(path: Path, tokenizer: Mapping[str, Any]) -> Path:
    tensors = tiny_tensors(len(tokenizer["tokenizer.ggml.tokens"]))
    path.write_bytes(gguf({**TINY, **tokenizer}, tensors))
    return path


def llama_cpp_ids(
    model: Path, texts: Iterable[str], *, special: bool = False, start: bool = False
) -> list[list[int]]:
    """The ids that llama.cpp makes. `special`: control tokens in texts count; `start`: as prompts begin."""

    async def ask() -> list[list[int]]:
        async with aclosing(await LlamaCppEngine.start(model)) as engine:
            return [list(await engine._tokenize(text, start=start, control=special)) for text in texts]

    return asyncio.run(ask())


def ids(
    tokenizer: Tokenizer, texts: Sequence[str], *, special: bool = False, start: bool = False
) -> list[list[int]]:
    tokenizer.encode_special_tokens = not special
    return [tokenizer.encode(text, add_special_tokens=start).ids for text in texts]


def load(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))
