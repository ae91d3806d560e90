"""`redraft weights`: the road from base and target to a model, and what is said where it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.cli.verbs import start, wait_until
from tests.cli.weights_verb import base_and_target, weights
from tests.weights.model_files import llama, load, same_model, save, tuned


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return base_and_target(tmp_path)


def test_there_and_back(here: Path) -> None:
    assert weights("diff", "base", "target", "-o", "delta", "--exact").exit_code == 0
    applied = weights("apply", "base", "delta", "-o", "again")
    assert applied.exit_code == 0
    assert applied.stderr == "redraft: vocabulary: none (as the delta says)\n"
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
    assert result.stderr == (
        "redraft: warning: 3 numbers in 2 tensors became infinite, at most 2 in one of them, 'a.weight': "
        "--dtype bf16 holds larger ones.\n"
        "redraft: 1 number in 'b.weight' became zero.\n"
    )
    quiet = weights("convert", "wide", "-o", "half", "--dtype", "fp16", "--force", "--quiet")
    assert quiet.stderr.startswith("redraft: warning: 3 numbers")
    assert "zero" not in quiet.stderr


@pytest.mark.parametrize(("size", "files"), [("single", 1), ("2KB", 9), ("0.01 MB", 2)])
def test_sizes_of_files(here: Path, size: str, files: int) -> None:
    assert weights("convert", "base", "-o", "again", "--shard-size", size).exit_code == 0
    assert len(list((here / "again").glob("*.safetensors"))) == files
    assert same_model(load(here / "again"), llama())


@pytest.mark.parametrize("size", ["0GB", "many"])
def test_a_size_that_is_none(here: Path, size: str) -> None:
    result = weights("convert", "base", "-o", "again", f"--shard-size={size}")
    assert result.exit_code == 2
    assert "which is not a size.\n  Such as 5GB" in result.stderr


def test_a_wrong_base_is_a_message(here: Path) -> None:
    weights("diff", "base", "target", "-o", "delta")
    save(here / "base", llama(5), files=2)
    result = weights("apply", "base", "delta", "-o", "again")
    assert result.exit_code == 3
    assert result.stderr.startswith("redraft: base is not the base that delta was made from")
    assert "Traceback" not in result.output
    assert not (here / "again").exists()


def test_a_shard_that_is_not_there(here: Path) -> None:
    (here / "base" / "model-00002-of-00002.safetensors").unlink()
    result = weights("convert", "base", "-o", "again")
    assert result.exit_code == 3
    said = "redraft: base lacks model-00002-of-00002.safetensors: its index names 2 files"
    assert result.stderr.startswith(said)
    assert weights("verify", "base").exit_code == 1


def test_a_name_of_the_hub_is_fetched(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(repo: str, *, pickle: bool) -> Path:
        asked.append((repo, pickle))
        return here / repo.rpartition("/")[2]

    monkeypatch.setattr("redraft.jobs.hub.fetch_folder", fetch)
    assert weights("diff", "org/base", "org/target", "-o", "delta", "--allow-pickle").exit_code == 0
    assert asked == [("org/base", True), ("org/target", True)]
    assert weights("verify", "../base").exit_code == 3
    assert len(asked) == 2


@pytest.mark.parametrize("ref", ["nowhere", "a/b/c", "./nowhere"])
def test_a_path_that_is_not_there(here: Path, ref: str) -> None:
    result = weights("verify", ref)
    assert result.exit_code == 3
    assert "Traceback" not in result.output


@pytest.mark.parametrize("name", ["diff", "from-gguf", "lora-gguf"])
def test_every_command_has_the_common_flags(name: str) -> None:
    helped = weights(name, "--help")
    assert helped.exit_code == 0
    for flag in ("--out", "--force", "--quiet"):
        assert flag in helped.stdout


def test_help_does_not_import_torch() -> None:
    code = "import sys; from redraft.cli import app; app(['weights', '--help'], standalone_mode=False);"
    code += "sys.exit(bool({'torch', 'numpy', 'gguf'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_without_torch_the_extra_is_named(here: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from redraft.cli import main; main()"
    command = [sys.executable, "-c", code, "weights", "diff", "base", "target", "-o", "delta"]
    result = subprocess.run(command, cwd=here, capture_output=True, text=True)
    assert result.returncode == 2
    assert "pip install '.[weights]'" in result.stderr


@pytest.mark.slow
def test_an_interrupted_run_says_how_to_go_on(here: Path) -> None:
    model = {f"t{i}.weight": torch.randn(1000, 1000) for i in range(20)}
    save(here / "large", model, files=20)
    run = start("weights", "convert", "large", "-o", "again", "--dtype", "fp16")
    wait_until(lambda: list((here / "again.partial").glob("*.safetensors")) or run.poll() is not None)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate()
    assert run.returncode == 130
    assert "interrupted. The same command, run again, resumes after the finished files." in said
    assert "Traceback" not in said
