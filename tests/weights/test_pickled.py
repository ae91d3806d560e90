"""Pickled weights: a damaged file is refused, and a whole one is read as torch reads it."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from redraft.errors import ModelError
from redraft.weights.checkpoint import open_checkpoint


def saved(value: Any, **options: Any) -> bytes:
    out = io.BytesIO()
    torch.save(value, out, **options)
    return out.getvalue()


def rewritten(raw: bytes, change: Any) -> bytes:
    """A `.bin` with its records changed: `change(zip, name, data)` writes each."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            change(new, name, old.read(name))
    return out.getvalue()


def numbers(change: Any) -> Any:
    """Change only the records that hold numbers."""

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
        at = raw.rindex(b"PK\x01\x02")
        raw[at + 8] |= 1
        assert "is encrypted" in self.refused(tmp_path, bytes(raw))

    @pytest.mark.parametrize("newer", [True, False])
    def test_cut_off_anywhere(self, tmp_path: Path, newer: bool) -> None:
        raw = saved(self.WEIGHTS, _use_new_zipfile_serialization=newer)
        for end in range(0, len(raw), len(raw) // 20):
            assert "pytorch_model.bin" in self.refused(tmp_path, raw[:end])

    def test_a_whole_one_is_read_as_torch_reads_it(self, tmp_path: Path) -> None:
        tied = torch.arange(12.0).reshape(3, 4)
        views = {
            "tied": tied,
            "rows": tied[1:],
            "turned": tied.t(),
            "over": tied.flatten().unfold(0, 2, 1)[:3],
        }
        (tmp_path / "pytorch_model.bin").write_bytes(saved(self.WEIGHTS | views))
        checkpoint = open_checkpoint(tmp_path, allow_pickle=True)
        theirs = torch.load(tmp_path / "pytorch_model.bin", weights_only=True)
        assert set(theirs) == set(checkpoint.tensors)
        for name, values in theirs.items():
            read, whole = checkpoint.read(name), values.contiguous().reshape(-1)
            assert read.view(torch.uint8).equal(whole.view(torch.uint8)), name

    @pytest.mark.parametrize(
        ("size", "stride", "offset"), [((1001,), (1,), 0), ((10,), (200,), 0), ((10,), (1,), 991)]
    )
    def test_a_view_beyond_its_record(self, tmp_path: Path, size: Any, stride: Any, offset: int) -> None:
        whole = torch.zeros(2000)
        view = torch.as_strided(whole, size, stride, offset)
        short = numbers(lambda data: data[:4000])
        assert "data/0 has 4,000 bytes" in self.refused(tmp_path, rewritten(saved({"a": view}), short))

        def claims(new: zipfile.ZipFile, name: str, data: bytes) -> None:
            # 2000 elements become 1000 in the pickle too (BININT2).
            data = data.replace(b"M\xd0\x07", b"M\xe8\x03") if name.endswith("data.pkl") else data
            new.writestr(name, data[:4000] if "/data/" in name else data)

        assert "is damaged" in self.refused(tmp_path, rewritten(saved({"a": view}), claims))
