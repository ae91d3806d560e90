"""Convert the tokenizer of a Hugging Face folder to the metadata of a GGUF file.

Two kinds are supported: byte-level BPE (Llama 3, Qwen, SmolLM, Mistral Nemo) and SentencePiece BPE (Llama 2,
Mistral, SelFee), from tokenizer.json, tokenizer.model, or both. A tokenizer is refused unless llama.cpp is
known to make the same ids as transformers.

A GGUF file cannot store normalisation to NFC, the flags `lstrip`, `rstrip` and `single_word` of added tokens,
or chat templates besides the default. Without a tokenizer.model, SentencePiece scores are derived from the
order of merges. llama.cpp then makes the same ids if every two tokens that form a third have a merge, as in a
tokenizer.json made from a SentencePiece model. Otherwise, llama.cpp may split rare texts differently.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from redraft.errors import ModelError
from redraft.weights.tokenizers import sentencepiece as sp
from redraft.weights.tokenizers.folder import ROLES, TokenizerFolder, as_list, as_object
from redraft.weights.tokenizers.pretokenizers import pre_tokenizer_of

MAX_ROWS = 1 << 22  # rows of an embedding: fifteen times the largest vocabulary


def tokenizer_metadata(folder: Path, rows: int) -> dict[str, Any]:
    """Return GGUF metadata for the tokenizer of a folder. `rows` is the number of embedding rows.

    An embedding row without a token gets an unused token, `[PAD…]`.
    """
    if rows > MAX_ROWS:
        raise ModelError(f"{folder}: an embedding of {rows} rows is larger than any vocabulary.")
    source = TokenizerFolder(folder, rows)
    if source.fast:
        keys = _from_fast(source) if source.model.get("byte_fallback") is True else _byte_level(source)
    elif source.pieces:
        model = source.pieces
        if model.normalizes:
            source.elsewhere("tokenizer.model normalises texts in a way that llama.cpp does not")
        for number, piece in enumerate(model.pieces):
            # llama.cpp looks for user-defined tokens before spaces become marks, SentencePiece afterwards.
            text = piece.text.replace(sp.SPACE, " ") if piece.kind == sp.USER_DEFINED else piece.text
            source.put(number, text, piece.kind)
        keys = _sentencepiece(source) | {"add_space_prefix": model.adds_space}
    else:
        way = "AutoTokenizer.from_pretrained(BASE).save_pretrained(FOLDER)"
        hint = f"Copy it from the model's base, or save it with transformers: {way}"
        source.bad("there is no tokenizer: neither tokenizer.json nor tokenizer.model", hint=hint)
    ids = {role: source.special_id(role) for role in ROLES}
    keys |= {f"{name}_token_id": ids[role] for role, name in ROLES.items() if ids[role] is not None}
    # GGUF has no list of end tokens, but two more roles at which llama.cpp ends a text.
    others = [end for end in source.ends() if end != ids["eos"]]
    keys |= {f"{name}_token_id": end for name, end in zip(("eot", "eom"), others, strict=False)}
    for role in ("bos", "eos"):
        keys[f"add_{role}_token"] = ids[role] is not None and source.put_around(role)
    named = {f"tokenizer.ggml.{key}": value for key, value in keys.items()}
    template = source.template()
    return named if template is None else named | {"tokenizer.chat_template": template}


def _byte_level(source: TokenizerFolder) -> dict[str, Any]:
    vocabulary = _vocabulary(source)
    rule = pre_tokenizer_of(source.fast)
    if as_object(source.fast.get("normalizer")).get("type", "NFC") != "NFC":
        source.elsewhere("tokenizer.json normalises texts in a way that llama.cpp does not")
    for text, number in vocabulary.items():
        source.put(number, text, sp.NORMAL)
    if not (merges := _merges(source)):
        source.elsewhere("tokenizer.json has no merges, but llama.cpp needs some")
    source.put_added()
    texts, kinds = source.filled()
    joined = [f"{left} {right}" for left, right in merges]
    return {"model": "gpt2", "pre": rule.name, "tokens": texts, "token_type": kinds, "merges": joined}


def _vocabulary(source: TokenizerFolder) -> Mapping[str, Any]:
    model = source.model
    if model.get("type", "BPE") != "BPE" or not isinstance(model.get("vocab"), Mapping):
        source.elsewhere(f"tokenizer.json has a model of the type {model.get('type')!r:.40}, not BPE")
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            source.elsewhere(f"tokenizer.json has {key} {model[key]!r:.40}, which llama.cpp does not support")
    return as_object(model["vocab"])


def _merges(source: TokenizerFolder) -> list[tuple[str, str]]:
    merges = []
    for entry in as_list(source.model.get("merges")):
        match entry.split(" ") if isinstance(entry, str) else entry:
            case [str(left), str(right)] if " " not in left + right:
                merges.append((left, right))
            case _:
                source.bad(f"tokenizer.json has the merge {entry!r:.60}, which is not two tokens")
    for left, right in merges:
        if not {left, right, left + right} <= source.ids.keys():
            merge = f"tokenizer.json merges {left!r:.40} and {right!r:.40}"
            source.bad(f"{merge}, but one of the two, or the result, is not a token")
    return merges


def _sentencepiece(source: TokenizerFolder) -> dict[str, Any]:
    if missing := sum(f"<0x{byte:02X}>" not in source.ids for byte in range(256)):
        source.elsewhere(f"{missing} of the 256 byte tokens are missing, but llama.cpp needs them")
    source.put_added()
    scores = _piece_scores(source) or _rank_scores(source)
    texts, kinds = source.filled()
    scored = [scores.get(number, 0.0) for number in range(source.rows)]
    return {"model": "llama", "pre": "default", "tokens": texts, "scores": scored, "token_type": kinds}


def _from_fast(source: TokenizerFolder) -> dict[str, Any]:
    # transformers 5 does not save the unknown token, and all models of this kind use this name.
    unknown = source.model.get("unk_token") or "<unk>"
    for text, number in _vocabulary(source).items():
        is_byte = re.fullmatch(r"<0x[0-9A-F]{2}>", text)
        source.put(number, text, sp.BYTE if is_byte else sp.UNKNOWN if text == unknown else sp.NORMAL)
    if source.model.get("ignore_merges"):
        source.elsewhere("tokenizer.json has ignore_merges, which llama.cpp does not support")
    return _sentencepiece(source) | {"add_space_prefix": _adds_space(source)}


def _adds_space(source: TokenizerFolder) -> bool:
    # A GGUF file cannot say whether a space is added to the first text only or, as llama.cpp does, after
    # every special token.
    changes = list(_parts(source.fast.get("normalizer"), "normalizers"))
    cuts = list(_parts(source.fast.get("pre_tokenizer"), "pretokenizers"))
    match (changes, cuts):
        case ([*first, {"type": "Replace", "pattern": {"String": " ", **others}, "content": "▁"}], []) if (
            not others and first in ([], [{"type": "Prepend", "prepend": "▁"}])
        ):
            return bool(first)
        case ([], [{"type": "Metaspace", "replacement": "▁"}]):
            # Splitting at marks must make no difference: it is off, or no token has a mark inside.
            if cuts[0].get("split") is False or not any(sp.SPACE in text[1:] for text in source.ids):
                return bool(cuts[0].get("prepend_scheme", "always") != "never")
    return source.elsewhere("tokenizer.json treats spaces in a way that llama.cpp does not")


def _parts(step: object, key: str) -> Iterable[Any]:
    step = as_object(step)
    return as_list(step.get(key)) if step.get("type") == "Sequence" else filter(None, [step])


def _piece_scores(source: TokenizerFolder) -> dict[int, float]:
    pieces = source.pieces.pieces if source.pieces else ()
    if source.fast and any(source.ids.get(piece.text) != number for number, piece in enumerate(pieces)):
        return {}
    if not all(isfinite(piece.score) for piece in pieces):
        source.bad("tokenizer.model has scores that are not finite")
    return {number: piece.score for number, piece in enumerate(pieces)}


def _rank_scores(source: TokenizerFolder) -> dict[int, float]:
    order: dict[str, int] = {}
    for left, right in _merges(source):
        order.setdefault(left + right, len(order))
    for text, number in source.ids.items():
        if source.kinds[number] != sp.NORMAL or text in order:
            continue
        if len(text) > sp.MAX_TOKEN:
            source.bad(f"a token has {len(text)} characters: {text!r:.60}")
        # No merge forms the token, but llama.cpp would form it from two others.
        if any(text[:at] in source.ids and text[at:] in source.ids for at in range(1, len(text))):
            source.elsewhere(f"tokenizer.json never makes the token {text!r:.60}, but llama.cpp would")
    return {source.ids[text]: -float(rank) for text, rank in order.items()}
