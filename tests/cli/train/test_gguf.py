from __future__ import annotations

import json
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from redraft.cli.train import gguf
from redraft.cli.train.gguf import insist_on_gguf
from redraft.errors import ModelError, OutputError, RedraftError, UsageError
from redraft.train.options import Options
from redraft.weights.gguf.quant import QUANTS


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("target", "kind", "said", "hint"),
    [
        ("adapter", UsageError, "--gguf adapter has no name by which", "--gguf adapter.gguf"),
        ("folder.gguf", OutputError, "--gguf folder.gguf is a folder.", "--gguf folder.gguf/NAME.gguf"),
        ("theirs.gguf", OutputError, "theirs.gguf is not replaced", "name another --gguf FILE"),
        ("theirs.gguf/a.gguf", OutputError, "nothing can be written in ", "--gguf FILE"),
    ],
)
def test_a_place_that_cannot_be(target: str, kind: type[RedraftError], said: str, hint: str) -> None:
    Path("folder.gguf").mkdir()
    Path("theirs.gguf").write_text("notes of somebody")
    with pytest.raises(kind) as error:
        insist_on_gguf(Options(gguf=target), "model")
    assert said in error.value.message
    assert hint in str(error.value.hint)
    assert "-o" not in str(error.value.hint)


def test_a_model_that_gguf_does_not_have() -> None:
    Path("model").mkdir()
    Path("model/config.json").write_text(json.dumps({"architectures": ["GPT2LMHeadModel"]}))
    insist_on_gguf(Options(), "model")
    with pytest.raises(ModelError, match="GPT2LMHeadModel"):
        insist_on_gguf(Options(gguf="new/a.gguf"), "model")
    assert not Path("new").exists()


def test_number_formats_are_those_that_are_written() -> None:
    assert set(get_args(get_type_hints(Options)["gguf_quant"])) == set(QUANTS)


def test_a_base_on_the_hub_is_where_it_was_downloaded_to(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(here))
    assert gguf._folder("org/name") == Path("org/name")
    snapshot = here / "models--org--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (here / "models--org--name" / "refs").mkdir()
    (here / "models--org--name" / "refs" / "main").write_text("abc")
    assert gguf._folder("org/name") == snapshot
