"""Headers and small files that would take far more memory than real ones are refused before parsing."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from typer.testing import CliRunner

from redraft.cli import app
from redraft.errors import ModelError
from redraft.weights import checkpoint
from redraft.weights.checkpoint import read_json
from redraft.weights.header import MAX_HEADER, MAX_TENSORS, MAX_VALUES, count_values, read_safetensors_header
from redraft.weights.tokenizers.sentencepiece import read_sentencepiece

# Enough for more values than any header or small file may have, whatever they are.
SIZE = 17_000_000


def safetensors(path: Path, header: bytes) -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return path


def entry(number: int) -> bytes:
    return b'"model.layers.%d.weight":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % number


def many(unit: bytes) -> bytes:
    return (unit + b",") * (SIZE // (len(unit) + 1)) + unit


@pytest.mark.parametrize("unit", [b"[]", b"{}", b"0"])
def test_a_header_of_many_values(tmp_path: Path, unit: bytes) -> None:
    path = safetensors(tmp_path / "m.safetensors", b'{"a":[' + many(unit) + b"]}")
    with pytest.raises(ModelError, match="more values than the header of any model"):
        read_safetensors_header(path)


def test_more_tensors_than_any_model_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redraft.weights.header.MAX_TENSORS", 1000)
    header = b"{" + b",".join(map(entry, range(1001))) + b"}"
    with pytest.raises(ModelError, match="more tensors than any model"):
        read_safetensors_header(safetensors(tmp_path / "m.safetensors", header))


def test_as_many_tensors_as_the_largest_models_have() -> None:
    names = {f"tensor {i}": f"file {i}" for i in range(140_000)}
    note = json.dumps({"__metadata__": {"tags": json.dumps(names)}})[:-1].encode()
    header = note + b"," + b",".join(map(entry, range(140_000))) + b"}"
    assert len(header) < MAX_HEADER
    assert count_values(header) <= MAX_VALUES
    assert len(names) < MAX_TENSORS


@pytest.mark.parametrize(("name", "unit"), [("config.json", b"[]"), ("tokenizer.json", b'{"a":0}')])
def test_a_small_file_of_many_values(tmp_path: Path, name: str, unit: bytes) -> None:
    (tmp_path / name).write_bytes(b'{"a":[' + many(unit) + b"]}")
    with pytest.raises(ModelError, match="more values than any such file"):
        read_json(tmp_path / name)


def test_a_tokenizer_as_large_as_the_largest_is_read() -> None:
    """Gemma 3 has 262,144 tokens and 514,906 merges, each a pair (its tokenizer.json)."""
    model = {"vocab": {f"t{i}": i for i in range(262_144)}, "merges": [["a", "b"]] * 514_906}
    assert count_values(json.dumps({"model": model}).encode()) <= checkpoint._MOST_IN_TOKENIZER


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors.index.json"])
@pytest.mark.parametrize("pair", [b"[]", b'{"a":}'], ids=["lists", "objects"])
def test_deep_nesting_is_a_message(tmp_path: Path, name: str, pair: bytes) -> None:
    deep = 100_000
    opened, closed = pair[:-1], pair[-1:]
    (tmp_path / name).write_bytes(b'{"a":' + opened * deep + b"0" + closed * deep + b"}")
    with pytest.raises(ModelError, match=f"{name} is not JSON"):
        read_json(tmp_path / name)


@pytest.mark.parametrize("depth", [300, 900, 3000])
def test_nesting_of_any_depth_never_shows_a_traceback(tmp_path: Path, depth: int) -> None:
    nested = '{"a":' * depth + "0" + "}" * depth
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        (tmp_path / name).write_text(nested)
    (tmp_path / "tokenizer.json").write_text('{"model": {}, "pre_tokenizer": ' + nested + "}")
    header = json.dumps({"__metadata__": {"redraft.delta": nested}}).encode()
    safetensors(tmp_path / "model.safetensors", header)
    for verb in ("info", "verify"):
        result = CliRunner().invoke(app, ["weights", verb, str(tmp_path)], prog_name="redraft")
        assert isinstance(result.exception, SystemExit | None), result.exception
        assert result.exit_code in (0, 1, 3)


def test_a_sentencepiece_model_of_many_fields(tmp_path: Path) -> None:
    number = b"".join(bytes([128 | i & 127, 128 | i >> 7 & 127, i >> 14]) + b"\0" for i in range(1 << 18))
    length = bytes([128 | len(number) & 127, 128 | len(number) >> 7 & 127, len(number) >> 14])
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a\x03\x0a\x01a\x12" + length + number)
    with pytest.raises(ModelError, match="fields"):
        read_sentencepiece(tmp_path / "tokenizer.model")
