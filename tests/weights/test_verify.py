from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from redraft.errors import ModelError, UsageError
from redraft.jobs.counting import size_in_words
from redraft.weights.verify import SHOWN, verify
from tests.gguf_files import gguf, noise, tiny_model
from tests.weights.model_files import CONFIG, llama, save

INDEX = "model.safetensors.index.json"


def model(folder: Path, changed: Mapping[str, Any] | None = None) -> Path:
    return save(folder, llama() | dict(changed or {}), files=2, config=CONFIG)


def manifest(folder: Path) -> None:
    files = {
        path.name: {"size": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in folder.iterdir()
    }
    (folder / "redraft.json").write_text(json.dumps({"files": files}))


FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


class TestSound:
    def test_a_folder(self, tmp_path: Path) -> None:
        told: list[int] = []
        report = verify(model(tmp_path), progress=told.append)
        every = llama()
        size = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
        assert report.findings == []
        assert (report.files, report.tensors, report.size) == (2, len(every), size)
        assert sum(told) == sum(each.nbytes for each in every.values())
        assert report.lines() == [
            f"{tmp_path}: sound (2 files, {len(every)} tensors, {size_in_words(size)}; no checksums)"
        ]

    def test_checksums_of_all_files(self, tmp_path: Path) -> None:
        manifest(model(tmp_path))
        report = verify(tmp_path)
        assert (report.findings, report.checksums) == ([], 4)
        assert "4 checksums verified" in report.lines()[-1]
        assert verify(tmp_path / SECOND).checksums == 1

    def test_other_dtypes(self, tmp_path: Path) -> None:
        mixed = {
            "f64": torch.rand(3, dtype=torch.float64),
            "f8": torch.rand(4).to(torch.float8_e4m3fn),
            "whole": torch.arange(5),
            "flags": torch.tensor([True]),
            "empty": torch.empty(0, 4),
            "one": torch.tensor(2.0),
        }
        save_file(mixed, tmp_path / "model.safetensors")
        assert verify(tmp_path).findings == []

    def test_a_pickle_where_it_is_allowed(self, tmp_path: Path) -> None:
        values = {"a": torch.ones(3), "b": torch.tensor([1.0, float("nan")])}
        torch.save(values, tmp_path / "pytorch_model.bin")
        with pytest.raises(UsageError, match="is a pickle"):
            verify(tmp_path)
        report = verify(tmp_path, allow_pickle=True)
        assert report.findings == ["pytorch_model.bin: 'b' has 1 NaN and 0 infinite among 2 values"]


OF_THE_INDEX: dict[str, tuple[Callable[[Path], object], str]] = {
    "a missing shard": (lambda m: (m / SECOND).unlink(), f"lacks {SECOND}: its index names 2 files"),
    "a truncated shard": (
        lambda m: os.truncate(m / FIRST, (m / FIRST).stat().st_size - 1),
        f"{FIRST} is not a valid safetensors file: its tensors do not fill its",
    ),
    "a tokenizer that was cut off": (
        lambda m: (m / "tokenizer.json").write_text('{"model": {"vocab": {"a": 1'),
        "tokenizer.json is not JSON",
    ),
}


class TestFaults:
    @pytest.mark.parametrize("fault", OF_THE_INDEX)
    def test_files_and_index(self, tmp_path: Path, fault: str) -> None:
        spoil, finding = OF_THE_INDEX[fault]
        spoil(model(tmp_path))
        (found,) = verify(tmp_path).findings
        assert finding in found

    @pytest.mark.parametrize(
        "file", ["a\nm: sound.safetensors", "\x1b[2J.safetensors", "x" * 300 + ".safetensors"]
    )
    def test_names_of_strangers_stay_in_their_line(self, tmp_path: Path, file: str) -> None:
        index = json.loads((model(tmp_path) / INDEX).read_text())
        index["weight_map"]["ghost"] = file
        (tmp_path / INDEX).write_text(json.dumps(index))
        (tmp_path / "redraft.json").write_text(json.dumps({"files": {file: {}}}))
        lines = verify(tmp_path).lines()
        assert all(line.isprintable() for line in lines)
        "\n".join(lines).encode()

    def test_values_that_are_none(self, tmp_path: Path) -> None:
        odd = llama()["model.norm.weight"].clone()
        odd[1], odd[3], odd[4] = float("nan"), float("inf"), float("-inf")
        report = verify(model(tmp_path, {"model.norm.weight": odd}))
        (finding,) = report.findings
        assert finding.endswith("'model.norm.weight' has 1 NaN and 2 infinite among 16 values")
        assert not report.sound
        assert report.lines()[-1].startswith(f"{tmp_path}: 1 fault (")

    def test_many_faults_are_counted_and_not_all_listed(self, tmp_path: Path) -> None:
        save_file({f"t{i}": torch.tensor([float("nan")]) for i in range(30)}, tmp_path / "model.safetensors")
        findings = verify(tmp_path).findings
        assert len(findings) == SHOWN + 1
        assert findings[-1] == f"… and {30 - SHOWN} more with NaN or infinite values"

    def test_files_that_were_changed_since(self, tmp_path: Path) -> None:
        manifest(model(tmp_path))
        raw = bytearray((tmp_path / FIRST).read_bytes())
        raw[-1] ^= 1
        (tmp_path / FIRST).write_bytes(raw)
        (tmp_path / "config.json").write_text(json.dumps(CONFIG) + "\n")
        (tmp_path / SECOND).rename(tmp_path / "gone.safetensors")
        size = len(json.dumps(CONFIG))
        lacking, *noted = verify(tmp_path).findings
        assert "lacks" in lacking
        assert sorted(noted) == [
            f"'config.json' has {size + 1} bytes, but the manifest says {size}",
            f"'{FIRST}' has changed since it was made: its SHA-256 differs from the manifest's",
            f"'{SECOND}' is missing, but the manifest names it",
        ]

    def test_a_manifest_cannot_name_files_elsewhere(self, tmp_path: Path) -> None:
        files = {"../secret": {"size": 1, "sha256": ""}, "config.json": 3}
        (model(tmp_path) / "redraft.json").write_text(json.dumps({"files": files}))
        assert verify(tmp_path).findings == []

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="there is no"):
            verify(tmp_path / "none")
        assert "has no weights" in verify(tmp_path).findings[0]

    @given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
    def test_any_flipped_bit_is_found(
        self, tmp_path_factory: pytest.TempPathFactory, at: int, bit: int
    ) -> None:
        folder = model(tmp_path_factory.mktemp("m"))
        manifest(folder)
        path = folder / FIRST
        raw = bytearray(path.read_bytes())
        raw[at % len(raw)] ^= 1 << bit
        path.write_bytes(raw)
        assert not verify(folder).sound


class TestGGUF:
    def test_a_sound_file_with_its_manifest(self, tmp_path: Path) -> None:
        path = tiny_model(tmp_path / "m.gguf")
        assert verify(path).checksums == 0
        noted = {"size": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        (tmp_path / "m.gguf.redraft.json").write_text(json.dumps({"files": {"m.gguf": noted}}))
        report = verify(path)
        assert (report.findings, report.checksums, report.files) == ([], 1, 1)
        assert report.size == noted["size"]

    def test_an_adapter_with_one_half_of_a_pair(self, tmp_path: Path) -> None:
        path, adapter = tmp_path / "a.gguf", {"general.type": "adapter", "general.architecture": "llama"}
        path.write_bytes(gguf(adapter, {"t.lora_a": noise((4, 2), 1.0)}))
        assert verify(path).findings == [f"{path} is damaged: it has 't.lora_a' without its .lora_b"]

    @pytest.mark.model
    def test_the_default_model(self, default_model: Path) -> None:
        report = verify(default_model)
        assert (report.findings, report.tensors) == ([], 272)
