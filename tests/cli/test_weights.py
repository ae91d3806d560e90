from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file, save_file

from tests.cli.verbs import start, wait_until
from tests.cli.weights_verb import base_and_target, weights
from tests.weights.model_files import llama, load, same_model, save, tuned
from tests.weights.tiny_folders import lora, tiny_folder

CARD = """---
license: other
license_name: llama-own
license_link: https://example.org/license
base_model:
- org/base
language: en
---
# A model
"""
TEXTS = {"README.md": CARD, "LICENSE.txt": "Terms.", "USE_POLICY.md": "Do no harm.", "NOTICE": "Made by us."}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return base_and_target(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    lora(tiny_folder(folder / "model"), folder / "adapter")
    return folder


@pytest.fixture
def models(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path, dirs_exist_ok=True))


def write(folder: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        (folder / name).write_text(text)


def succeeds(*args: object) -> str:
    result = weights(*args)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def test_there_and_back(here: Path) -> None:
    assert weights("diff", "base", "target", "-o", "delta", "--exact").exit_code == 0
    applied = weights("apply", "base", "delta", "-o", "again")
    assert applied.exit_code == 0
    assert applied.stderr == "redraft: convention for added tokens: none (as the delta records)\n"
    assert same_model(load(here / "again"), tuned(llama()))
    verified = weights("verify", "again")
    assert (verified.exit_code, verified.stdout.split()[:2]) == (0, ["again:", "sound"])
    info = weights("info", "again")
    assert info.exit_code == 0
    assert "LlamaForCausalLM" in info.stdout


def test_the_manifest_names_the_command_as_it_was_typed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ["weights", "diff", "base", "target", "-o", "my delta"]
    monkeypatch.setattr(sys, "argv", ["/usr/bin/redraft", *typed])
    assert weights(*typed[1:]).exit_code == 0
    manifest = json.loads((here / "my delta" / "redraft.json").read_text())
    assert manifest["command"] == "redraft weights diff base target -o 'my delta'"
    assert manifest["inputs"]["base"]["path"] == "base"


def test_losses_are_a_warning(here: Path) -> None:
    save(here / "wide", {"a.weight": torch.tensor([1e9, 1e9]), "b.weight": torch.tensor([1e9, 1e-9])})
    result = weights("convert", "wide", "-o", "half", "--dtype", "fp16")
    assert result.exit_code == 1
    assert "redraft: 1 number in 'b.weight' became zero: " in result.stderr
    quiet = weights("convert", "wide", "-o", "half", "--dtype", "fp16", "--force", "--quiet")
    assert quiet.stderr.startswith("redraft: warning: 3 numbers")
    assert "zero" not in quiet.stderr


def test_a_name_of_the_hub_is_fetched(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(repo: str, *, pickle: bool) -> Path:
        asked.append((repo, pickle))
        return here / repo.rpartition("/")[2]

    monkeypatch.setattr("redraft.jobs.hub.fetch_folder", fetch)
    assert weights("diff", "org/base", "org/target", "-o", "delta", "--allow-pickle").exit_code == 0
    assert asked == [("org/base", True), ("org/target", True)]
    assert weights("verify", "../base").exit_code == 2
    assert len(asked) == 2


@pytest.mark.slow
def test_an_interrupted_run_leaves_nothing(here: Path) -> None:
    save(here / "large", {f"t{i}.weight": torch.randn(1000, 1000) for i in range(20)}, files=20)
    run = start("weights", "convert", "large", "-o", "again", "--dtype", "fp16")
    wait_until(lambda: list((here / "again.partial").glob("*.safetensors")) or run.poll() is not None)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate()
    assert run.returncode == 130
    assert "Traceback" not in said
    assert not list(here.glob("again*"))


def test_cards_and_licences_go_along(here: Path) -> None:
    write(here / "target", TEXTS)
    assert weights("convert", "target", "-o", "copy").exit_code == 0
    assert weights("diff", "base", "target", "-o", "delta").exit_code == 0
    assert weights("apply", "base", "delta", "-o", "again").exit_code == 0
    for folder in ("copy", "delta", "again"):
        assert {name: (here / folder / name).read_text() for name in TEXTS} == TEXTS


def test_a_gguf_file_names_licence_and_base_and_gives_them_back(here: Path) -> None:
    tiny_folder(here / "model")
    write(here / "model", TEXTS)
    assert weights("gguf", "model", "-o", "m.gguf").exit_code == 0
    fields = GGUFReader(here / "m.gguf").fields
    said = {name: each.contents() for name, each in fields.items() if name.startswith("general.")}
    assert (said["general.license"], said["general.license.name"]) == ("other", "llama-own")
    assert said["general.license.link"] == "https://example.org/license"
    assert (said["general.base_model.count"], said["general.base_model.0.name"]) == (1, "base")
    assert said["general.base_model.0.repo_url"] == "https://huggingface.co/org/base"
    assert weights("from-gguf", "m.gguf", "-o", "back").exit_code == 0
    card = (here / "back" / "README.md").read_text()
    front = CARD.partition("language")[0].removeprefix("---\n")
    assert card.startswith("---\n")
    assert set(front.splitlines()) <= set(card.splitlines())


@pytest.mark.parametrize(
    "args",
    [
        ["apply", "base", "delta", "-o", "delta", "--force"],
        ["apply", "base", "delta", "-o", "./base/../delta", "--force"],
        ["apply", "base", "link", "-o", "delta", "--force"],
        ["apply", "base", "delta", "-o", "delta/within"],
        ["convert", "base/model-00001-of-00002.safetensors", "-o", "base", "--force"],
    ],
)
def test_an_input_is_not_an_output(here: Path, args: list[str]) -> None:
    weights("diff", "base", "target", "-o", "delta")
    (here / "link").symlink_to("delta")
    before = {path: path.read_bytes() for path in sorted(here.glob("*/*")) if path.is_file()}
    result = weights(*args)
    assert result.exit_code == 2
    assert "which is an input of this command" in result.stderr
    assert {path: path.read_bytes() for path in sorted(here.glob("*/*")) if path.is_file()} == before


def test_a_gguf_file_is_not_its_own_input(here: Path) -> None:
    tiny_folder(here / "model")
    assert weights("gguf", "model", "-o", "model/m.gguf").exit_code == 0, "beside the weights it may lie"
    assert weights("from-gguf", "model/m.gguf", "-o", "model", "--force").exit_code == 2
    assert (here / "model" / "model.safetensors").exists()


@pytest.mark.parametrize("trained_on", ["default", "default+first"])
def test_an_adapter_of_the_default_model(
    models: Path, monkeypatch: pytest.MonkeyPatch, trained_on: str
) -> None:
    tried = weights("gguf", "model", "-o", "m.gguf").stderr
    assert tried == "redraft: m.gguf contains a model of 223 kB. Try it: redraft ask … --model m.gguf\n"
    monkeypatch.setattr("redraft.engines.llamacpp.default_model.cached_default", lambda: models / "m.gguf")
    config = models / "adapter" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": trained_on}))
    assert "(BASE.gguf is" in weights("lora-gguf", "adapter", "-o", "b.gguf", "--base", "model").stderr
    made = weights("lora-gguf", "adapter", "-o", "a.gguf")
    ref = trained_on.replace("+first", "+first.gguf").replace("default", "default-base") + "+a.gguf"
    assert made.stderr.startswith("redraft: a.gguf contains an adapter of ")
    assert made.stderr.endswith(f"Try it: redraft ask … --model {ref}\n")
    named = json.loads((models / "a.gguf.redraft.json").read_text())["inputs"]["base"]["path"]
    assert Path(named).name == "m.gguf"
    assert "lora adapter for llama.cpp (GGUF)" in succeeds("info", "a.gguf")
    shutil.copytree("adapter", "first")
    (models / "first" / "adapter_config.json").write_text(config.read_text().replace("+first", ""))
    if trained_on == "default+first":
        refused = weights("merge-lora", "model", "adapter", "-o", "wrong")
        assert "was trained on default+first, but model has no record of merging first.\n" in refused.stderr
        assert "  redraft weights merge-lora default+first adapter -o FOLDER\n" in refused.stderr
        succeeds("merge-lora", "model", "first", "-o", "with-first", "-q")
    base_of_same = "with-first" if "+" in trained_on else "model"
    for base, merged in ((trained_on, "merged"), (base_of_same, "same")):
        succeeds("merge-lora", base, "adapter", "-o", merged, "-q", "--dtype", "fp16")
    merged, same = (load_file(models / name / "model.safetensors") for name in ("merged", "same"))
    assert all(torch.equal(merged[name], same[name]) for name in same)


def test_faults_end_with_status_1(models: Path) -> None:
    broken = load_file("model/model.safetensors")
    broken["model.norm.weight"][3] = torch.nan
    save_file(broken, models / "model" / "model.safetensors")
    result = weights("verify", "model")
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout.startswith(
        "model.safetensors: 'model.norm.weight' has 1 NaN and 0 infinite among 64"
    )


@pytest.mark.parametrize(
    ("status", "command", "said"),
    [
        (2, ("gguf", "model", "-o", "out", "--quant", "q4_k_m"), "--quant q4_k_m is not supported; "),
        (2, ("gguf", "none", "-o", "out"), "there is no none."),
        (2, ("merge-lora", "model", "none", "-o", "out"), "there is no none."),
        (2, ("merge-lora", "mine", "adapter", "-o", "out"), "mine is not a checkpoint"),
        (2, ("merge-lora", "empty", "adapter", "-o", "out"), "empty has no weights"),
        (2, ("merge-lora", "model", "half", "-o", "out"), "half has no weights"),
        (3, ("from-gguf", "none.gguf", "-o", "out"), "there is no model file none.gguf."),
        (3, ("merge-lora", "model", "model", "-o", "out"), "model is not an adapter"),
        (
            2,
            ("merge-lora", "model", "begun", "-o", "out"),
            "begun contains checkpoints, but no finished adapt",
        ),
        (2, ("lora-gguf", "adapter", "-o", "out", "--base", "none"), "the base model of adapter was not"),
        (2, ("gguf", "model", "-o", "mine"), "mine exists.\n  Choose another output with -o, or replace it"),
        (2, ("gguf", "model", "-o", "mine", "--force"), "mine is not replaced, even with --force: redraft"),
        (2, ("verify", "./nowhere"), "there is no nowhere."),
    ],
)
def test_a_fault_of_an_input_is_a_message(
    models: Path, status: int, command: tuple[str, ...], said: str
) -> None:
    (models / "mine").write_text("mine")
    (models / "empty").mkdir()
    (models / "begun" / "checkpoint-1").mkdir(parents=True)
    shutil.copytree(models / "adapter", models / "half", ignore=lambda *_: {"adapter_model.safetensors"})
    before = sorted(models.iterdir())
    result = weights(*command)
    assert (result.exit_code, result.stdout) == (status, "")
    assert result.stderr.startswith(f"redraft: {said}")
    assert sorted(models.iterdir()) == before
