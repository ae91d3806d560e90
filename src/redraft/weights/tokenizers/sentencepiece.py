"""Read a SentencePiece model (`tokenizer.model`): the pieces, and how the model treats spaces.

The file is a protocol buffer. Only a dozen fields are needed, so this module parses the file without a
dependency. Files are untrusted: every length is checked, and inconsistencies raise a `ModelError`.

Format: sentencepiece_model.proto of SentencePiece (field numbers and defaults), and the wire format of
protocol buffers. GGUF's `tokenizer.ggml.token_type` uses the same numbers for the types of pieces.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from redraft.errors import ModelError
from redraft.weights.checkpoint import read_small
from redraft.weights.header import AGAIN

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

SPACE = "▁"  # the mark for a space in a piece
MAX_TOKEN = 1024  # characters of a piece. SentencePiece's default limit is 16.
MAX_PIECES = 1 << 20  # four times as many as any model has
MAX_FIELDS = 1 << 16  # fields of a message. The trainer's settings name some thousand symbols at most.

_BPE = 2
_KINDS = {1: "unigram", 3: "word", 4: "char"}

Field = int | bytes  # a number, or the bytes of a text, a message, or a float


@dataclass(frozen=True)
class ScoredPiece:
    """A token with its score and type. Tokens with higher scores are merged earlier."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True)
class SentencePiece:
    """A SentencePiece model."""

    pieces: tuple[ScoredPiece, ...]  # by id
    # Ids of the special tokens by role: bos, eos, unk, pad. Missing roles are left out.
    ids: Mapping[str, int]
    adds_space: bool  # whether a space is added before a text
    normalizes: bool  # whether texts are normalised: characters replaced, or runs of spaces collapsed


def read_sentencepiece(path: Path) -> SentencePiece:
    """Read a SentencePiece model of the type BPE."""
    try:
        return _model(path, read_small(path))
    except (ValueError, IndexError, TypeError, struct.error) as error:
        raise ModelError(f"{path} is not a valid SentencePiece model: {error}.", hint=AGAIN) from None


def _model(path: Path, data: bytes) -> SentencePiece:
    pieces: list[ScoredPiece] = []
    trainer: dict[int, Field] = {}
    normalizer: dict[int, Field] = {}
    for number, value in _fields(data):
        if number == 1:
            fields = _message(_bytes(value))
            text = _bytes(fields.get(1, b"")).decode("utf-8")
            score = struct.unpack("<f", _bytes(fields[2]))[0] if 2 in fields else 0.0
            pieces.append(ScoredPiece(text, score, _int(fields.get(3, NORMAL))))
            if len(pieces) > MAX_PIECES:
                raise ValueError(f"the tokenizer has more than {MAX_PIECES} tokens")
        elif number == 2:
            trainer |= _message(_bytes(value))
        elif number == 3:
            normalizer |= _message(_bytes(value))
    kind = _int(trainer.get(3, 1))
    if not pieces:
        raise ValueError("the tokenizer has no tokens")
    if kind != _BPE:
        what = f"a SentencePiece model of the {_KINDS.get(kind, 'unknown')} kind; only bpe is supported"
        hint = "Try llama.cpp's convert_hf_to_gguf.py: it supports more tokenizers."
        raise ModelError(f"{path} is {what}.", hint=hint)
    roles = {"unk": (40, 0), "bos": (41, 1), "eos": (42, 2), "pad": (43, -1)}
    # A negative id, stored in 64 bits, means that there is no such token.
    ids = {role: _int(trainer.get(number, usual)) for role, (number, usual) in roles.items()}
    return SentencePiece(
        pieces=tuple(pieces),
        ids={role: number for role, number in ids.items() if 0 <= number < len(pieces)},
        adds_space=normalizer.get(3, 1) != 0,
        normalizes=bool(normalizer.get(2)) or normalizer.get(4, 1) != 0,
    )


def _message(data: bytes) -> dict[int, Field]:
    fields = {}
    for count, (number, value) in enumerate(_fields(data)):
        if count == MAX_FIELDS:
            raise ValueError(f"a message has more than {MAX_FIELDS} fields")
        fields[number] = value
    return fields


def _fields(data: bytes) -> Iterator[tuple[int, Field]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field has the unknown type {kind} at byte {at}")
        if size > len(data) - at:
            raise ValueError(f"a field at byte {at} is cut off: {len(data) - at} of {size} bytes are there")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError(f"the number before byte {at} has more than ten bytes")


def _int(value: Field) -> int:
    if isinstance(value, int):
        return value
    raise ValueError("a field that should be a number is a text")


def _bytes(value: Field) -> bytes:
    if isinstance(value, bytes):
        return value
    raise ValueError("a field that should be a text is a number")
