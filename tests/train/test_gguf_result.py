"""The file of `--gguf`: where it may be, and what it may hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from redraft.errors import ModelError, OutputError, RedraftError, UsageError
from redraft.train import sft
from redraft.train.options import SftOptions, parse
from redraft.train.sft import VERB


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(*words: str) -> None:
    VERB.check(parse(["--output_dir", "out", *words], SftOptions), "model")


@pytest.mark.parametrize(
    ("target", "kind", "said", "hint"),
    [
        ("adapter", UsageError, "--gguf adapter does not end in .gguf", "--gguf adapter.gguf"),
        ("folder.gguf", OutputError, "--gguf folder.gguf cannot be written", ""),
        ("theirs.gguf", OutputError, "theirs.gguf is not replaced", "name another --gguf FILE"),
        ("theirs.gguf/a.gguf", OutputError, " is not writable", ""),
    ],
)
def test_a_place_that_cannot_be(target: str, kind: type[RedraftError], said: str, hint: str) -> None:
    Path("folder.gguf").mkdir()
    Path("theirs.gguf").write_text("notes of somebody")
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
