"""Messages about a model's folder: what is missing, what is there, and what to type."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from redraft.errors import ModelError, UsageError
from redraft.train.model.load import check_tokenizer, check_weights, model_folder, save_weights
from tests.train.tiny import SHAPE


def folder(path: Path, *names: str) -> Path:
    path.mkdir(exist_ok=True)
    for name in names:
        (path / name).write_text("{}")
    return path


def index(path: Path, *names: str) -> None:
    weights = {f"layer.{number}": name for number, name in enumerate(names)}
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    model = folder(tmp_path, "config.json", "model-00001-of-00002.safetensors")
    index(model, "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    with pytest.raises(ModelError, match=r"lacks model-00002-of-00002\.safetensors"):
        check_weights(model)


def test_one_file_of_weights_is_enough_until_an_index_names_another(tmp_path: Path) -> None:
    model = folder(tmp_path, "config.json")
    save_file({"layer.0": torch.zeros(1)}, model / "model.safetensors")
    check_weights(model)
    index(model, "model.safetensors")
    check_weights(model)
    index(model, "other.safetensors")
    with pytest.raises(ModelError, match=r"lacks other\.safetensors"):
        check_weights(model)


def test_damaged_weights_are_named_before_they_are_loaded(tmp_path: Path) -> None:
    model = folder(tmp_path, "config.json")
    save_file({"layer.0": torch.zeros(9)}, model / "model.safetensors")
    whole = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(whole[:-4])
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        check_weights(model)


@pytest.mark.parametrize(
    ("names", "message", "hint"),
    [
        ((), "no config.json (it is empty)", "config.json"),
        (("model.safetensors",), "no config.json (there is: model.safetensors)", "config.json"),
        (("a.gguf",), "no config.json", "a.gguf"),
        (("config.json",), "no weights", "config.json"),
        (("config.json", "pytorch_model.bin"), "pickle", "redraft weights convert"),
        (("config.json", "adapter_config.json", "adapter_model.safetensors"), "adapter", "merge-lora"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, names: tuple[str, ...], message: str, hint: str) -> None:
    with pytest.raises(ModelError) as caught:
        check_weights(folder(tmp_path, *names))
    assert message in caught.value.message
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"weight_map": 3}', '{"weight_map": {"a": "../b.safetensors"}}', "[" * 100_000]
)
def test_a_damaged_index_is_said_to_be(tmp_path: Path, text: str) -> None:
    model = folder(tmp_path, "config.json")
    (model / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ModelError, match=r"index\.json (has|holds|is|says)"):
        check_weights(model)


def test_a_long_list_of_files_is_cut(tmp_path: Path) -> None:
    folder(tmp_path, *(f"{number:02}.txt" for number in range(40)))
    with pytest.raises(ModelError, match=r"11\.txt and 28 more"):
        check_weights(tmp_path)


def test_a_folder_without_a_tokenizer_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no tokenizer.*there is: config\.json"):
        check_tokenizer(folder(tmp_path, "config.json"))


def test_what_a_reference_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "mine")
    assert model_folder("mine") == Path("mine")
    assert model_folder("org/name") is None
    for wrong in ("llama-7b", "mine/none"):
        with pytest.raises(UsageError, match="neither a folder nor org/name"):
            model_folder(wrong)
    with pytest.raises(UsageError, match="is a file") as caught:
        model_folder("model.gguf")
    assert "redraft weights from-gguf model.gguf" in str(caught.value)


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_weights_are_as_readable_as_other_new_files(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        save_weights(LlamaForCausalLM(LlamaConfig(vocab_size=8, **SHAPE)), tmp_path)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes["model.safetensors"] == 0o666 & ~mask
    assert len(set(modes.values())) == 1
