"""`redraft weights` between folders, GGUF files and adapters: what comes out, what is said of bad input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import Result

from redraft.weights.gguf.reader import check_adapter, read_header
from tests.cli.weights_verb import weights
from tests.gguf_files import tiny_model
from tests.weights.adapter_files import lora
from tests.weights.tiny_folders import tiny_folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and an adapter for it."""
    folder = tmp_path_factory.mktemp("made")
    tiny_folder(folder / "model")
    lora(folder / "model", folder / "adapter")
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with copies of both."""
    monkeypatch.chdir(tmp_path)
    for name in ("model", "adapter"):
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path


def succeeds(*args: object) -> Result:
    result = weights(*args)
    assert (result.exit_code, result.stderr) == (0, "")
    return result


def fails(status: int, *args: object) -> str:
    """What is said, once it is seen that no output was left, and no traceback."""
    before = sorted(Path().iterdir())
    result = weights(*args)
    assert (result.exit_code, result.stdout) == (status, "")
    assert result.stderr.startswith("redraft: ")
    assert "Traceback" not in result.stderr
    assert sorted(Path().iterdir()) == before
    return result.stderr.removeprefix("redraft: ")


def tensors(folder: str) -> dict[str, torch.Tensor]:
    return load_file(Path(folder) / "model.safetensors")


def change(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# What comes out


def test_to_gguf_and_back_changes_no_bit(here: Path) -> None:
    succeeds("gguf", "model", "-o", "m.gguf")
    succeeds("from-gguf", "m.gguf", "-o", "back")
    before, after = tensors("model"), tensors("back")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    manifest = json.loads((here / "back" / "redraft.json").read_text())
    assert manifest["inputs"]["source"]["path"] == "m.gguf"


def test_a_gguf_adapter_fits_the_gguf_model(here: Path) -> None:
    succeeds("gguf", "model", "-o", "m.gguf")
    succeeds("lora-gguf", "adapter", "-o", "a.gguf", "--base", "m.gguf")
    check_adapter(
        here / "a.gguf", read_header(here / "a.gguf"), here / "m.gguf", read_header(here / "m.gguf")
    )
    named = json.loads((here / "a.gguf.redraft.json").read_text())["inputs"]["base"]["path"]
    assert Path(named).name == "m.gguf"
    assert "lora adapter for llama.cpp (GGUF)" in succeeds("info", "a.gguf").stdout


@pytest.mark.parametrize("trained_on", ["default", "default+first"])
def test_an_adapter_of_the_default_model(
    here: Path, monkeypatch: pytest.MonkeyPatch, trained_on: str
) -> None:
    succeeds("gguf", "model", "-o", "m.gguf")
    monkeypatch.setattr("redraft.engines.llamacpp.default_model.cached_default", lambda: here / "m.gguf")
    change(here / "adapter" / "adapter_config.json", base_model_name_or_path=trained_on)
    succeeds("lora-gguf", "adapter", "-o", "a.gguf")
    named = json.loads((here / "a.gguf.redraft.json").read_text())["inputs"]["base"]["path"]
    assert Path(named).name == "m.gguf"
    said = fails(3, "merge-lora", "default", "adapter", "-o", "merged")
    assert said.endswith(f"  redraft weights from-gguf {here / 'm.gguf'} -o DIR\n")


def test_faults_end_with_status_1(here: Path) -> None:
    broken = tensors("model")
    broken["model.norm.weight"][3] = torch.nan
    save_file(broken, here / "model" / "model.safetensors")
    result = weights("verify", "model")
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout.startswith("model.safetensors: 'model.norm.weight' has 1 NaN and 0 infinite of 64")


# What is said


def large_numbers(here: Path) -> None:
    wide = {name: each.float() for name, each in tensors("model").items()}
    wide["model.layers.1.mlp.up_proj.weight"][0, :3] = 1e6
    save_file(wide, here / "model" / "model.safetensors")


DAMAGE = "redraft: warning: 3 numbers in 'model.layers.1.mlp.up_proj.weight' became infinite: "


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_damage_is_said_whoever_wants_quiet(here: Path, quiet: list[str]) -> None:
    large_numbers(here)
    exported = weights("gguf", "model", "-o", "m.gguf", *quiet)
    assert (exported.exit_code, exported.stderr) == (1, DAMAGE + "--quant bf16 holds larger ones.\n")
    merged = weights("merge-lora", "model", "adapter", "-o", "merged", "--dtype", "fp16", *quiet)
    assert (merged.exit_code, merged.stderr) == (1, DAMAGE + "--dtype bf16 holds larger ones.\n")
    succeeds("gguf", "model", "-o", "wide.gguf", "--quant", "bf16")
    back = weights("from-gguf", "wide.gguf", "-o", "back", "--dtype", "fp16", *quiet)
    assert (back.exit_code, back.stderr) == (1, DAMAGE + "--dtype bf16 holds larger ones.\n")


def test_remarks_are_left_out_for_who_wants_quiet(here: Path) -> None:
    odd = tiny_folder(here / "odd", intermediate_size=100)
    said = weights("gguf", odd, "-o", "m.gguf", "--quant", "q4_0").stderr
    assert "2 matrices become F16, because their rows are not a multiple of 32" in said
    assert weights("gguf", odd, "-o", "n.gguf", "--quant", "q4_0", "--quiet").stderr == ""


@pytest.mark.parametrize(
    "command",
    [
        ("gguf", "model", "-o", "out"),
        ("merge-lora", "model", "adapter", "-o", "out"),
    ],
)
def test_an_output_that_exists(here: Path, command: tuple[str, ...]) -> None:
    succeeds("gguf", "model", "-o", "m.gguf")
    (here / "out").write_text("mine")
    hint = "  Choose another output with -o, or replace it with --force.\n"
    assert fails(2, *command) == f"out exists.\n{hint}"
    assert "redraft did not make it" in fails(2, *command, "--force")
    assert (here / "out").read_text() == "mine"
    (here / "out").unlink()
    succeeds(*command)
    succeeds(*command, "--force")


@pytest.mark.parametrize(
    ("status", "command", "said"),
    [
        (2, ("gguf", "model", "-o", "out", "--quant", "q4_k_m"), "--quant q4_k_m is not supported; "),
        (2, ("gguf", "m.gguf", "-o", "out"), "m.gguf is a GGUF file already."),
        (3, ("gguf", "none", "-o", "out"), "there is no none."),
        (3, ("gguf", "adapter", "-o", "out"), "adapter is an adapter, but a model is needed."),
        (
            3,
            ("from-gguf", "other.gguf", "-o", "out"),
            "the GGUF architecture 'gemma3' cannot be converted",
        ),
        (3, ("from-gguf", "none.gguf", "-o", "out"), "there is no model file none.gguf."),
        (3, ("from-gguf", "old.ggml", "-o", "out"), "old.ggml is in the older GGJT format"),
        (3, ("from-gguf", "short.gguf", "-o", "out"), "short.gguf is truncated"),
        (3, ("merge-lora", "model", "model", "-o", "out"), "model is not an adapter"),
        (
            3,
            ("merge-lora", "adapter", "adapter", "-o", "out"),
            "adapter is an adapter, but a model is needed.",
        ),
        (
            2,
            ("lora-gguf", "adapter", "-o", "out", "--base", "none"),
            "the base of adapter, none, is not here",
        ),
        (3, ("lora-gguf", "model", "-o", "out"), "model is not an adapter"),
        (3, ("info", "old.ggml"), "old.ggml is in the older GGJT format"),
    ],
)
def test_a_fault_of_an_input_is_a_message(
    here: Path, status: int, command: tuple[str, ...], said: str
) -> None:
    succeeds("gguf", "model", "-o", "m.gguf")
    (here / "short.gguf").write_bytes((here / "m.gguf").read_bytes()[:-500])
    (here / "old.ggml").write_bytes(b"tjgg" + bytes(100))
    tiny_model(here / "other.gguf", {"general.architecture": "gemma3"})
    assert fails(status, *command).startswith(said)
