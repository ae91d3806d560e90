"""A GGUF file that is rewritten: other number formats, and adapters that are merged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from redraft.weights.gguf.from_folder import export_gguf
from redraft.weights.gguf.quant import Kind, TensorReader
from redraft.weights.gguf.reader import read_header
from redraft.weights.gguf.requantise import rewrite
from tests.gguf_files import lora
from tests.weights.tiny_folders import tiny_folder

MATRIX = "blk.0.attn_q.weight"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    export_gguf(tiny_folder(folder / "hf"), folder / "m.gguf", quant="q4_1")
    return folder / "m.gguf"


def values(path: Path, name: str) -> np.ndarray:
    header = read_header(path)
    return TensorReader(path, header).rows(header.tensors[name])


def rewritten(model: Path, target: Path, *adapters: Path) -> Path:
    with target.open("wb") as file:
        rewrite(model, file, adapters)
    return target


def test_matrices_become_q8_0_and_all_else_is_copied(model: Path, tmp_path: Path) -> None:
    found = rewritten(model, tmp_path / "out.gguf")
    before, after = read_header(model, whole=True), read_header(found, whole=True)
    assert after.metadata == {**before.metadata, "general.file_type": 7}
    assert list(after.tensors) == list(before.tensors)
    assert {each.kind for each in before.tensors.values()} == {Kind.F32, Kind.Q4_1, Kind.Q8_0}
    for name, tensor in before.tensors.items():
        ours, theirs = values(found, name), values(model, name)
        assert after.tensors[name].kind == (Kind.Q8_0 if len(tensor.shape) > 1 else Kind.F32)
        assert np.abs(ours - theirs).max() <= np.abs(theirs).max() / 127
    assert rewritten(found, tmp_path / "again.gguf").read_bytes() == found.read_bytes()


def test_adapters_are_added(model: Path, tmp_path: Path) -> None:
    size = read_header(model).tensors[MATRIX].shape
    adapter = lora(tmp_path / "a.gguf", size=(size[0], size[1]), tensor=MATRIX, scale=0.1)
    a, b = (values(adapter, f"{MATRIX}.lora_{half}") for half in "ab")
    found = rewritten(model, tmp_path / "out.gguf", adapter, adapter)
    expected = values(model, MATRIX) + 2 * (b @ a)  # alpha and rank are 2, and it is there twice
    assert np.abs(values(found, MATRIX) - expected).max() <= np.abs(expected).max() / 127
    assert np.abs(expected - values(model, MATRIX)).max() > 0.001
