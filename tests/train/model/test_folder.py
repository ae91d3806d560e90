"""What is missing in a model's folder is said, with what is there and what to type."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from redraft.errors import ModelError, UsageError
from redraft.train.model.folder import folder_of, insist_on_files, insist_on_tokenizer, model_folder


def folder(path: Path, *names: str) -> Path:
    path.mkdir(exist_ok=True)
    for name in names:
        (path / name).write_text("{}")
    return path


def index(path: Path, *names: str) -> None:
    weights = {f"layer.{number}": name for number, name in enumerate(names)}
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))


def test_a_missing_part_is_named_with_what_is_there(tmp_path: Path) -> None:
    model = folder(tmp_path, "config.json", "model-00001-of-00002.safetensors")
    index(model, "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    with pytest.raises(ModelError, match=r"lacks 1 of 2 files of weights: model-00002-of-00002") as caught:
        insist_on_files(model)
    assert "there is: config.json, model-00001-of-00002.safetensors" in caught.value.message


def test_one_file_of_weights_is_enough_until_an_index_names_another(tmp_path: Path) -> None:
    model = folder(tmp_path, "config.json", "model.safetensors")
    insist_on_files(model)
    index(model, "model.safetensors")
    insist_on_files(model)
    index(model, "other.safetensors")
    with pytest.raises(ModelError, match=r"lacks 1 of 1 files of weights: other"):
        insist_on_files(model)


@pytest.mark.parametrize(
    ("names", "message", "hint"),
    [
        ((), "no config.json (it is empty)", "config.json"),
        (("model.safetensors",), "no config.json (there is: model.safetensors)", "config.json"),
        (("a.gguf",), "no config.json", "a.gguf"),
        (("config.json",), "neither model.safetensors nor model.safetensors.index.json", "again"),
        (("config.json", "pytorch_model.bin"), "pickled", "redraft weights convert"),
        (("config.json", "adapter_config.json", "adapter_model.safetensors"), "adapter", "merge-lora"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, names: tuple[str, ...], message: str, hint: str) -> None:
    with pytest.raises(ModelError) as caught:
        insist_on_files(folder(tmp_path, *names))
    assert message in caught.value.message
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"weight_map": 3}', '{"weight_map": {"a": "../b.safetensors"}}', "[" * 100_000]
)
def test_a_damaged_index_is_said_to_be(tmp_path: Path, text: str) -> None:
    model = folder(tmp_path, "config.json")
    (model / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ModelError, match=r"index\.json is damaged"):
        insist_on_files(model)


def test_a_long_list_of_files_is_cut(tmp_path: Path) -> None:
    folder(tmp_path, *(f"{number:02}.txt" for number in range(40)))
    with pytest.raises(ModelError, match=r"11\.txt and 28 more"):
        insist_on_files(tmp_path)


def test_a_folder_without_a_tokenizer_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no tokenizer.*there is: config\.json"):
        insist_on_tokenizer(folder(tmp_path, "config.json"))


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


def test_a_gguf_file_becomes_a_folder_once_until_it_changes(tmp_path: Path) -> None:
    made: list[Path] = []

    def convert(_file: Path, to: Path) -> None:
        made.append(folder(to, "config.json"))

    file, cache = tmp_path / "small.gguf", tmp_path / "cache" / "models"
    file.write_bytes(b"GGUF")
    first = folder_of(str(file), cache=cache, convert=convert)
    assert folder_of(str(file), cache=cache, convert=convert) == first
    assert made == [Path(first)]
    file.write_bytes(b"GGUF and more")
    assert folder_of(str(file), cache=cache, convert=convert) != first
    assert folder_of("org/name", cache=cache, convert=convert) == "org/name"
    with pytest.raises(ModelError, match="cannot be read"):
        folder_of("missing.gguf", cache=cache, convert=convert)
