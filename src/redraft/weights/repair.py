"""Repairs faults of early Llama conversions in configurations and tokenizers.

Deltas of 2023 pass these faults on to every model made from them: today's transformers then does not find a
class, does not end answers, or reads beyond the embedding. Only keys that are certainly wrong are changed,
and each change is reported with file, key, old and new value. Values that may be intended stay, such as
Alpaca's `</s>` for bos and unk, with which its models were trained.

Sources: the first conversions of Llama use `LLaMATokenizer` (lm-sys/FastChat issue 352), empty texts as
special tokens (tatsu-lab/stanford_alpaca issue 247), the ids 0 and 1 for bos and eos and -1 for padding where
the tokenizer has 1, 2 and none (meta-llama/llama issue 752, huggingface/transformers issue 22239), and the
key `max_sequence_length` for the context (mlc-ai/mlc-llm pull request 1032). A padding token without a row:
OpenNMT/CTranslate2 issue 1415.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from redraft.errors import ModelError
from redraft.weights.checkpoint import read_json
from redraft.weights.replace import write_json
from redraft.weights.tokenizers.sentencepiece import read_sentencepiece

CONFIG, GENERATION = "config.json", "generation_config.json"
TOKENIZER_CONFIG, SPECIAL = "tokenizer_config.json", "special_tokens_map.json"
ADDED, TOKENIZER = "added_tokens.json", "tokenizer.json"
FILES = (CONFIG, GENERATION, TOKENIZER_CONFIG, SPECIAL, ADDED, TOKENIZER)

_OLD = "LLaMA"
# The special tokens of Llama 1 and 2, and the ids that they have in its SentencePiece model.
_PIECES = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
_IDS = {"<unk>": 0, "<s>": 1, "</s>": 2}
# What the first conversions say instead: each is the id of the token before.
_WRONG_IDS = {"bos_token_id": (0, 1), "eos_token_id": (1, 2)}


def repair_tokenizer(folder: Path, *, rows: int | None = None) -> list[str]:
    """Repair the files of an output folder in place, and return a line per change: see the module.

    `rows` are those of the embedding; None takes `vocab_size` from config.json.
    """
    work = _Work({name: read_json(folder / name) for name in FILES if (folder / name).exists()})
    work.old_names()
    config = work.files.get(CONFIG, {})
    length = config.get("max_sequence_length")
    if _is_id(length) and length and config.get("max_position_embeddings") is None:
        work.set(CONFIG, "max_position_embeddings", length, "from max_sequence_length")
    if _is_llama(work.files, folder):
        work.empty_tokens()
        if not (folder / TOKENIZER).exists():
            work.first_token()
        work.shifted_ids()
    size = config.get("vocab_size")
    if rows is not None and size is not None and size != rows:
        work.set(CONFIG, "vocab_size", rows, "rows of the embedding")
    work.beyond(size if rows is None else rows)
    for file in work.among(CONFIG, GENERATION):
        if work.files[file].get("pad_token_id") == -1:
            work.set(file, "pad_token_id", None, "there is no such token")
    for file in dict.fromkeys(work.changed):
        write_json(folder / file, work.files[file])
    return work.lines


class _Work:
    """The files during the repair, those that changed, and a line per changed key."""

    def __init__(self, files: dict[str, dict[str, Any]]) -> None:
        self.files = files
        self.changed: list[str] = []
        self.lines: list[str] = []

    def set(self, file: str, key: str, after: Any, why: str = "") -> None:
        """Change a key and report it."""
        before = self.files[file].get(key)
        self.files[file][key] = after
        self.say(file, f"{key} {before!r:.60} → {after!r:.60}" + (f" ({why})" if why else ""))

    def say(self, file: str, line: str) -> None:
        self.lines.append(f"{file}: {line}")
        self.changed.append(file)

    def old_names(self) -> None:
        """Fix class names that were changed before transformers first released them."""
        for file in self.among(CONFIG, TOKENIZER_CONFIG):
            name = self.files[file].get("tokenizer_class")
            if isinstance(name, str) and name.startswith(_OLD):
                self.set(file, "tokenizer_class", name.replace(_OLD, "Llama", 1))
        names = self.files.get(CONFIG, {}).get("architectures")
        if isinstance(names, list) and any(isinstance(each, str) and each.startswith(_OLD) for each in names):
            new = [each.replace(_OLD, "Llama", 1) if isinstance(each, str) else each for each in names]
            self.set(CONFIG, "architectures", new)

    def empty_tokens(self) -> None:
        """Fix special tokens that are empty texts, or objects with an empty text."""
        for file in self.among(TOKENIZER_CONFIG, SPECIAL):
            for key, piece in _PIECES.items():
                value = self.files[file].get(key)
                if value == "":
                    self.set(file, key, piece)
                elif isinstance(value, dict) and value.get("content") == "":
                    self.set(file, key, {**value, "content": piece})

    def first_token(self) -> None:
        """Keep `<s>` before texts: with tokenizer.model alone, transformers 5 no longer puts it there."""
        config = self.files.get(TOKENIZER_CONFIG, {})
        if config.get("tokenizer_class") == "LlamaTokenizer" and "add_bos_token" not in config:
            self.set(TOKENIZER_CONFIG, "add_bos_token", after=True, why="as it was before transformers 5")

    def shifted_ids(self) -> None:
        """Fix the ids 0 and 1 for bos and eos, which belong to `<unk>` and `<s>`, if both occur."""
        for file in self.among(CONFIG, GENERATION):
            values = self.files[file]
            found = [values.get(key) for key in _WRONG_IDS]
            if all(map(_is_id, found)) and found == [wrong for wrong, _ in _WRONG_IDS.values()]:
                for key, (_, right) in _WRONG_IDS.items():
                    self.set(file, key, right, "as in the tokenizer")

    def beyond(self, rows: Any) -> None:
        """Remove added tokens, the padding token included, for which the embedding has no row."""
        if not _is_id(rows) or not rows:
            return
        gone = set()
        for file, key, piece in list(self._added_beyond(rows)):
            if file == TOKENIZER:
                self.files[file]["added_tokens"].remove(key)
            elif file == TOKENIZER_CONFIG:
                self.files[file]["added_tokens_decoder"].pop(key)
            else:
                self.files[file].pop(key)
            self.say(file, f"the added token {piece!r:.40} → none (the embedding has no row for it)")
            gone.add(piece)
        for file in self.among(TOKENIZER_CONFIG, SPECIAL):
            value = self.files[file].get("pad_token")
            padding = value.get("content") if isinstance(value, dict) else value
            if isinstance(padding, str) and padding in gone:
                self.set(file, "pad_token", None, f"the embedding has {rows} rows")
        for file in self.among(CONFIG, GENERATION):
            value = self.files[file].get("pad_token_id")
            if _is_id(value) and value >= rows:
                self.set(file, "pad_token_id", None, f"the embedding has {rows} rows")

    def _added_beyond(self, rows: int) -> Iterator[tuple[str, Any, str]]:
        """Yield file, key or entry, and text of each added token with an id of `rows` or more."""
        for piece, at in self.files.get(ADDED, {}).items():
            if _is_id(at) and at >= rows:
                yield ADDED, piece, piece
        decoder = self.files.get(TOKENIZER_CONFIG, {}).get("added_tokens_decoder")
        for key, entry in decoder.items() if isinstance(decoder, dict) else ():
            if key.isdecimal() and int(key[:20]) >= rows and isinstance(entry, dict):
                yield TOKENIZER_CONFIG, key, str(entry.get("content"))
        entries = self.files.get(TOKENIZER, {}).get("added_tokens")
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and _is_id(entry.get("id")) and entry["id"] >= rows:
                yield TOKENIZER, entry, str(entry.get("content"))

    def among(self, *names: str) -> list[str]:
        return [name for name in names if name in self.files]


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_llama(files: Mapping[str, Mapping[str, Any]], folder: Path) -> bool:
    """Return whether `<unk>`, `<s>` and `</s>` have the ids 0, 1 and 2, as in Llama 1 and 2."""
    model = files.get(TOKENIZER, {}).get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, dict):
        return all(vocabulary.get(piece) == at for piece, at in _IDS.items())
    try:
        pieces = read_sentencepiece(folder / "tokenizer.model").pieces
    except ModelError:
        return False
    return [piece.text for piece in pieces[: len(_IDS)]] == list(_IDS)
