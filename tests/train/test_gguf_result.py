"""The file of `--gguf`: where it may be, and what it may hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from redraft.errors import ModelError, OutputError, RedraftError, UsageError
from redraft.train import sft
from redraft.train.options import SftOptions, parse
from redraft.train.sft import VERB
from redraft.weights.gguf.quant import QUANTS


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
        ("folder.gguf", OutputError, "--gguf folder.gguf is a folder.", "--gguf folder.gguf/NAME.gguf"),
        ("theirs.gguf", OutputError, "theirs.gguf is not replaced", "name another --gguf FILE"),
        ("theirs.gguf/a.gguf", OutputError, " is not writable", "--gguf FILE"),
    ],
)
def test_a_place_that_cannot_be(target: str, kind: type[RedraftError], said: str, hint: str) -> None:
    Path("folder.gguf").mkdir()
    Path("theirs.gguf").write_text("notes of somebody")
    with pytest.raises(kind) as error:
        check("--gguf", target)
    assert said in error.value.message
    assert hint in str(error.value.hint)
    assert "-o" not in str(error.value.hint)


def test_a_model_that_gguf_does_not_have() -> None:
    Path("model").mkdir()
    Path("model/config.json").write_text(json.dumps({"architectures": ["GPT2LMHeadModel"]}))
    check()
    with pytest.raises(ModelError, match="GPT2LMHeadModel"):
        check("--gguf", "new/a.gguf")
    assert not Path("new").exists()


@pytest.mark.parametrize("inputs", [{"adapter": {"path": "sums"}, "base": {"path": "model"}}, {}])
def test_a_file_of_another_output_is_not_replaced(inputs: dict[str, Any]) -> None:
    """A file without a manifest may come from an earlier version."""
    Path("sums.gguf").touch()
    Path("sums.gguf.redraft.json").write_text(json.dumps({"files": {"sums.gguf": {}}, "inputs": inputs}))
    gguf = ["--gguf", "sums.gguf"]
    check(*gguf, "--output_dir", "./sums/")
    check(*gguf, "--overwrite_output_dir")
    if inputs:
        with pytest.raises(OutputError, match=r"sums\.gguf was made from sums, not from out\.") as error:
            check(*gguf)
        assert error.value.hint == "Move it away, or name another --gguf FILE."


def test_an_adapter_on_the_matrix_of_input_and_output_has_no_place() -> None:
    shape = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 9, **shape}
    words = ["--gguf", "a.gguf", "--lora_target_modules", "q_proj", "lm_head"]
    Path("model").mkdir()
    for tied in (False, True):
        Path("model/config.json").write_text(json.dumps({**config, "tie_word_embeddings": tied}))
        check(*words, "--lora", str(not tied))
    with pytest.raises(UsageError, match="cannot change 'lm_head'"):
        check(*words, "--lora", "True")


def test_number_formats_are_those_that_are_written() -> None:
    assert set(get_args(SftOptions.model_fields["gguf_quant"].annotation)) == set(QUANTS)


def test_a_base_on_the_hub_is_where_it_was_downloaded_to(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(here))
    assert sft._base_folder("org/name") == Path("org/name")
    snapshot = here / "models--org--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (here / "models--org--name" / "refs").mkdir()
    (here / "models--org--name" / "refs" / "main").write_text("abc")
    assert sft._base_folder("org/name") == snapshot
