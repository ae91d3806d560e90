"""`verify` checks what the conversions check: numbers, tensors, tokenizer and adapter fit each other."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader, GGUFWriter
from safetensors.torch import load_file, save_file

from redraft.weights.delta import diff
from redraft.weights.gguf.from_folder import export_gguf
from redraft.weights.lora.gguf import lora_gguf
from redraft.weights.verify import Verdict, verify
from tests.gguf_files import tiny_model
from tests.weights.adapter_files import lora
from tests.weights.tiny_folders import tiny_folder

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 4096\n" % (b"0" * 64)
EPS = "llama.attention.layer_norm_rms_epsilon"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and a LoRA adapter of it, both as folders and as GGUF files. All are sound."""
    folder = tmp_path_factory.mktemp("made")
    tiny_folder(folder / "model")
    lora(folder / "model", folder / "adapter")
    export_gguf(folder / "model", folder / "model.gguf")
    lora_gguf(folder / "adapter", folder / "adapter.gguf", base=folder / "model")
    return folder


@pytest.fixture
def model(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "model", tmp_path / "model"))


@pytest.fixture
def adapter(made: Path, tmp_path: Path, model: Path) -> Path:
    folder = Path(shutil.copytree(made / "adapter", tmp_path / "adapter"))
    change(folder / "adapter_config.json", base_model_name_or_path=str(model))
    return folder


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def without(file: Path, *endings: str) -> None:
    """Remove tensors from a safetensors file."""
    kept = {name: each for name, each in load_file(file).items() if not name.endswith(endings)}
    save_file(kept, file, {"format": "pt"})


def finding(report: Verdict, words: str) -> str:
    """The one finding with these words in it."""
    (found,) = [each for each in report.findings if words in each]
    return found


def noted(path: Path, words: str) -> None:
    report = verify(path)
    assert report.findings == []
    assert words in report.notes[0]


def test_what_was_made_is_sound(made: Path, adapter: Path) -> None:
    for path in (made / "model", made / "model.gguf", made / "adapter.gguf", adapter):
        report = verify(path)
        assert (report.findings, report.notes) == ([], [])


class TestGGUFModel:
    @pytest.mark.parametrize(
        ("changed", "words"),
        [
            ({"blk.0.ffn_up.weight": None}, "blk.0.ffn_up.weight is missing"),
            ({"blk.0.attn_q.weight": (4, 4)}, "blk.0.attn_q.weight is"),
            ({"blk.0.ghost.weight": (2, 2)}, "tensors that no LlamaForCausalLM has: 'blk.0.ghost.weight'"),
        ],
    )
    def test_tensors(self, tmp_path: Path, changed: dict[str, Any], words: str) -> None:
        assert finding(verify(rewritten(tiny_model(tmp_path / "m.gguf"), changed)), words)

    @pytest.mark.parametrize(
        ("key", "value", "words"),
        [
            ("llama.attention.head_count", 3, "3 attention heads"),
            ("llama.block_count", 2, "says layers 0 to 1"),
            (EPS, float("nan"), "epsilon"),
            ("llama.rope.freq_base", float("nan"), "rope.freq_base"),
            ("tokenizer.ggml.bos_token_id", 9999, "the bos token 9999"),
            ("tokenizer.ggml.scores", [float("nan")] * 289, "scores that are not finite"),
        ],
    )
    def test_numbers(self, tmp_path: Path, key: str, value: Any, words: str) -> None:
        assert finding(verify(tiny_model(tmp_path / "m.gguf", {key: value})), words)

    @pytest.mark.parametrize(
        ("key", "value", "words"),
        [
            ("general.architecture", "mamba", "'mamba'"),
            ("llama.expert_count", 8, "mixture of experts"),
            ("split.count", 2, "one of 2 parts"),
        ],
    )
    def test_what_is_not_checked_is_a_note(self, tmp_path: Path, key: str, value: Any, words: str) -> None:
        noted(tiny_model(tmp_path / "m.gguf", {key: value}), words)


class TestGGUFAdapter:
    @pytest.mark.parametrize(
        ("ending", "shape", "words"),
        [
            (".lora_a", None, "'blk.0.attn_q.weight.lora_b' without its .lora_a"),
            (".lora_b", None, "'blk.0.attn_q.weight.lora_a' without its .lora_b"),
            (".lora_a", (3, 64), "rank 3 and rank 4"),
        ],
    )
    def test_pairs(self, made: Path, tmp_path: Path, ending: str, shape: Any, words: str) -> None:
        path = Path(shutil.copy(made / "adapter.gguf", tmp_path / "a.gguf"))
        assert finding(verify(rewritten(path, {f"blk.0.attn_q.weight{ending}": shape})), words)

    def test_an_alpha_that_is_no_number(self, made: Path, tmp_path: Path) -> None:
        path = Path(shutil.copy(made / "adapter.gguf", tmp_path / "a.gguf"))
        raw = path.read_bytes()
        at = raw.index(b"adapter.lora.alpha") + len(b"adapter.lora.alpha") + 4
        path.write_bytes(raw[:at] + struct.pack("<f", float("nan")) + raw[at + 4 :])
        assert finding(verify(path), "adapter.lora.alpha")


