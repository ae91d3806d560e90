"""`redraft weights` between folders, GGUF files and adapters: what comes out, what is said of bad input."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import Result

from redraft.weights.gguf.reader import check_adapter, read_header
from tests.cli.weights_verb import weights
from tests.gguf_files import gguf as gguf_bytes
from tests.gguf_files import tiny_model
from tests.weights.adapter_files import logits, lora, with_adapter
from tests.weights.tiny_folders import load, tiny_folder


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


def test_a_quantised_file_is_what_it_says(here: Path) -> None:
    succeeds("gguf", "model", "-o", "m.gguf", "--quant", "q4_0")
    table = succeeds("info", "m.gguf").stdout
    assert "model for llama.cpp (GGUF)" in table
    assert any(line.split()[1:4] == ["15", "×", "Q4_0"] for line in table.splitlines())
    assert succeeds("verify", "m.gguf").stdout.startswith("m.gguf: sound (1 file, 21 tensors")
    succeeds("from-gguf", "m.gguf", "-o", "back", "--dtype", "fp32")
    assert {each.dtype for each in tensors("back").values()} == {torch.float32}


def test_a_merged_model_says_what_base_and_adapter_say(here: Path) -> None:
    succeeds("merge-lora", "model", "adapter", "-o", "merged", "--dtype", "fp32")
    said, expected = (
        logits(load(here / "merged")),
        logits(with_adapter(here / "model", here / "adapter")),
    )
    torch.testing.assert_close(said, expected, rtol=1e-3, atol=1e-3)
    assert succeeds("verify", "merged").stdout.startswith("merged: sound")
    assert "  what          model\n" in succeeds("info", "merged").stdout


@pytest.mark.parametrize("base", [[], ["--base", "model"], ["--base", "m.gguf"]])
def test_a_gguf_adapter_fits_the_gguf_model(here: Path, base: list[str]) -> None:
    succeeds("gguf", "model", "-o", "m.gguf")
    succeeds("lora-gguf", "adapter", "-o", "a.gguf", *base)
    check_adapter(
        here / "a.gguf", read_header(here / "a.gguf"), here / "m.gguf", read_header(here / "m.gguf")
    )
    named = json.loads((here / "a.gguf.redraft.json").read_text())["inputs"]["base"]["path"]
    assert Path(named).name == (base[1] if base else "model")
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


def test_an_adapter_is_called_one(here: Path) -> None:
    assert "  what        LoRA adapter of peft\n" in succeeds("info", "adapter").stdout
    lines = succeeds("verify", "adapter").stdout.splitlines()
    assert lines[-1].startswith("adapter: sound")


def test_faults_end_with_status_1(here: Path) -> None:
    broken = tensors("model")
    broken["model.norm.weight"][3] = torch.nan
    save_file(broken, here / "model" / "model.safetensors")
    change(here / "model" / "config.json", vocab_size=261, attention_bias=True)
    result = weights("verify", "model")
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout.splitlines()[:3] == [
        "model.safetensors: 'model.norm.weight' has 1 NaN and 0 infinite of 64 values",
        "model.embed_tokens.weight is 260 × 64, but the configuration says 261 × 64",
        "model.layers.0.self_attn.q_proj.bias is missing",
    ]


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


def test_quantisations_that_llama_cpp_makes(here: Path) -> None:
    said = fails(2, "gguf", "model", "-o", "m.gguf", "--quant", "q4_k_m")
    assert said == (
        "--quant q4_k_m is not supported; llama.cpp's llama-quantize makes it.\n"
        "  Make a file with --quant f16, then: llama-quantize F16.gguf OUT.gguf Q4_K_M\n"
    )
    assert "--quant q9 is not known" in fails(2, "gguf", "model", "-o", "m.gguf", "--quant", "q9")


def test_other_architectures_name_their_tool(here: Path) -> None:
    change(here / "model" / "config.json", architectures=["GemmaForCausalLM"])
    said = fails(3, "gguf", "model", "-o", "m.gguf")
    assert said.startswith("the architecture 'GemmaForCausalLM' cannot be converted to GGUF; ")
    assert "python convert_hf_to_gguf.py FOLDER" in said
    tiny_model(here / "m.gguf", {"general.architecture": "gemma3"})
    assert "'gemma3' cannot be converted to a folder" in fails(3, "from-gguf", "m.gguf", "-o", "back")


def test_metas_own_layout_names_its_script(here: Path) -> None:
    (here / "meta").mkdir()
    (here / "meta" / "consolidated.00.pth").write_bytes(b"PK")
    (here / "meta" / "params.json").write_text("{}")
    for path in ("meta", "meta/consolidated.00.pth"):
        said = fails(3, "gguf", path, "-o", "m.gguf")
        assert said.startswith("meta holds weights in Meta's own layout")
        assert "convert_llama_weights_to_hf --input_dir meta --output_dir DIR" in said


@pytest.mark.parametrize("name", ["ggml-model-q4_1.bin", "old.gguf", "old.ggml"])
@pytest.mark.parametrize("command", ["gguf", "from-gguf"])
def test_files_from_before_gguf_name_their_tool(here: Path, command: str, name: str) -> None:
    (here / name).write_bytes(b"tjgg" + bytes(100))
    said = fails(3, command, name, "-o", "out")
    assert said.startswith(f"{name} is in the older GGJT format, from before GGUF.")
    assert f"convert_llama_ggml_to_gguf.py --input {name}" in said
    assert fails(3, "info", name).startswith(f"{name} is in the older GGJT format")
    verified = weights("verify", name)
    assert verified.exit_code == 1
    assert verified.stdout.startswith(f"{name} is in the older GGJT format")


@pytest.mark.parametrize(
    "command",
    [
        ("gguf", "model", "-o", "out"),
        ("from-gguf", "m.gguf", "-o", "out"),
        ("merge-lora", "model", "adapter", "-o", "out"),
        ("lora-gguf", "adapter", "-o", "out"),
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


def test_an_adapter_is_no_model(here: Path) -> None:
    hint = "  Merge it first: redraft weights merge-lora BASE adapter -o DIR\n"
    for command in (("gguf", "adapter"), ("merge-lora", "adapter", "adapter")):
        said = fails(3, *command, "-o", "out")
        assert said == f"adapter is an adapter, but a model is needed.\n{hint}"
    succeeds("lora-gguf", "adapter", "-o", "a.gguf")
    assert fails(3, "from-gguf", "a.gguf", "-o", "out").startswith("a.gguf is an adapter, not a model.")


def test_a_model_is_no_adapter(here: Path) -> None:
    for command in (("merge-lora", "model", "model"), ("lora-gguf", "model")):
        said = fails(3, *command, "-o", "out")
        assert said.startswith("model is not an adapter: it has no adapter_config.json.")


@pytest.mark.parametrize("method", ["gptq", "fp8", "bitsandbytes"])
def test_quantised_models_are_not_taken_for_weights(here: Path, method: str) -> None:
    change(here / "model" / "config.json", quantization_config={"quant_method": method})
    for command in (("gguf", "model"), ("merge-lora", "model", "adapter")):
        assert fails(3, *command, "-o", "out").startswith(f"model is quantised ('{method}'): ")


def test_a_gguf_file_is_no_folder_and_a_folder_no_gguf_file(here: Path) -> None:
    succeeds("gguf", "model", "-o", "m.gguf")
    assert fails(2, "gguf", "m.gguf", "-o", "out").startswith("m.gguf is a GGUF file already.")
    assert fails(3, "from-gguf", "model", "-o", "out").startswith("model is a folder, not a GGUF file.")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (("gguf", "model"), "config.json"),
        (("gguf", "model"), "tokenizer.json"),
        (("gguf", "model"), "tokenizer_config.json"),
        (("merge-lora", "model", "adapter"), "config.json"),
        (("merge-lora", "model", "adapter"), "adapter_config.json"),
        (("lora-gguf", "adapter"), "adapter_config.json"),
        (("info", "model"), "tokenizer_config.json"),
    ],
)
def test_half_a_character_is_a_message(here: Path, command: tuple[str, ...], name: str) -> None:
    (path,) = here.glob(f"*/{name}")
    change(path, note="\ud800")
    out = () if command[0] in ("info", "verify") else ("-o", "out")
    said = fails(3, *command, *out)
    assert said.startswith(f"{path.relative_to(here)} holds half of a character")


@pytest.mark.parametrize("command", ["gguf", "info", "verify"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_devices_are_not_read(here: Path, command: str, name: str) -> None:
    path = here / "model" / name
    path.unlink()
    path.symlink_to("/dev/zero")
    message = f"model/{name} is a link to /dev/zero"
    if command == "verify":
        result = weights("verify", "model")
        assert (result.exit_code, result.stdout.startswith(message)) == (1, True)
        return
    out = ("-o", "out") if command == "gguf" else ()
    assert fails(3, command, "model", *out).startswith(message)


def test_a_pipe_is_not_waited_for(here: Path) -> None:
    os.mkfifo(here / "m.gguf")
    assert fails(3, "from-gguf", "m.gguf", "-o", "back").startswith("m.gguf is not a regular file.")


def test_what_is_not_there(here: Path) -> None:
    assert "there is no model file none.gguf." in fails(3, "from-gguf", "none.gguf", "-o", "back")
    assert "there is no none." in fails(3, "gguf", "none", "-o", "m.gguf")
    assert "none is not an adapter" in fails(3, "merge-lora", "model", "none", "-o", "m")
    assert "none, is not here" in fails(2, "lora-gguf", "adapter", "-o", "m", "--base", "none")
    assert "there is no none." in fails(3, "info", "none")


def test_a_damaged_gguf_file(here: Path) -> None:
    succeeds("gguf", "model", "-o", "m.gguf")
    raw = (here / "m.gguf").read_bytes()
    (here / "m.gguf").write_bytes(raw[:-500])
    assert "m.gguf is truncated" in fails(3, "from-gguf", "m.gguf", "-o", "back")
    assert "m.gguf is truncated" in fails(3, "info", "m.gguf")
    verified = weights("verify", "m.gguf")
    assert (verified.exit_code, verified.stdout.splitlines()[0][:19]) == (1, "m.gguf is truncated")
    (here / "empty.gguf").write_bytes(gguf_bytes({"general.architecture": "llama"}))
    assert "holds no model" in fails(3, "from-gguf", "empty.gguf", "-o", "back")
