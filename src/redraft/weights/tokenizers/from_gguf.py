"""Convert the tokenizer in a GGUF file's metadata to the files that transformers loads.

The new tokenizer gives the same ids as llama.cpp, with three exceptions. It normalises texts to NFC if
models with this pre-tokenizer do; llama.cpp never does. SentencePiece tokens of equal score, which
llama.cpp merges from the left, are merged in order of id. The library `tokenizers` may merge the pieces on
both sides of a byte that the vocabulary lacks. Unused rows of the vocabulary (`[PAD…]`) get no token.

Metadata is untrusted: types, lengths and ids are checked, and inconsistencies raise a `ModelError`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import filterfalse, repeat
from math import isfinite
from pathlib import Path
from typing import Any

from redraft.errors import MissingExtra, ModelError
from redraft.jobs.provenance import fingerprint
from redraft.weights.gguf.reader import read_header
from redraft.weights.replace import write_json
from redraft.weights.tokenizers import pretokenizers as rules
from redraft.weights.tokenizers import sentencepiece as sp
from redraft.weights.tokenizers.folder import ROLES

# llama.cpp's default special tokens for SentencePiece (src/llama-vocab.cpp).
_USUAL_IDS = {"bos": 1, "eos": 2, "unk": 0}
_ADDED = (sp.CONTROL, sp.UNKNOWN, sp.USER_DEFINED)
_AGAIN = "The file is damaged: download it again, or use the tokenizer of the model's own folder."


def write_tokenizer(metadata: Mapping[str, Any], folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and, if there is a template, chat_template.jinja.

    `metadata` must contain long arrays: use `read_header(…, whole=True)`.
    """
    for name, value in tokenizer_files(metadata).items():
        write_json(folder / name, value)
    template = metadata.get("tokenizer.chat_template")
    if isinstance(template, str):
        (folder / "chat_template.jinja").write_text(template, "utf-8", newline="")


