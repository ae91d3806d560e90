"""Adapters of a lower rank."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file

from redraft.errors import UsageError
from redraft.weights.gguf.reader import read_header
from redraft.weights.lora.rank import lower_rank
from redraft.weights.lora.to_gguf import lora_gguf
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