class TestFolder:
    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"num_hidden_layers": 0}, "num_hidden_layers 0"),
            ({"rms_norm_eps": -1e-5}, "rms_norm_eps"),
            ({"num_attention_heads": 3, "head_dim": None}, "3 attention heads"),
            ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 0}}, "factor"),
        ],
    )
    def test_numbers_of_the_config(self, model: Path, values: dict[str, Any], words: str) -> None:
        change(model / "config.json", **values)
        assert finding(verify(model), words)

    def test_a_model_without_config_or_of_another_kind_is_a_note(self, model: Path) -> None:
        change(model / "config.json", architectures=["MambaForCausalLM"])
        assert any("'MambaForCausalLM'" in note for note in verify(model).notes)
        (model / "config.json").unlink()
        assert any("no config.json" in note for note in verify(model).notes)

    @pytest.mark.parametrize("content", [b"", b"\xff\x01" * 500, POINTER], ids=["empty", "random", "pointer"])
    @pytest.mark.parametrize("beside", [True, False], ids=["beside tokenizer.json", "alone"])
    def test_a_tokenizer_model_that_is_none(self, model: Path, content: bytes, beside: bool) -> None:
        (model / "tokenizer.model").write_bytes(content)
        if not beside:
            (model / "tokenizer.json").unlink()
        found = finding(verify(model), "tokenizer.model")
        assert ("git-lfs pointer" in found) == (content == POINTER)

    def test_a_vocabulary_of_tiktoken_is_a_note(self, model: Path) -> None:
        (model / "tokenizer.model").write_bytes(b"IQ== 0\nIg== 1\n")
        noted(model, "tiktoken")

    def test_a_vocabulary_that_does_not_fit(self, model: Path) -> None:
        fast = json.loads((model / "tokenizer.json").read_text())
        merges = {**fast["model"], "merges": [*fast["model"]["merges"], ["nothing", "there"]]}
        change(model / "tokenizer.json", model=merges)
        assert finding(verify(model), "which are not all tokens")
        beyond = {**fast["model"], "vocab": {**fast["model"]["vocab"], "beyond": 1000}}
        change(model / "tokenizer.json", model=beyond)
        assert finding(verify(model), "has the id 1000, but the embedding has 260 rows")

    @pytest.mark.parametrize(
        "name",
        ["model.safetensors", "pytorch_model.bin", "adapter_model.safetensors", "config.json", "m.gguf"],
    )
    def test_a_pointer_of_git_lfs_in_place_of_a_file(self, model: Path, name: str) -> None:
        if name.endswith((".bin", ".safetensors")):
            (model / "model.safetensors").unlink()
        (model / name).write_bytes(POINTER)
        path = model / name if name == "m.gguf" else model
        assert any("git-lfs pointer" in each for each in verify(path, allow_pickle=True).findings)

    def test_the_header_of_a_delta(self, model: Path, tmp_path: Path) -> None:
        diff(model, model, tmp_path / "delta", exact=True)
        file = tmp_path / "delta" / "model.safetensors"
        assert verify(tmp_path / "delta").sound
        file.write_bytes(file.read_bytes().replace(b'\\"F16\\"', b'\\"F64\\"', 1))
        (tmp_path / "delta" / "redraft.json").unlink()
        assert finding(verify(tmp_path / "delta"), "does not fit its tensors")


class TestAdapter:
    def test_a_base_that_is_elsewhere_is_a_note(self, adapter: Path) -> None:
        change(adapter / "adapter_config.json", base_model_name_or_path="org/base")
        noted(adapter, "its base 'org/base' is not a local folder")

    @pytest.mark.parametrize(
        ("endings", "words"),
        [
            ((".lora_B.weight",), "has no lora_B"),
            (("0.self_attn.q_proj.lora_A.weight",), "has no lora_A"),
            (("1.self_attn.v_proj.lora_A.weight", "1.self_attn.v_proj.lora_B.weight"),
             "has no tensors for 'model.layers.1.self_attn.v_proj'"),
        ],
    )  # fmt: skip
    def test_tensors_that_are_missing(self, adapter: Path, endings: tuple[str, ...], words: str) -> None:
        without(adapter / "adapter_model.safetensors", *endings)
        assert finding(verify(adapter), words)

    def test_a_base_of_another_size(self, adapter: Path, tmp_path: Path) -> None:
        wider = tiny_folder(tmp_path / "wider", hidden_size=96)
        change(adapter / "adapter_config.json", base_model_name_or_path=str(wider))
        assert finding(verify(adapter), "is for another model than")

    def test_another_kind_is_a_note(self, adapter: Path) -> None:
        change(adapter / "adapter_config.json", peft_type="IA3")
        noted(adapter, "'IA3'")


def rewritten(path: Path, changed: dict[str, tuple[int, int] | None]) -> Path:
    """The same GGUF file by the gguf package: without some tensors, or with others of random values."""
    reader = GGUFReader(path)
    writer = GGUFWriter(path.with_suffix(".new"), "llama")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            kind = field.types[0]
            writer.add_key_value(field.name, field.contents(), kind, field.types[-1])
    arrays: dict[str, Callable[[], Any]] = {each.name: lambda each=each: each.data for each in reader.tensors}
    for name in [*arrays, *(name for name in changed if name not in arrays)]:
        if name not in changed:
            writer.add_tensor(name, np.array(arrays[name]()))
        elif shape := changed[name]:
            writer.add_tensor(name, torch.rand(shape).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.with_suffix(".new").rename(path)
