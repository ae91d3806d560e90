from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import save_file

from redraft.weights.delta import diff
from redraft.weights.gguf.reader import KINDS
from redraft.weights.info import Use, describe
from redraft.weights.output import Run
from tests.gguf_files import lora, tiny_model
from tests.weights import tiny_folders as adapter_files
from tests.weights.tiny_folders import tiny_folder

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8, "intermediate_size": 12, "max_position_embeddings": 2048, "num_attention_heads": 2,
    "num_hidden_layers": 1, "num_key_value_heads": 1, "redraft_format": "selfee-1",
    "tie_word_embeddings": True, "vocab_size": 16,
}  # fmt: skip


def folder_with(folder: Path, weights: dict[str, torch.Tensor], **files: Any) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "model.safetensors")
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def a_model(folder: Path) -> Path:
    table = torch.zeros(16, 8, dtype=torch.bfloat16)
    weights = {
        "model.embed_tokens.weight": table,
        "lm_head.weight": table.clone(),
        "model.norm.weight": torch.ones(8),
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2),
    }
    made = {"made": "2026-01-01T00:00:00+00:00", "command": "redraft weights convert a -o b"}
    manifest = {"redraft": "0.1.0", **made, "inputs": {"source": {"path": "a"}}}
    return folder_with(folder, weights, config=CONFIG, redraft=manifest)


def test_a_model(tmp_path: Path) -> None:
    said = describe(a_model(tmp_path / "m"))
    assert said.parameters == 16 * 8 + 8, "tied embeddings count once, and buffers do not"
    assert said.dtypes == (Use("BF16", 2, 256, 512), Use("F32", 2, 10, 40))
    assert said.files == (("model.safetensors", (tmp_path / "m" / "model.safetensors").stat().st_size),)
    assert said.lines() == [
        str(tmp_path / "m"),
        "  what          model",
        "  parameters    136",
        "  architecture  LlamaForCausalLM",
        "  shape         1 layer, 2 heads (1 for keys and values), 8 wide (12 in the MLP)",
        "  context       2,048 tokens",
        "  vocabulary    16 rows, shared with the output",
        "  revises       natively: redraft.format is selfee-1",
        "  made by       redraft 0.1.0, 2026-01-01T00:00:00+00:00: redraft weights convert a -o b",
        "  made from     source a",
        "  numbers       2 × BF16, 0.00 MB",
        "  numbers       2 × F32, 0.00 MB",
        "  file          model.safetensors, 0.00 MB",
    ]
    file = describe(tmp_path / "m" / "model.safetensors")
    assert (file.kind, file.facts) == ("file of weights", ()), "nothing of its folder"
    (tmp_path / "m" / "config.json").write_text(json.dumps({**CONFIG, "tie_word_embeddings": False}))
    assert describe(tmp_path / "m").parameters == 2 * 16 * 8 + 8


@pytest.mark.parametrize("exact", [False, True])
def test_a_delta_of_ours(tmp_path: Path, exact: bool) -> None:
    base = folder_with(tmp_path / "base", {"w": torch.rand(4, 4)}, config=CONFIG)
    target = folder_with(tmp_path / "target", {"w": torch.rand(4, 4)}, config=CONFIG)
    run = Run(command="redraft weights diff base target -o delta")
    diff(base, target, tmp_path / "delta", run, exact=exact)
    said = describe(tmp_path / "delta")
    facts = dict(said.facts)
    assert said.kind == "delta"
    assert facts["delta"].startswith("exact: restores" if exact else "plain: differences of values")
    assert facts["made by"].endswith("redraft weights diff base target -o delta")
    sources = [text for label, text in said.facts if label == "made from"]
    assert sources == [f"base {base}", f"target {target}"]


def test_an_adapter_of_peft(tmp_path: Path) -> None:
    base = tiny_folder(tmp_path / "base")
    targets = ["v_proj", "q_proj"]
    said = describe(adapter_files.lora(base, tmp_path / "a", r=4, target_modules=targets, use_rslora=True))
    assert said.kind == "LoRA adapter of peft"
    # Two layers with two matrices each: 64 × 64 and, for half as many heads, 32 × 64.
    assert said.parameters == 2 * (4 * (64 + 64) + 4 * (64 + 32))
    assert said.facts == (
        ("base", str(base)),
        ("rank", "4, alpha 6, rank-stabilised"),
        ("changes", "q_proj, v_proj"),
    )


