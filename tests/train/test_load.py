from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from redraft.errors import ModelError, UsageError
from redraft.train import load
from redraft.train.loss import fuse
from redraft.train.options import SftOptions
from redraft.weights.delta import diff
from redraft.weights.gguf.to_folder import import_gguf
from redraft.weights.lora.gguf import lora_gguf
from tests.train.tiny import SHAPE
from tests.train.tiny_models import tiny
from tests.weights.tiny_folders import VOCABULARY, lora, tiny_folder


def silent(_text: str) -> None:
    """Takes remarks in tests that are not about them."""


def edit(path: Path, **changes: Any) -> None:
    old = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in (old | changes).items() if value is not None}))


PAD, ADDED, END = "<pad>", "[PAD]", "</s>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_folder(tmp_path / "model", dtype=torch.float32)


def both(folder: Path, **options: Any) -> tuple[Any, Any]:
    tokenizer = load.load_tokenizer(str(folder), say=silent, **options)
    return fitted(folder, tokenizer)[0], tokenizer


def fitted(folder: Path, tokenizer: Any) -> tuple[Any, bool]:
    model = load.load_model(str(folder), dtype=torch.float32)
    return model, load.fit_vocabulary(model, tokenizer, ref=str(folder))


def test_a_folder_is_loaded_as_it_is(folder: Path) -> None:
    model, tokenizer = both(folder)
    saved = load_file(folder / "model.safetensors")
    for name, values in model.state_dict().items():
        assert torch.equal(values, saved[name])
    assert (tokenizer.eos_token, tokenizer.pad_token) == (END, PAD)
    assert model.config.pad_token_id == tokenizer.pad_token_id == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_have_the_dtype_that_was_asked_for(folder: Path, dtype: torch.dtype) -> None:
    assert {each.dtype for each in load.load_model(str(folder), dtype=dtype).parameters()} == {dtype}


