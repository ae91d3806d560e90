from __future__ import annotations

import io
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind

from redraft.errors import ModelError
from redraft.weights.gguf.from_folder import export_gguf
from redraft.weights.gguf.quant import QUANTS, TensorReader, header_bytes, kind_for, quantize, size_of
from redraft.weights.gguf.reader import read_header
from redraft.weights.gguf.requantise import rewrite
from tests.gguf_files import lora
from tests.weights.tiny_folders import tiny_folder

MADE = [Kind.F32, Kind.F16, *(kind for kind in QUANTS.values() if kind != Kind.F16)]
NAMES = (
    "Q2_K Q3_K Q4_K Q5_K Q6_K IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S IQ4_NL IQ4_XS TQ1_0 TQ2_0 MXFP4"
)


@pytest.mark.parametrize("values", [[np.nan, np.inf, -np.inf, 1e38], [1e5, -1e5, 1e-45, -0.0]])
@pytest.mark.parametrize("kind", MADE)
def test_odd_values_make_no_noise(kind: Kind, values: list[float]) -> None:
    assert quantize(np.array([values * 8], np.float32), kind).nbytes == size_of((1, 32), kind)


@pytest.mark.parametrize("kind", [Kind[name] for name in NAMES.split()])
def test_k_quants_are_read(kind: Kind, tmp_path: Path) -> None:
    row = 512
    raw = np.random.default_rng(2).integers(0, 60, (6, size_of((row,), kind)), np.uint8)
    file = written(tmp_path, kind, (6, row), raw.tobytes())
    reader = TensorReader(file, read_header(file))
    tensor = reader.header.tensors["t"]
    expected = gguf.quants.dequantize(raw, kind)
    assert reader.rows(tensor).tobytes() == expected.tobytes()
    assert reader.rows(tensor, 2, 5).tobytes() == expected[2:5].tobytes()


def written(tmp_path: Path, kind: Kind, shape: tuple[int, ...], raw: bytes) -> Path:
    file = io.BytesIO()
    file.write(header_bytes("llama", {"general.name": "one tensor"}, [("t", shape, kind)]))
    file.write(bytes(-file.tell() % 32) + raw)
    (tmp_path / "m.gguf").write_bytes(file.getvalue())
    return tmp_path / "m.gguf"


def test_a_file_that_became_shorter(tmp_path: Path) -> None:
    file = written(tmp_path, Kind.F32, (4, 8), bytes(128))
    reader = TensorReader(file, read_header(file))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ModelError, match="became shorter"):
        reader.rows(reader.header.tensors["t"])


def test_a_format_that_gguf_cannot_undo(tmp_path: Path) -> None:
    file = written(tmp_path, Kind.I32, (4, 8), bytes(128))
    reader = TensorReader(file, read_header(file))
    with pytest.raises(ModelError, match="I32 cannot be dequantised"):
        reader.rows(reader.header.tensors["t"])


def test_what_becomes_what() -> None:
    quant = QUANTS["q4_0"]
    assert kind_for("blk.0.ffn_up.weight", (8, 64), quant, tied=False) is Kind.Q4_0
    assert kind_for("blk.0.ffn_up.weight", (8, 65), quant, tied=False) is Kind.F16
    assert kind_for("blk.0.attn_norm.weight", (64,), quant, tied=False) is Kind.F32
    assert kind_for("output.weight", (8, 64), quant, tied=False) is Kind.Q8_0
    assert kind_for("token_embd.weight", (8, 64), quant, tied=False) is Kind.Q4_0
    assert kind_for("token_embd.weight", (8, 64), quant, tied=True) is Kind.Q8_0
    assert kind_for("output.weight", (8, 65), QUANTS["bf16"], tied=False) is Kind.BF16


def test_empty_texts_and_lists_have_no_key(tmp_path: Path) -> None:
    said = {"a": "", "b": [], "c": 0, "d": False, "e": 0.0, "f": ["x"], "g": [1, -2], "h": [0.5]}
    (tmp_path / "m.gguf").write_bytes(header_bytes("llama", said, []))
    metadata = read_header(tmp_path / "m.gguf").metadata
    expected = {"c": 0, "d": False, "e": 0.0, "f": ("x",), "g": (1, -2), "h": (0.5,)}
    assert dict(metadata) == {"general.architecture": "llama", **expected}


# Files that are rewritten as Q8_0.


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