def tokenizer_files(metadata: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the contents of tokenizer.json and tokenizer_config.json, by file name."""
    tokens = _tokens(metadata)
    rule = rules.pre_tokenizer_named(metadata.get("tokenizer.ggml.pre")) if tokens.kind == "gpt2" else None
    special = _special(metadata, tokens)
    begins = _flag(metadata, "add_bos_token", usual=rule.add_bos if rule else True) and "bos" in special
    ends = _flag(metadata, "add_eos_token", usual=False) and "eos" in special
    first, last = [special["bos"]] if begins else [], [special["eos"]] if ends else []
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    fast = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": text, **flags, "special": tokens.kinds[number] != sp.USER_DEFINED}
            for text, number in tokens.ids.items()
            if tokens.kinds[number] in _ADDED
        ],
        "post_processor": _post_processor(tokens, first, last),
        **(_byte_level(metadata, tokens, rule) if rule else _sentencepiece(metadata, tokens)),
    }
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # transformers 4 and 5 then use tokenizer.json as is
        **{f"{role}_token": text for role, text in special.items()},
        "add_bos_token": begins,
        "add_eos_token": ends,
        "clean_up_tokenization_spaces": False,
    }
    length = metadata.get(f"{metadata.get('general.architecture')}.context_length")
    if isinstance(length, int):
        config["model_max_length"] = length
    return {"tokenizer.json": fast, "tokenizer_config.json": config}


@dataclass(frozen=True)
class _Tokens:
    kind: str  # `gpt2` or `llama`
    ids: Mapping[str, int]  # by text, without padding tokens
    kinds: Sequence[int]  # GGUF's token types by id


def _tokens(metadata: Mapping[str, Any]) -> _Tokens:
    if (kind := metadata.get("tokenizer.ggml.model")) is None:
        raise _bad("no model")
    if kind not in ("gpt2", "llama"):
        raise ModelError(
            f"the GGUF file has a tokenizer of the kind {kind!r:.40}; only gpt2 and llama can be converted.",
            hint="Use the tokenizer of the folder that the GGUF file was made from.",
        )
    texts = _array(metadata, "tokens", str)
    typed = "tokenizer.ggml.token_type" in metadata
    kinds = _array(metadata, "token_type", int) if typed else [sp.NORMAL] * len(texts)
    if len(kinds) != len(texts):
        raise _bad(f"{len(texts)} tokens but {len(kinds)} token types")
    ids: dict[str, int] = {}
    for number, text in enumerate(texts):
        if kinds[number] == sp.UNUSED and text == f"[PAD{number}]":
            continue
        if text in ids:
            raise _bad(f"the token {text!r:.60} twice, with the ids {ids[text]} and {number}")
        ids[text] = number
    return _Tokens(kind, ids, kinds)


def _byte_level(metadata: Mapping[str, Any], tokens: _Tokens, rule: rules.PreTokenizer) -> dict[str, Any]:
    merges = [tuple(merge.split(" ")) for merge in _array(metadata, "merges", str)]
    for merge in merges:
        if len(merge) != 2 or not {*merge, "".join(merge)} <= tokens.ids.keys():
            raise _bad(f"the merge {' '.join(merge)!r:.60}, which is not two tokens that make a third")
    return {
        "normalizer": {"type": "NFC"} if rule.nfc else None,
        "pre_tokenizer": rules.pre_tokenizer_json(rule),
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": _bpe(tokens, merges) | {"ignore_merges": rule.ignore_merges},
    }


def _sentencepiece(metadata: Mapping[str, Any], tokens: _Tokens) -> dict[str, Any]:
    scores = _array(metadata, "scores", float)
    if len(scores) < len(tokens.kinds):
        raise _bad(f"{len(tokens.kinds)} tokens but {len(scores)} scores")
    if not all(map(isfinite, scores)):
        raise _bad("scores that are not finite")
    adds_space = _flag(metadata, "add_space_prefix", usual=True)
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": sp.SPACE}
    prepend = [{"type": "Prepend", "prepend": sp.SPACE}] if adds_space else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if adds_space else []
    back = {"type": "Replace", "pattern": {"String": sp.SPACE}, "content": " "}
    decoders = [back, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip]
    unknown = [text for text, number in tokens.ids.items() if tokens.kinds[number] == sp.UNKNOWN]
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*prepend, replace]},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": _bpe(tokens, _merges(tokens, scores))
        | {"unk_token": unknown[0] if unknown else None, "fuse_unk": True, "byte_fallback": True},
    }


def _bpe(tokens: _Tokens, merges: Sequence[Sequence[str]]) -> dict[str, Any]:
    return {
        "type": "BPE",
        **dict.fromkeys(("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")),
        **dict.fromkeys(("fuse_unk", "byte_fallback", "ignore_merges"), False),
        "vocab": tokens.ids,
        "merges": merges,
    }


def _merges(tokens: _Tokens, scores: Sequence[float]) -> list[tuple[str, str]]:
    usual = (sp.NORMAL, sp.UNUSED)
    plain = {text: number for text, number in tokens.ids.items() if tokens.kinds[number] in usual}
    merges = []
    for text in sorted(plain, key=lambda text: (-scores[plain[text]], plain[text])):
        if len(text) > sp.MAX_TOKEN:
            raise _bad(f"a token of {len(text)} characters: {text!r:.60}")
        halves = ((text[:at], text[at:]) for at in range(len(text) - 1, 0, -1))
        merges += [(left, right) for left, right in halves if left in plain and right in plain]
    return merges


def _special(metadata: Mapping[str, Any], tokens: _Tokens) -> dict[str, str]:
    texts = {number: text for text, number in tokens.ids.items()}
    usual = _USUAL_IDS if tokens.kind == "llama" else {}
    special = {}
    for role, name in ROLES.items():
        if (number := metadata.get(f"tokenizer.ggml.{name}_token_id", usual.get(role))) is None:
            continue
        if not isinstance(number, int) or number not in texts:
            raise _bad(f"the {name} token {number!r:.20}, which is not one of its {len(texts)} tokens")
        special[role] = texts[number]
    return special


def _post_processor(tokens: _Tokens, first: list[str], last: list[str]) -> dict[str, Any] | None:
    if not first and not last:
        return None
    single, second = _around("A", 0, first, last), _around("B", 1, first, last)
    named = {text: {"id": text, "ids": [tokens.ids[text]], "tokens": [text]} for text in [*first, *last]}
    pair = [*single, *second]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": named}


def _around(name: str, kind: int, first: list[str], last: list[str]) -> list[dict[str, Any]]:
    before = [{"SpecialToken": {"id": text, "type_id": kind}} for text in first]
    after = [{"SpecialToken": {"id": text, "type_id": kind}} for text in last]
    return [*before, {"Sequence": {"id": name, "type_id": kind}}, *after]


def _flag(metadata: Mapping[str, Any], name: str, *, usual: bool) -> bool:
    value = metadata.get(f"tokenizer.ggml.{name}", usual)
    if not isinstance(value, bool):
        raise _bad(f"{name} {value!r:.40}, which is not true or false")
    return value


def _array(metadata: Mapping[str, Any], name: str, kind: type) -> Sequence[Any]:
    value = metadata.get(f"tokenizer.ggml.{name}")
    if not isinstance(value, list | tuple) or not value:
        raise _bad(f"no {name}")
    for each in value:
        if not isinstance(each, kind):
            raise _bad(f"a value of the wrong type among its {name}: {each!r:.60}")
    return value


def _bad(what: str) -> ModelError:
    return ModelError(f"the tokenizer of the GGUF file has {what}.", hint=_AGAIN)


_PART = 1 << 16  # characters per call: a record of 50 MB would take gigabytes
_SPACE = re.compile(r" (?<=\S )(?=\S)")  # a single space, between words
_NEW = 1 << 32  # stands for the count of a new word: larger than the tokens of any text
_KNOWN, _LONGEST = 1 << 16, 1000  # the most cached words, and their greatest length: 10 to 100 MB in all


@dataclass(frozen=True)
class TokenCount:
    """Count tokens with the tokenizer of a tokenizer.json or GGUF file.

    A text over 65,536 characters is counted in parts. Each cut between parts may add a token.
    """

    path: Path

    def __call__(self, text: str) -> int:
        """Return the number of tokens in a text."""
        return self.within(text, -1)

    def within(self, text: str, limit: int) -> int:
        """Return a text's token count, or a quickly computed upper bound if the bound is at most `limit`."""
        count, most = _loaded(self.path), limit if len(text) <= _PART else -1
        return sum(count(text[i : i + _PART], most) for i in range(0, len(text), _PART))

    def fingerprint(self) -> dict[str, Any]:
        """Return path, size and SHA-256 of tokenizer.json. A GGUF file's tokenizer is converted first."""
        if self.path.name == "tokenizer.json":
            return fingerprint([self.path])
        written = tokenizer_json(self.path).encode()
        return {"path": str(self.path), "bytes": len(written), "sha256": sha256(written).hexdigest()}


@lru_cache(maxsize=1)
def _loaded(path: Path) -> Callable[[str, int], int]:
    try:
        import tokenizers
    except ModuleNotFoundError:
        raise MissingExtra("counting tokens", "data") from None
    written = "" if path.name == "tokenizer.json" else tokenizer_json(path)
    try:
        written = written or path.read_text("utf-8")
        tokenizer: Any = tokenizers.Tokenizer.from_str(written)
    except Exception as error:  # noqa: BLE001  (the library raises no other)
        raise ModelError(f"the tokenizer of {path} cannot be loaded: {error}.") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(text: str, _: int = -1) -> int:
        # This batch call skips token offsets, a sixth of the work.
        return len(tokenizer.encode_batch_fast([text], add_special_tokens=False)[0])

    of_words: list[dict[str, int]] = [{}]  # token counts of words, which often repeat

    def count_by_words(text: str, limit: int) -> int:
        if (most := _most_tokens(text)) <= limit:
            return most
        # Not cleared: other threads may still read the old one.
        known = of_words[0] = of_words[0] if len(of_words[0]) <= _KNOWN else {}
        first, *words = _SPACE.split(text)
        several, total = divmod(sum(map(known.get, words, repeat(_NEW))), _NEW)
        new = list(filterfalse(known.__contains__, words)) if several else []
        if (most := sum(map(_most_tokens, (first, *new))) + len(new) + total) <= limit:
            return most
        if max(map(len, new), default=0) > _LONGEST:
            return count(text)
        known.update((word, count(f" {word}")) for word in set(new))
        return count(first) + total + sum(map(known.__getitem__, new))

    return count_by_words if _parts_at_spaces(json.loads(written)) else count


def _most_tokens(text: str) -> int:
    """Return an upper bound of the token count: the bytes, times 3 if NFC may change the text (UAX #15)."""
    return len(text) if text.isascii() else 3 * len(text.encode(errors="surrogatepass"))


def _parts_at_spaces(tokenizer: Mapping[str, Any]) -> bool:
    """Return whether texts can be cut at single spaces without any change of the tokens."""
    try:
        known = rules.pre_tokenizer_of(tokenizer).splits[-1].endswith(r"\s+(?!\S)|\s+")
    except ModelError:
        return False
    for each in tokenizer.get("added_tokens") or ():
        odd = any(map(each.get, ("lstrip", "rstrip", "single_word")))
        known = known and not odd and " " not in each["content"]
    model, known = tokenizer["model"], known and tokenizer.get("normalizer") in (None, {"type": "NFC"})
    return known and model.get("type") == "BPE" and not model.get("byte_fallback")


def tokenizer_json(path: Path) -> str:
    """Return a GGUF file's tokenizer as the text of a tokenizer.json."""
    files = tokenizer_files(read_header(path, whole=True).metadata)
    return json.dumps(files["tokenizer.json"], ensure_ascii=False, indent=2) + "\n"
