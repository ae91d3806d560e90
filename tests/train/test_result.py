"""The file of `--gguf`: where it may be, and what it may hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from redraft.errors import ModelError, OutputError, RedraftError, UsageError
from redraft.train import sft
from redraft.train.options import SftOptions, parse
from redraft.train.run import check_output, remove_result, save
from redraft.train.sft import VERB
from tests.train.tiny import data, loop, prepared

pytestmark = pytest.mark.usefixtures("here")


def check(*words: str) -> None:
    VERB.check(parse(["--output_dir", "out", *words], SftOptions), "model")


@pytest.mark.parametrize(
    ("target", "kind", "said", "hint"),
    [
        ("adapter", UsageError, "--gguf adapter does not end in .gguf", "--gguf adapter.gguf"),
        ("folder.gguf", OutputError, "--gguf folder.gguf cannot be written", ""),
        ("theirs.gguf", OutputError, "theirs.gguf is not replaced", "name another --gguf FILE"),
        ("theirs.gguf/a.gguf", OutputError, " is not writable", ""),
        ("other.gguf", OutputError, "other.gguf exists, and is not from out", "name another --gguf FILE"),
    ],
)
def test_a_place_that_cannot_be(target: str, kind: type[RedraftError], said: str, hint: str) -> None:
    Path("folder.gguf").mkdir()
    Path("theirs.gguf").write_text("notes of somebody")
    for name, folder in (("other.gguf", "out2"), ("own.gguf", "out")):
        Path(name).touch()
        manifest = {"files": [name], "inputs": {"adapter": {"path": folder}, "base": {"path": "base"}}}
        Path(f"{name}.redraft.json").write_text(json.dumps(manifest))
    check("--gguf", "own.gguf")
    with pytest.raises(kind) as error:
        check("--gguf", target)
    assert said in error.value.message
    assert hint in str(error.value.hint)


def test_a_model_that_gguf_does_not_have() -> None:
    Path("model").mkdir()
    Path("model/config.json").write_text(json.dumps({"architectures": ["GPT2LMHeadModel"]}))
    check()
    with pytest.raises(ModelError, match="GPT2LMHeadModel"):
        check("--gguf", "new/a.gguf")
    assert not Path("new").exists()


def test_a_base_on_the_hub_is_where_it_was_downloaded_to(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(here))
    assert sft._base_folder("org/name") == Path("org/name")
    snapshot = here / "models--org--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (here / "models--org--name" / "refs").mkdir()
    (here / "models--org--name" / "refs" / "main").write_text("abc")
    assert sft._base_folder("org/name") == snapshot


# The output folder.


@pytest.mark.parametrize("part", ["out", "out/checkpoint-7", "model+out/checkpoint-7/", "a+b+./out+other"])
def test_what_a_run_begins_from_is_not_where_its_output_is(part: str) -> None:
    for folder in ("out/checkpoint-7", "a+b", "other", "out.2/checkpoint-1", "out/base"):
        Path(folder).mkdir(parents=True)
    check_output(Path("out"), "model", "a+b+out.2/checkpoint-1")
    check_output(Path("out"), "out/base", "org/name")
    with pytest.raises(UsageError, match=r"training starts from .+, which"):
        check_output(Path("out"), "model", part)


def test_what_a_name_stands_for_does_not_depend_on_the_output_being_there() -> None:
    Path("default").mkdir()
    check_output(Path("default"), "model", "default")  # the embedded model, whatever is here
    with pytest.raises(UsageError, match="training starts from org/name, which the output"):
        check_output(Path("org/name"), "org/name")


def test_a_result_is_removed_whole_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []
    monkeypatch.setattr(Path, "unlink", lambda path: removed.append(path.name))
    weights = [f"model-0000{part}-of-00002.safetensors" for part in (1, 2)]
    result = ["config.json", "generation_config.json", "model.safetensors.index.json", *weights]
    for name in (*result, "tokenizer_config.json", "tokenizer.json", "log.jsonl"):
        Path(name).touch()
    remove_result(Path())
    assert removed[0] == "config.json"
    assert sorted(removed) == sorted(result)


def test_a_result_uses_its_cache_as_its_base_does(tmp_path: Path) -> None:
    made = loop(tmp_path, data(prepared(tmp_path / "data")), max_steps=1)
    made.run()
    save(made)
    assert json.loads((tmp_path / "config.json").read_bytes())["use_cache"] is True
