"""GGUF adapters that training goes on from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from redraft.errors import ModelError
from redraft.weights.checkpoint import read_json
from redraft.weights.gguf.families import sizes_from_config
from redraft.weights.lora.gguf import lora_gguf, lora_weights
from tests.weights.adapter_files import lora
from tests.weights.tiny_folders import ARCHITECTURES, tiny_folder


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_weights_are_those_that_peft_saved(architecture: str, tmp_path: Path) -> None:
    base = tiny_folder(tmp_path / "base", architecture)
    adapter = lora(base, tmp_path / "adapter")
    lora_gguf(adapter, tmp_path / "adapter.gguf")
    found = lora_weights(tmp_path / "adapter.gguf", sizes_from_config(read_json(base / "config.json")))
    saved = load_file(adapter / "adapter_model.safetensors")
    assert found.keys() == saved.keys()
    assert all(torch.equal(found[name], values.float()) for name, values in saved.items())


def test_what_changes_embeddings_is_refused(tmp_path: Path) -> None:
    base = tiny_folder(tmp_path / "base", tie_word_embeddings=False)
    lora_gguf(lora(base, tmp_path / "adapter", target_modules=["lm_head"]), tmp_path / "adapter.gguf")
    with pytest.raises(ModelError, match="changes 'output"):
        lora_weights(tmp_path / "adapter.gguf", sizes_from_config(read_json(base / "config.json")))
