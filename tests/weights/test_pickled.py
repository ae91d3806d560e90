from __future__ import annotations

import io
import json
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from redraft.errors import ModelError
from redraft.weights import checkpoint
from redraft.weights.checkpoint import open_checkpoint, read_json
from redraft.weights.header import MAX_HEADER, MAX_TENSORS, MAX_VALUES, count_values, read_safetensors_header
from redraft.weights.tokenizers.sentencepiece import read_sentencepiece
from tests.cli.verbs import redraft
from tests.weights.model_files import saved


def rewritten(raw: bytes, change: Any) -> bytes:
    """A `.bin` with its records changed: `change(zip, name, data)` writes each."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            change(new, name, old.read(name))
    return out.getvalue()


def numbers(change: Any) -> Any:
    def each(new: zipfile.ZipFile, name: str, data: bytes) -> None:
        new.writestr(name, change(data) if "/data/" in name else data)

    return each


def twice(new: zipfile.ZipFile, name: str, data: bytes) -> None:
    with warnings.catch_warnings(action="ignore"):
        for _ in range(2 if name.endswith("/data/0") else 1):
            new.writestr(name, data)


class TestDamagedPickles:
    """Faults that torch finds when it reads a file, and misses when it maps it."""

    WEIGHTS: ClassVar[dict[str, torch.Tensor]] = {
        "a": torch.arange(1000, dtype=torch.float32),
        "b": torch.arange(500, dtype=torch.bfloat16),
        "c": torch.arange(300).to(torch.float8_e4m3fn),
        "d": torch.ones(7, dtype=torch.bool),
    }

    def refused(self, folder: Path, raw: bytes) -> str:
        (folder / "pytorch_model.bin").write_bytes(raw)
        with pytest.raises(ModelError) as caught:
            open_checkpoint(folder, allow_pickle=True)
        return caught.value.message

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (numbers(lambda data: data[: len(data) // 2]), "the record data/0 has 2,000 bytes, but its"),
            (numbers(lambda data: data[:-1]), "data/0 has 3,999 bytes, but its tensors need 4,000"),
            (numbers(lambda data: b""), "the record data/0 has 0 bytes"),
            (numbers(lambda data: data + b"\0"), "the record data/0 has 4,001 bytes"),
            (twice, "/data/0' twice"),
            (lambda new, name, data: new.writestr(name, data, zipfile.ZIP_DEFLATED), "is compressed"),
            (lambda new, name, data: "/data/1" in name or new.writestr(name, data), "is damaged"),
            (lambda new, name, data: name.endswith("data.pkl") or new.writestr(name, data), "is damaged"),
        ],
    )
    def test_records_that_are_not_as_torch_wrote_them(self, tmp_path: Path, change: Any, says: str) -> None:
        assert says in self.refused(tmp_path, rewritten(saved(self.WEIGHTS), change))

    def test_an_encrypted_record(self, tmp_path: Path) -> None:
        raw = bytearray(saved(self.WEIGHTS))
        raw[raw.rindex(b"PK\x01\x02") + 8] |= 1
        assert "is encrypted" in self.refused(tmp_path, bytes(raw))

    @pytest.mark.parametrize("newer", [True, False])
    def test_cut_off_anywhere(self, tmp_path: Path, newer: bool) -> None:
        raw = saved(self.WEIGHTS, _use_new_zipfile_serialization=newer)
        for end in range(0, len(raw), len(raw) // 20):
            assert "pytorch_model.bin" in self.refused(tmp_path, raw[:end])

    @pytest.mark.parametrize(
        ("size", "stride", "offset"), [((1001,), (1,), 0), ((10,), (200,), 0), ((10,), (1,), 991)]
    )
    def test_a_view_beyond_its_record(self, tmp_path: Path, size: Any, stride: Any, offset: int) -> None:
        view = torch.as_strided(torch.zeros(2000), size, stride, offset)
        short = numbers(lambda data: data[:4000])
        assert "data/0 has 4,000 bytes" in self.refused(tmp_path, rewritten(saved({"a": view}), short))

        def claims(new: zipfile.ZipFile, name: str, data: bytes) -> None:
            # 2000 elements become 1000 in the pickle too (BININT2).
            data = data.replace(b"M\xd0\x07", b"M\xe8\x03") if name.endswith("data.pkl") else data
            new.writestr(name, data[:4000] if "/data/" in name else data)

        assert "is damaged" in self.refused(tmp_path, rewritten(saved({"a": view}), claims))


# Headers.


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
    with pytest.raises(ModelError, match="more than any model"):
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
    with pytest.raises(ModelError, match="more JSON values than redraft accepts"):
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
        assert redraft("weights", verb, tmp_path).exit_code in (0, 1, 3)


def test_a_sentencepiece_model_of_many_fields(tmp_path: Path) -> None:
    number = b"".join(bytes([128 | i & 127, 128 | i >> 7 & 127, i >> 14]) + b"\0" for i in range(1 << 18))
    length = bytes([128 | len(number) & 127, 128 | len(number) >> 7 & 127, len(number) >> 14])
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a\x03\x0a\x01a\x12" + length + number)
    with pytest.raises(ModelError, match="fields"):
        read_sentencepiece(tmp_path / "tokenizer.model")
