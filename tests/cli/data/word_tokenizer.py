"""A tokenizer whose tokens are words, so that tests can count them too."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers

UNKNOWN = "<unk>"


def tokenizer_of_words(folder: Path) -> Path:
    tokenizer = Tokenizer(models.WordLevel({UNKNOWN: 0}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=3)
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
