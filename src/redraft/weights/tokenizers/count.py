"""Count tokens with a tokenizer.json, or with the tokenizer of a GGUF file, rebuilt from its vocabulary.

Only texts are counted, without chat template or special tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from redraft.errors import MissingExtra, ModelError
from redraft.weights.gguf.reader import read_header
from redraft.weights.tokenizers.from_gguf import tokenizer_files

_PART = 1 << 16  # characters per call: a record of 50 MB would take gigabytes


@dataclass(frozen=True)
class TokenCount:
    """Count tokens by a tokenizer.json or a GGUF file. Each process loads the tokenizer at its first count.

    A text over 65,536 characters is counted in parts, which may add a token at each cut.
    """

    path: Path

    def __call__(self, text: str) -> int:
        """Return the number of tokens in a text."""
        count = _loaded(self.path)
        return sum(count(text[i : i + _PART]) for i in range(0, len(text), _PART))


@lru_cache(maxsize=1)
def _loaded(path: Path) -> Callable[[str], int]:
    try:
        import tokenizers
    except ModuleNotFoundError:
        raise MissingExtra("counting tokens", "data") from None
    written = None if path.name == "tokenizer.json" else tokenizer_json(path)
    try:
        kind = tokenizers.Tokenizer
        tokenizer: Any = kind.from_str(written) if written else kind.from_file(str(path))
    except Exception as error:  # noqa: BLE001  (the library raises no other)
        raise ModelError(f"{path}: its tokenizer cannot be loaded: {error}.") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # This batch call skips token offsets, a sixth of the work.
    return lambda text: len(tokenizer.encode_batch_fast([text], add_special_tokens=False)[0])


def tokenizer_json(path: Path) -> str:
    """Return a GGUF file's tokenizer as tokenizer.json."""
    files = tokenizer_files(read_header(path, whole=True).metadata)
    return json.dumps(files["tokenizer.json"], ensure_ascii=False, indent=2) + "\n"