def test_pickles_are_not_looked_into_unless_they_may_be(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(3)}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    for path in (tmp_path, tmp_path / "pytorch_model.bin"):
        said = describe(path)
        assert (said.parameters, said.dtypes) == (None, ())
        assert said.files[0][0] == "pytorch_model.bin"
        assert said.lines()[-1].endswith("add --allow-pickle to read them.")
    assert dict(describe(tmp_path).facts)["architecture"] == "LlamaForCausalLM"
    assert describe(tmp_path, allow_pickle=True).parameters == 3


def test_a_gguf_model(tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "m.gguf", {"redraft.format": "selfee-1"})
    made = {"redraft": "0.1.0", "made": "now", "command": "redraft weights gguf a", "inputs": {}}
    (tmp_path / "m.gguf.redraft.json").write_text(json.dumps(made))
    said = describe(path)
    assert said.kind == "model for llama.cpp (GGUF)"
    assert said.facts == (
        ("architecture", "llama"),
        ("shape", "1 layer, 1 head, 32 wide (64 in the MLP)"),
        ("context", "256 tokens"),
        ("vocabulary", "289 rows"),
        ("revises", "natively: redraft.format is selfee-1"),
        ("name", "tiny"),
        ("made by", "redraft 0.1.0, now: redraft weights gguf a"),
    )
    assert said.parameters == 2 * 32 * 289 + 3 * 32 + 4 * 32 * 32 + 3 * 32 * 64
    assert said.dtypes == (Use("F32", 12, said.parameters, 4 * said.parameters),)


def test_the_licence_and_the_sources_of_a_gguf_model(tmp_path: Path) -> None:
    more = {
        "general.license": "other",
        "general.license.name": "apache-2.0-and-cc-by-nc-4.0",
        "redraft.sources": ["base org/tiny: Apache-2.0", "data talks: CC-BY-NC-4.0"],
    }
    assert describe(tiny_model(tmp_path / "m.gguf", more)).facts[-3:] == (
        ("licence", "other, apache-2.0-and-cc-by-nc-4.0"),
        ("source", "base org/tiny: Apache-2.0"),
        ("source", "data talks: CC-BY-NC-4.0"),
    )
    odd = describe(tiny_model(tmp_path / "odd.gguf", {"general.license": 5, "redraft.sources": [5]}))
    assert not {"licence", "source"} & dict(odd.facts).keys()


def test_a_gguf_adapter(tmp_path: Path) -> None:
    said = describe(lora(tmp_path / "a.gguf", more={"redraft.format": "selfee-1"}))
    assert said.kind == "lora adapter for llama.cpp (GGUF)"
    revises = ("revises", "natively: redraft.format is selfee-1")
    assert said.facts == (("architecture", "llama"), ("rank", "2, alpha 2.0"), revises)


def test_the_names_of_ggmls_types_are_ggufs() -> None:
    names = {int(kind): kind.name for kind in gguf.GGMLQuantizationType}
    assert {kind: names.get(kind) for kind in KINDS} == KINDS


@pytest.mark.parametrize(
    "config",
    [
        {"architectures": [3], "model_type": ["x"], "num_hidden_layers": "9", "vocab_size": True},
        {"architectures": {}, "hidden_size": -1, "quantization_config": "?", "redraft_format": 1},
    ],
)
def test_values_of_the_wrong_kind_are_left_out(tmp_path: Path, config: dict[str, Any]) -> None:
    files = {"config": config, "redraft": {"inputs": ["a"], "command": "x"}}
    assert set(dict(describe(folder_with(tmp_path, {"w": torch.zeros(1)}, **files)).facts)) == {"made by"}


def test_texts_of_strangers_stay_in_their_row(tmp_path: Path) -> None:
    evil = "a\n  what          harmless\x1b[2J\u202e" + "x" * 1000
    lines = describe(folder_with(tmp_path, {"w": torch.zeros(1)}, config={"architectures": [evil]})).lines()
    assert all(line.isprintable() and len(line) < 600 for line in lines)
    assert sum(line.startswith("  what") for line in lines) == 1
    "\n".join(lines).encode()


@pytest.mark.parametrize("kind", ["model", "gguf"])
def test_torch_is_not_needed(tmp_path: Path, kind: str) -> None:
    path = a_model(tmp_path / "m") if kind == "model" else tiny_model(tmp_path / "m.gguf")
    code = "import sys, pathlib; from redraft.weights.info import describe; "
    code += f"describe(pathlib.Path({str(path)!r})).lines(); "
    code += "print(*({'torch', 'gguf', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.model
def test_the_default_model(default_model: Path) -> None:
    said = describe(default_model)
    assert said.parameters == 134_515_008
    assert [use.dtype for use in said.dtypes] == ["Q4_1", "Q8_0", "F32"]
    assert ("vocabulary", "49,152 rows, shared with the output") in said.facts
