"""The tokenizer of a Hugging Face folder, as the metadata of a GGUF file.

Two kinds are written: byte-level BPE (Llama 3, Qwen, SmolLM, Mistral Nemo), and BPE as SentencePiece does it
(Llama 2, Mistral, and so SelFee), from tokenizer.json, tokenizer.model, or both. llama.cpp is to make the ids
that transformers makes; where it is not known here to do so, the tokenizer is refused.

What a GGUF file cannot say is lost: that an added token swallows the spaces beside it or is a whole word
only (`lost_flags` says it), that texts are brought to NFC first, and any chat template but the default one.
SentencePiece scores made from the order of merges, where there is no tokenizer.model, give the same ids if
every pair of tokens that makes a token is a merge, as in files made from a SentencePiece model. In others a
rare text may be cut differently.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from redraft.errors import ModelError
from redraft.weights.tokenizers.folder import ROLES, TokenizerFolder, as_list, as_object
from redraft.weights.tokenizers.pretokenizers import pre_tokenizer_of
from redraft.weights.tokenizers.sentencepiece import (
    BYTE,
    MAX_TOKEN,
    NORMAL,
    SPACE,
    UNKNOWN,
    USER_DEFINED,
    SentencePiece,
)

MAX_ROWS = 1 << 22
"""Rows of an embedding: four million, fifteen times the largest vocabulary there is."""


def tokenizer_metadata(folder: Path, rows: int) -> dict[str, Any]:
    """The GGUF keys of a folder's tokenizer, in the order that they are written in.

    `tokenizer.ggml.` goes before each, and each has one type of value:

    * str: `model` (`llama` or `gpt2`), `pre`; and `tokenizer.chat_template`
    * list of str: `tokens`, and `merges` with `gpt2`
    * list of int (int32): `token_type`
    * list of float (float32): `scores`, with `llama`
    * int (uint32): `bos_token_id`, `eos_token_id`, `unknown_token_id`, `padding_token_id`
    * bool: `add_bos_token`, `add_eos_token`, `add_space_prefix`

    Args:
        folder: The folder with tokenizer.json or tokenizer.model, and what lies beside it.
        rows: Rows of the embedding. Rows without a token get one that is never used, `[PAD…]`.

    Raises:
        ModelError: There is no tokenizer, it is damaged, it does not fit the embedding, or llama.cpp is not
            known here to have its like.
    """
    if rows > MAX_ROWS:
        raise ModelError(f"{folder}: an embedding of {rows} rows is larger than any vocabulary.")
    source = TokenizerFolder(folder, rows)
    if source.fast:
        is_sentencepiece = source.model.get("byte_fallback") is True
        keys = _from_fast(source) if is_sentencepiece else _byte_level(source)
    elif source.pieces:
        keys = _from_pieces(source, source.pieces)
    else:
        source.bad(
            "there is no tokenizer: neither tokenizer.json nor tokenizer.model",
            hint="Copy it there from the model's base, or save it with transformers: "
            "AutoTokenizer.from_pretrained(BASE).save_pretrained(FOLDER)",
        )
    named = {f"tokenizer.ggml.{key}": value for key, value in (keys | _special(source)).items()}
    template = source.template()
    return named if template is None else named | {"tokenizer.chat_template": template}


def lost_flags(folder: Path) -> str | None:
    """Return what added tokens do that a GGUF file cannot say, as a sentence; None where there is nothing.

    Raises:
        ModelError: A file of the tokenizer cannot be read.
    """
    found = {flag: texts for flag, texts in TokenizerFolder(folder, 0).flagged().items() if texts}
    if not found:
        return None
    tokens = sorted(set().union(*found.values()))
    named = ", ".join(f"{text!r:.40}" for text in tokens[:3]) + (" …" if len(tokens) > 3 else "")
    return (
        f"{len(tokens)} added tokens have {', '.join(found)}, which a GGUF file cannot say: llama.cpp may "
        f"cut what stands beside them differently ({named})."
    )


def _special(source: TokenizerFolder) -> dict[str, Any]:
    """Ids of the special tokens, and whether a text begins and ends with them."""
    ids = {role: source.special_id(role) for role in ROLES}
    keys: dict[str, Any] = {
        f"{name}_token_id": ids[role] for role, name in ROLES.items() if ids[role] is not None
    }
    for role in ("bos", "eos"):
        keys[f"add_{role}_token"] = ids[role] is not None and source.put_around(role)
    return keys


def _byte_level(source: TokenizerFolder) -> dict[str, Any]:
    vocabulary = _vocabulary(source)
    rule = pre_tokenizer_of(source.fast)
    if as_object(source.fast.get("normalizer")).get("type", "NFC") != "NFC":
        source.elsewhere("tokenizer.json changes texts first in a way that llama.cpp does not")
    for text, number in vocabulary.items():
        source.put(number, text, NORMAL)
    merges = _merges(source)
    if not merges:
        source.elsewhere("tokenizer.json has no merges, and llama.cpp needs some")
    source.put_added()
    texts, kinds = source.filled()
    joined = [f"{left} {right}" for left, right in merges]
    return {"model": "gpt2", "pre": rule.name, "tokens": texts, "token_type": kinds, "merges": joined}


def _vocabulary(source: TokenizerFolder) -> Mapping[str, Any]:
    """The vocabulary of tokenizer.json, if it is one of plain BPE."""
    model = source.model
    if model.get("type", "BPE") != "BPE" or not isinstance(model.get("vocab"), Mapping):
        source.elsewhere(f"tokenizer.json has a model of the type {model.get('type')!r:.40}, not BPE")
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            source.elsewhere(f"tokenizer.json has {key} {model[key]!r:.40}, which llama.cpp has not")
    return as_object(model["vocab"])


def _merges(source: TokenizerFolder) -> list[tuple[str, str]]:
    """The merges of tokenizer.json in order, each a pair of tokens that make a third."""
    merges = []
    for entry in as_list(source.model.get("merges")):
        pair = entry.split(" ") if isinstance(entry, str) else entry
        match pair:
            case [str(left), str(right)] if " " not in left + right:
                merges.append((left, right))
            case _:
                source.bad(f"tokenizer.json has the merge {entry!r:.60}, which is not two tokens")
    for left, right in merges:
        if not {left, right, left + right} <= source.ids.keys():
            source.bad(f"tokenizer.json merges {left!r:.40} and {right!r:.40}, which are not all tokens")
    return merges


def _sentencepiece(source: TokenizerFolder) -> dict[str, Any]:
    """The keys, once the vocabulary is there."""
    missing = sum(f"<0x{byte:02X}>" not in source.ids for byte in range(256))
    if missing:
        source.elsewhere(f"{missing} of the 256 byte tokens are missing, and llama.cpp needs them")
    source.put_added()
    scores = _piece_scores(source) or _rank_scores(source)
    texts, kinds = source.filled()
    return {
        "model": "llama",
        "pre": "default",
        "tokens": texts,
        "scores": [scores.get(number, 0.0) for number in range(source.rows)],
        "token_type": kinds,
    }


def _from_pieces(source: TokenizerFolder, model: SentencePiece) -> dict[str, Any]:
    """The keys from tokenizer.model alone."""
    if model.normalizes:
        source.elsewhere("tokenizer.model changes texts first in a way that llama.cpp does not")
    for number, piece in enumerate(model.pieces):
        # llama.cpp looks for these in the text as it came, SentencePiece where spaces are marks already.
        text = piece.text.replace(SPACE, " ") if piece.kind == USER_DEFINED else piece.text
        source.put(number, text, piece.kind)
    return _sentencepiece(source) | {"add_space_prefix": model.adds_space}


def _from_fast(source: TokenizerFolder) -> dict[str, Any]:
    """The keys from tokenizer.json, with the scores of tokenizer.model where it has the same vocabulary."""
    # transformers 5 does not write down which it is, and all models of the kind call it so.
    unknown = source.model.get("unk_token") or "<unk>"
    for text, number in _vocabulary(source).items():
        is_byte = re.fullmatch(r"<0x[0-9A-F]{2}>", text)
        source.put(number, text, BYTE if is_byte else UNKNOWN if text == unknown else NORMAL)
    if source.model.get("ignore_merges"):
        source.elsewhere("tokenizer.json has ignore_merges, which llama.cpp has not")
    return _sentencepiece(source) | {"add_space_prefix": _adds_space(source)}


def _adds_space(source: TokenizerFolder) -> bool:
    """How tokenizer.json writes spaces as marks, and whether it puts one before a text.

    Before every text between special tokens, as llama.cpp does, or before the first alone: a GGUF file does
    not tell these apart.
    """
    changes = list(_parts(source.fast.get("normalizer"), "normalizers"))
    cuts = list(_parts(source.fast.get("pre_tokenizer"), "pretokenizers"))
    match (changes, cuts):
        case ([{"type": "Prepend", "prepend": "▁"}, {"type": "Replace"} as last], []) if _marks(last):
            return True
        case ([{"type": "Replace"} as last], []) if _marks(last):
            return False
        case ([], [{"type": "Metaspace", "replacement": "▁"}]) if _keeps_runs(source, cuts[0]):
            return bool(cuts[0].get("prepend_scheme", "always") != "never")
    return source.elsewhere("tokenizer.json treats spaces in a way that llama.cpp does not")


def _marks(step: Mapping[str, Any]) -> bool:
    return step.get("pattern") == {"String": " "} and step.get("content") == SPACE


def _keeps_runs(source: TokenizerFolder, mark: Mapping[str, Any]) -> bool:
    """Whether cutting before every mark makes no difference: it is not done, or no token has one inside."""
    return mark.get("split") is False or not any(SPACE in text[1:] for text in source.ids)


def _parts(step: object, key: str) -> Iterable[Any]:
    step = as_object(step)
    return as_list(step.get(key)) if step.get("type") == "Sequence" else filter(None, [step])


def _piece_scores(source: TokenizerFolder) -> dict[int, float]:
    """Scores of tokenizer.model. None where it is missing, or is not of the vocabulary in tokenizer.json."""
    pieces = source.pieces.pieces if source.pieces else ()
    if source.fast and any(source.ids.get(piece.text) != number for number, piece in enumerate(pieces)):
        return {}
    if not all(isfinite(piece.score) for piece in pieces):
        source.bad("tokenizer.model has scores that are not finite")
    return {number: piece.score for number, piece in enumerate(pieces)}


def _rank_scores(source: TokenizerFolder) -> dict[int, float]:
    """Scores that make llama.cpp merge in the order of tokenizer.json: a token's first merge counts."""
    order: dict[str, int] = {}
    for left, right in _merges(source):
        order.setdefault(left + right, len(order))
    for text, number in source.ids.items():
        if source.kinds[number] == NORMAL and text not in order:
            _check_whole(source, text)
    return {source.ids[text]: -float(rank) for text, rank in order.items()}


def _check_whole(source: TokenizerFolder, text: str) -> None:
    """A token that no merge makes must have no two tokens that llama.cpp would put together."""
    if len(text) > MAX_TOKEN:
        source.bad(f"a token has {len(text)} characters: {text!r:.60}")
    for at in range(1, len(text)):
        if text[:at] in source.ids and text[at:] in source.ids:
            source.elsewhere(f"tokenizer.json never makes the token {text!r:.60}, and llama.cpp would")