def test_no_end_of_text_is_an_error_that_names_one(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", eos_token=None)
    with pytest.raises(ModelError, match=r'(?s)would never stop.*"eos_token" to'):
        load.load_tokenizer(str(folder), say=silent)


def test_padding_is_found_in_the_vocabulary_so_no_row_is_added(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", pad_token=None)
    said: list[str] = []
    tokenizer = load.load_tokenizer(str(folder), say=said.append)
    assert tokenizer.pad_token == PAD
    assert said == ["the tokenizer has no padding token: '<pad>' is used"]
    model, grown = fitted(folder, tokenizer)
    assert not grown
    assert model.get_input_embeddings().weight.shape[0] == VOCABULARY


@pytest.mark.parametrize(("unknown", "expected"), [("<unk>", "<unk>"), (None, "</s>")])
def test_without_a_padding_token_another_stands_in(folder: Path, unknown: str | None, expected: str) -> None:
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace("<pad>", "<first>"))
    edit(folder / "tokenizer_config.json", pad_token=None, unk_token=unknown)
    assert load.load_tokenizer(str(folder), say=silent).pad_token == expected


@pytest.mark.parametrize("tied", [False, True], ids=["own head", "tied head"])
def test_an_added_padding_token_has_the_mean_of_all_rows_as_in_selfee(tmp_path: Path, tied: bool) -> None:
    folder = tiny_folder(tmp_path / "model", dtype=torch.float32, tie_word_embeddings=tied)
    edit(folder / "tokenizer_config.json", pad_token=None)
    before = load_file(folder / "model.safetensors")
    tokenizer = load.load_tokenizer(str(folder), say=silent, pad_token=ADDED)
    model, grown = fitted(folder, tokenizer)
    assert grown
    assert tokenizer.pad_token_id == VOCABULARY == model.config.pad_token_id
    assert model.config.vocab_size == VOCABULARY + 1
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        old = before[name if name in before else "model.embed_tokens.weight"]
        new = model.state_dict()[name]
        assert torch.equal(new[:-1], old)
        torch.testing.assert_close(new[-1], old.mean(0))
    assert (model.lm_head.weight is model.get_input_embeddings().weight) is tied
    assert fuse(model)


def test_a_tokenizer_that_is_damaged_is_an_error(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"model": {"type": "BPE"')
    with pytest.raises(ModelError, match=f"(?s)the tokenizer of {folder} cannot.*redraft weights verify"):
        load.load_tokenizer(str(folder), say=silent)


def test_one_row_too_few_is_filled_for_a_new_padding_token_alone(folder: Path, tmp_path: Path) -> None:
    short = tiny_folder(tmp_path / "short", dtype=torch.float32, vocab_size=VOCABULARY - 1)
    tokenizer = load.load_tokenizer(str(folder), say=silent)
    with pytest.raises(ModelError, match=r"ids up to 259, but the model has 259 emb"):
        fitted(short, tokenizer)


def test_a_weight_that_the_file_lacks_is_not_made_up(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 of the weights.*model\.layers\.1\.mlp\.up_proj"):
        both(folder)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", lambda data: data[:1000]),
        ("model.safetensors", lambda _data: b"\xff" * 64),
        ("config.json", lambda _data: b"{"),
        ("config.json", lambda data: data.replace(b'"hidden_size": 64', b'"hidden_size": 96')),
        ("config.json", lambda data: data.replace(b'"hidden_size": 64', b'"hidden_size": "wide"')),
        ("config.json", lambda data: data.replace(b'"model_type": "llama"', b'"model_type": "none"')),
    ],
)
def test_a_damaged_model_is_an_error_that_names_it(folder: Path, name: str, damage: Any) -> None:
    data = (folder / name).read_bytes()
    assert damage(data) != data
    (folder / name).write_bytes(damage(data))
    with pytest.raises(ModelError, match=str(folder)):
        load.load_model(str(folder), dtype=torch.float32)


def test_a_delta_is_not_trained(folder: Path, tmp_path: Path) -> None:
    target = tiny_folder(tmp_path / "target", dtype=torch.float32, initializer_range=0.1)
    diff(folder, target, tmp_path / "delta")
    with pytest.raises(ModelError, match=r"(?s)is a delta, not a model.*redraft weights apply"):
        both(tmp_path / "delta")


def test_code_that_a_model_brings_is_not_run(folder: Path, tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    (folder / "trap.py").write_text(f"open({str(trap)!r}, 'w')\nclass A: ...\n")
    named = {"AutoConfig": "trap.A", "AutoModelForCausalLM": "trap.A", "AutoTokenizer": ["trap.A", "trap.A"]}
    edit(folder / "config.json", auto_map=named, model_type="unheard-of")
    edit(folder / "tokenizer_config.json", auto_map=named)
    with pytest.raises(ModelError):
        both(folder)
    assert not trap.exists()


def test_a_name_of_the_hub_that_is_not_reached_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"(?s)the tokenizer of org/name cannot be loaded.*\n.*hub"):
        load.load_tokenizer("org/name", say=silent)


def test_a_skeleton_has_the_shapes_and_no_memory(folder: Path) -> None:
    model, _ = both(folder)
    bones = load.skeleton(str(folder))
    assert {each.device.type for each in bones.parameters()} == {"meta"}
    shapes = {name: each.shape for name, each in bones.named_parameters()}
    assert shapes == {name: each.shape for name, each in model.named_parameters()}


@pytest.mark.parametrize("bf16", [True, False])
def test_frozen_weights_have_16_bits_where_the_machine_computes_in_them(
    monkeypatch: pytest.MonkeyPatch, bf16: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: bf16)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": not bf16})
    assert load.weights_dtype("auto", lora=True) == (torch.bfloat16 if bf16 else torch.float32)
    assert load.weights_dtype("auto", lora=True, gpu=False) == (torch.float32 if bf16 else torch.bfloat16)
    assert load.weights_dtype("auto", lora=False) == torch.float32
    assert load.weights_dtype("bfloat16", lora=False) == torch.bfloat16


def test_weights_in_float16_are_not_trained() -> None:
    assert load.weights_dtype("float16", lora=True) == torch.float16
    with pytest.raises(UsageError, match=r"(?s)too small.*--fp16"):
        load.weights_dtype("float16", lora=False)


@pytest.mark.slow
@pytest.mark.model
def test_the_default_model_is_trained_from_its_gguf_file(default_model: Path, tmp_path: Path) -> None:
    import_gguf(default_model, tmp_path / "model")
    ref = str(tmp_path / "model")
    tokenizer = load.load_tokenizer(ref, say=silent)
    model = load.load_model(ref, dtype=torch.bfloat16)
    ids = torch.tensor([tokenizer("Below is an instruction that describes a task.").input_ids])
    with torch.no_grad():
        known = model(ids, labels=ids).loss
    assert known < 4  # a model that was put together wrongly is near 10.8, the logarithm of its vocabulary
    assert tokenizer.eos_token_id == model.config.eos_token_id
    assert fuse(model)


def holding(path: Path, *names: str) -> Path:
    path.mkdir(exist_ok=True)
    for name in names:
        (path / name).write_text("{}")
    return path


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    model = holding(tmp_path, "config.json", "model-00001-of-00002.safetensors")
    names = [f"model-0000{part}-of-00002.safetensors" for part in (1, 2)]
    weights = {"layer.0": names[0], "layer.1": names[1]}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    with pytest.raises(ModelError, match=r"lacks model-00002-of-00002\.safetensors"):
        load.check_weights(model)


@pytest.mark.parametrize(
    ("names", "message", "hint"),
    [
        ((), "no config.json (the folder is empty)", "config.json"),
        (("model.safetensors",), "no config.json (the folder has: model.safetensors)", "config.json"),
        (("a.gguf",), "no config.json", "a.gguf"),
        (("config.json",), "no weights", "config.json"),
        (("config.json", "pytorch_model.bin"), "pickle", "redraft weights convert"),
        (("config.json", "adapter_config.json", "adapter_model.safetensors"), "adapter", "merge-lora"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, names: tuple[str, ...], message: str, hint: str) -> None:
    with pytest.raises(ModelError) as caught:
        load.check_weights(holding(tmp_path, *names))
    assert message in caught.value.message
    assert hint in str(caught.value.hint)


def test_what_a_reference_may_be(here: Path) -> None:
    holding(here / "mine")
    assert load.model_folder("mine", Path.is_dir) == Path("mine")
    assert load.model_folder("org/name", Path.is_dir) is None
    for wrong in ("llama-7b", "mine/none"):
        with pytest.raises(UsageError, match="neither a folder nor org/name"):
            load.model_folder(wrong, Path.is_dir)
    with pytest.raises(UsageError, match="is a file") as caught:
        load.model_folder("model.gguf", Path.is_dir)
    assert "redraft weights from-gguf model.gguf" in str(caught.value)


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_weights_are_as_readable_as_other_new_files(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        load.save_weights(LlamaForCausalLM(LlamaConfig(vocab_size=8, **SHAPE)), tmp_path)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert (modes["model.safetensors"], len(set(modes.values()))) == (0o666 & ~mask, 1)


def added(model: Any, lora_from: Path | None = None, **settings: Any) -> PeftModel:
    own = SftOptions(**{"model_name_or_path": "some/base", "lora_r": 4, **settings})
    made = load.add_adapter(model, own, note={})
    if lora_from:
        load.go_on_from(made, lora_from)
    return made


def test_an_adapter_alone_is_trained_in_32_bits() -> None:
    model: Any = added(tiny().to(torch.bfloat16), lora_alpha=10)
    assert model.base_model.model.model.layers[0].self_attn.q_proj.scaling == {"default": 2.5}
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    assert len(trained) == 2 * 2 * 7  # two matrices, two layers, seven linear parts each
    assert all("lora_" in name and each.dtype == torch.float32 for name, each in trained.items())
    assert not any("lm_head" in name for name in trained)


@pytest.mark.parametrize("targets", [("q_proj",), ("q_proj", "mlp.up_proj")])
def test_named_layers_alone_get_one(targets: tuple[str, ...]) -> None:
    model = added(tiny(), lora_target_modules=targets)
    names = {name.split(".lora_")[0] for name, _ in model.named_parameters() if ".lora_" in name}
    assert len(names) == 2 * len(targets)
    assert all(name.endswith(targets) for name in names)


def test_a_tied_matrix_gets_one_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    model = added(tiny(tie_word_embeddings=True), lora_target_modules=("lm_head",))
    assert any("lm_head.lora_A" in name for name, _ in model.named_parameters())
    assert [str(each.message) for each in recwarn] == []


def test_a_name_that_no_layer_has_is_an_error_that_lists_them() -> None:
    with pytest.raises(UsageError, match=r"(?s)no linear layer 'query'\..*down_proj gate_proj k_proj"):
        added(tiny(), lora_target_modules=("q_proj", "query"))


@pytest.mark.parametrize("whole", [False, True])
def test_the_vocabulary_is_saved_where_rows_were_added(tmp_path: Path, whole: bool) -> None:
    model = tiny()
    model.resize_token_embeddings(model.config.vocab_size + 1, mean_resizing=False)
    load.add_adapter(model, SftOptions(), note={}, whole_vocabulary=whole).save_pretrained(tmp_path)
    assert any("embed_tokens" in name for name in load_file(tmp_path / "adapter_model.safetensors")) is whole


def test_it_goes_on_from_the_weights_of_another(tmp_path: Path) -> None:
    first: Any = added(tiny(), lora_alpha=32)
    for name, values in first.named_parameters():
        if ".lora_B" in name:
            torch.nn.init.normal_(values)
    first.save_pretrained(tmp_path)
    second: Any = added(tiny(), lora_alpha=16, lora_from=tmp_path)
    one, two = (each.base_model.model.model.layers[0].self_attn.q_proj for each in (first, second))
    torch.testing.assert_close(one.get_delta_weight("default"), two.get_delta_weight("default"))
    with pytest.raises(UsageError, match=r"(?s)is 4 × 32, not 2 × 32.*--lora_r"):
        added(tiny(), lora_r=2, lora_from=tmp_path)
    with pytest.raises(UsageError, match="the new adapter has no"):
        added(tiny(), lora_target_modules=("q_proj",), lora_from=tmp_path)
    third: Any = added(tiny(), lora_r=6, lora_alpha=16, lora_from=tmp_path)
    layer = third.base_model.model.model.layers[0].self_attn.q_proj
    torch.testing.assert_close(one.get_delta_weight("default"), layer.get_delta_weight("default"))
    assert bool(layer.lora_A["default"].weight[4:].all())
    (tmp_path / "stopped" / "checkpoint-2").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"(?s)no finished adapter\..*name a checkpoint: .*checkpoint-2$"):
        added(tiny(), lora_from=tmp_path / "stopped")
    torch.save(load_file(tmp_path / "adapter_model.safetensors"), tmp_path / "adapter_model.bin")
    (tmp_path / "adapter_model.safetensors").unlink()
    config = json.loads((tmp_path / "adapter_config.json").read_text()) | {"alpha_pattern": {"none": 8}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    fourth: Any = added(tiny(), lora_from=tmp_path)
    layer = fourth.base_model.model.model.layers[0].self_attn.q_proj
    torch.testing.assert_close(one.get_delta_weight("default"), layer.get_delta_weight("default"))
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"use_rslora": True}))
    fifth: Any = added(tiny(), lora_from=tmp_path)
    layer = fifth.base_model.model.model.layers[0].self_attn.q_proj
    torch.testing.assert_close(2 * one.get_delta_weight("default"), layer.get_delta_weight("default"))


def test_a_gguf_adapter_without_alpha_is_taken_as_llamacpp_takes_it(tmp_path: Path) -> None:
    lora_gguf(lora(tiny_folder(tmp_path / "base"), tmp_path / "adapter"), tmp_path / "adapter.gguf")
    header, found, rest = (tmp_path / "adapter.gguf").read_bytes().partition(b"adapter.lora.alpha")
    (tmp_path / "adapter.gguf").write_bytes(header + found + rest[:4] + bytes(4) + rest[8:])
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    made: Any = added(model, lora_from=tmp_path / "adapter.gguf")
    layer = made.base_model.model.model.layers[0].self_attn.v_proj
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    a, b = (saved[f"base_model.model.model.layers.0.self_attn.v_proj.lora_{half}.weight"] for half in "AB")
    torch.testing.assert_close(layer.get_delta_weight("default"), (b @ a).float())


def test_a_gguf_adapter_is_taken_into_a_larger_one(tmp_path: Path) -> None:
    lora_gguf(lora(tiny_folder(tmp_path / "base"), tmp_path / "adapter"), tmp_path / "adapter.gguf")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    same: Any = added(model, lora_from=tmp_path / "adapter.gguf")
    expected = same.base_model.model.model.layers[0].self_attn.v_proj.get_delta_weight("default").clone()
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    larger: Any = added(model, lora_r=9, lora_alpha=5, lora_from=tmp_path / "adapter.gguf")
    layer = larger.base_model.model.model.layers[0].self_attn.v_proj
    torch.testing.assert_close(layer.get_delta_weight("default"), expected)


GB = 10**9


@pytest.mark.parametrize(
    ("parameters", "gpu_bytes", "lora"),
    [
        (135 * 10**6, None, True), (135 * 10**6, 8 * GB, False), (GB, 24 * GB, False),
        (7 * GB, 24 * GB, True), (7 * GB, 4 * 80 * GB, False),
    ],
)  # fmt: skip
def test_what_is_trained_by_default(parameters: int, gpu_bytes: int | None, lora: bool) -> None:
    found, why = load.default_method(parameters, gpu_bytes)
    assert found is lora
    assert why
