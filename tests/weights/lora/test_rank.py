"""Adapters of a lower rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from redraft.errors import ModelError, UsageError
from redraft.weights.gguf.reader import read_header
from redraft.weights.lora.gguf import lora_gguf
from redraft.weights.lora.rank import lower_rank
from tests.weights.adapter_files import lora
from tests.weights.tiny_folders import tiny_folder

WEIGHT = "blk.0.ffn_up.weight"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of rank 4 whose changes have rank 3."""
    folder = tmp_path_factory.mktemp("rank")
    made = lora(tiny_folder(folder / "base"), folder / "adapter")
    weights = load_file(made / "adapter_model.safetensors")
    for name, values in weights.items():
        if "lora_A" in name:
            values[3] = values[:3].sum(0)
    save_file(weights, made / "adapter_model.safetensors")
    lora_gguf(made, folder / "whole.gguf")
    return folder / "whole.gguf"


def change(file: Path) -> torch.Tensor:
    found = {each.name: torch.tensor(each.data).float() for each in gguf.GGUFReader(file).tensors}
    a, b = found[f"{WEIGHT}.lora_a"], found[f"{WEIGHT}.lora_b"]
    return float(str(read_header(file).metadata["adapter.lora.alpha"])) / b.shape[1] * b @ a


def test_a_rank_that_suffices_changes_nothing(adapter: Path, tmp_path: Path) -> None:
    assert lower_rank(adapter, tmp_path / "low.gguf", 3) == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(change(tmp_path / "low.gguf"), change(adapter), atol=2e-3, rtol=0)
    old, new = (read_header(path).metadata for path in (adapter, tmp_path / "low.gguf"))
    assert {**old, "adapter.lora.alpha": new["adapter.lora.alpha"]} == new


def test_a_lower_rank_is_the_nearest(adapter: Path, tmp_path: Path) -> None:
    assert 0.5 < lower_rank(adapter, tmp_path / "low.gguf", 2) < 1
    lost = torch.linalg.matrix_norm(change(adapter) - change(tmp_path / "low.gguf"))
    assert lost == pytest.approx(float(torch.linalg.svdvals(change(adapter))[2]), rel=0.02)


def test_a_rank_that_is_not_lower_is_refused(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="rank 4, which is not higher than 4"):
        lower_rank(adapter, tmp_path / "low.gguf", 4)


def again(adapter: Path, file: Path, factor: float = 1.0) -> Path:
    """The adapter with its tensors in the other order, and B times a factor."""
    found = {each.name: np.array(each.data, np.float32) for each in gguf.GGUFReader(adapter).tensors}
    turned = {name: found[name] * (factor if name.endswith("b") else 1) for name in reversed(found)}
    return written(file, turned, float(str(read_header(adapter).metadata["adapter.lora.alpha"])))


def written(file: Path, tensors: dict[str, Any], alpha: float) -> Path:
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_float32("adapter.lora.alpha", alpha)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def test_the_order_of_tensors_does_not_matter(adapter: Path, tmp_path: Path) -> None:
    lower_rank(again(adapter, tmp_path / "again.gguf"), tmp_path / "low.gguf", 3)
    torch.testing.assert_close(change(tmp_path / "low.gguf"), change(adapter), atol=2e-3, rtol=0)


def test_an_adapter_that_changes_nothing_keeps_all(adapter: Path, tmp_path: Path) -> None:
    assert lower_rank(again(adapter, tmp_path / "none.gguf", 0.0), tmp_path / "low.gguf", 2) == 1.0


def test_numbers_that_are_not_finite_are_refused(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not finite"):
        lower_rank(again(adapter, tmp_path / "nan.gguf", float("nan")), tmp_path / "low.gguf", 2)


def test_a_file_that_is_no_adapter_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "model.gguf", {WEIGHT: np.ones((4, 4), np.float32)}, 1.0)
    with pytest.raises(ModelError, match="is not a LoRA adapter"):
        lower_rank(tmp_path / "model.gguf", tmp_path / "low.gguf", 2)
