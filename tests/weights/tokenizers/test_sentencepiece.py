"""Reading tokenizer.model: as SentencePiece's own reader does, and nothing but ModelError on bad bytes."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redraft.errors import ModelError
from redraft.weights.tokenizers import sentencepiece
from redraft.weights.tokenizers.sentencepiece import ScoredPiece, read_sentencepiece
from tests.weights.tokenizer_files import sentencepiece_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sentencepiece")
    sentencepiece_model(path, user_defined_symbols=["<tool>"], control_symbols=["<turn>"], pad_id=3)
    return path


def test_pieces_are_those_that_sentencepiece_reads(folder: Path) -> None:
    import sentencepiece

    theirs = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    ours = read_sentencepiece(folder / "tokenizer.model")
    assert [(piece.text, piece.score) for piece in ours.pieces] == [
        (theirs.id_to_piece(number), theirs.get_score(number)) for number in range(theirs.vocab_size())
    ]
    assert ours.ids == {"unk": 0, "bos": 1, "eos": 2, "pad": 3}
    kinds = {piece.text: piece.kind for piece in ours.pieces}
    assert [kinds[text] for text in ("▁", "<unk>", "<s>", "<tool>", "<turn>", "<0x0A>")] == [1, 2, 3, 4, 3, 6]
    assert ours.adds_space
    assert not ours.normalizes


def test_what_is_done_to_texts_is_read(tmp_path: Path) -> None:
    sentencepiece_model(tmp_path, add_dummy_prefix=False, normalization_rule_name="nmt_nfkc")
    model = read_sentencepiece(tmp_path / "tokenizer.model")
    assert not model.adds_space
    assert model.normalizes
    sentencepiece_model(tmp_path, remove_extra_whitespaces=True)
    assert read_sentencepiece(tmp_path / "tokenizer.model").normalizes


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    sentencepiece_model(tmp_path, model_type="unigram", hard_vocab_limit=False)
    with pytest.raises(ModelError, match=r"of the unigram kind(.|\n)*convert_hf_to_gguf"):
        read_sentencepiece(tmp_path / "tokenizer.model")


def file_of(folder: Path, data: bytes) -> Path:
    path = folder / "bad.model"
    path.write_bytes(data)
    return path


BPE = b"\x12\x02\x18\x02"


def test_the_smallest_model(tmp_path: Path) -> None:
    data = b"\x0a\x08\x0a\x01a\x15\x00\x00\x80\xbf" + BPE
    assert read_sentencepiece(file_of(tmp_path, data)).pieces == (ScoredPiece("a", -1.0, 1),)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (BPE + b"\x0a\xff\xff\xff\xff\x0f", "a field at byte 10 is cut off: 0 of 4294967295 bytes are there"),
        (BPE + b"\x0a" + b"\xff" * 12, "has more than ten bytes"),
        (BPE + b"\x0a", "not a valid SentencePiece model"),
        (BPE + b"\x0b\x00", "unknown type 3"),
        (BPE + b"\x08\x01", "should be a text is a number"),
        (BPE + b"\x0a\x02\x10\x01", "should be a text is a number"),
        (BPE + b"\x0a\x04\x12\x02ab", "not a valid SentencePiece model"),
        (BPE + b"\x0a\x03\x0a\x01\xff", "not a valid SentencePiece model"),
        (b"\x12\x03\x1a\x01a", "should be a number is a text"),
        (b"\x80", "not a valid SentencePiece model"),
        (b"", "the tokenizer has no tokens"),
    ],
)
def test_damage_is_said(data: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=said):
        read_sentencepiece(file_of(tmp_path, data))


def test_pipes_and_devices_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.model")
    with pytest.raises(ModelError, match=r"pipe\.model is not a regular file"):
        read_sentencepiece(tmp_path / "pipe.model")


def test_more_pieces_than_any_model_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentencepiece, "MAX_PIECES", 2)
    assert len(read_sentencepiece(file_of(tmp_path, BPE + b"\x0a\x00" * 2)).pieces) == 2
    with pytest.raises(ModelError, match="the tokenizer has more than 2 tokens"):
        read_sentencepiece(file_of(tmp_path, BPE + b"\x0a\x00" * 3))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0), bits=st.integers(1, 255), cut=st.integers(0, 40))
def test_any_damage_is_an_error_or_read(folder: Path, tmp_path: Path, at: int, bits: int, cut: int) -> None:
    data = bytearray((folder / "tokenizer.model").read_bytes())
    data[at % len(data)] ^= bits
    with suppress(ModelError):
        read_sentencepiece(file_of(tmp_path, bytes(data[: len(data) - cut])))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=64))
def test_any_bytes_are_an_error_or_a_model(tmp_path: Path, data: bytes) -> None:
    with suppress(ModelError):
        read_sentencepiece(file_of(tmp_path, BPE + data))
