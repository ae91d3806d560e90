from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from redraft.errors import ModelError
from redraft.weights import checkpoint
from redraft.weights.gguf.config import metadata_of, numbers_from_config, numbers_from_metadata
from redraft.weights.gguf.families import hf_name, unpermute
from redraft.weights.gguf.from_folder import export_gguf
from redraft.weights.gguf.reader import read_header
from redraft.weights.gguf.to_folder import import_gguf
from redraft.weights.output import Run
from tests.gguf_files import tiny_model
from tests.weights.gguf.test_from_folder import LLAMA3, MODELS
from tests.weights.model_files import load as weights
from tests.weights.model_files import same_model
from tests.weights.tiny_folders import load, tiny_folder

EXACT = {"f16": torch.float16, "bf16": torch.bfloat16}


@pytest.mark.parametrize(("model", "quant"), [*((each, "f16") for each in MODELS), ("qwen3", "bf16")])
def test_there_and_back_changes_no_bit(model: str, quant: str, tmp_path: Path) -> None:
    architecture, changes = MODELS[model]
    folder = tiny_folder(tmp_path / "hf", architecture, dtype=EXACT[quant], **changes)
    export_gguf(folder, tmp_path / "m.gguf", quant=quant)
    import_gguf(tmp_path / "m.gguf", tmp_path / "back")
    assert same_model(weights(tmp_path / "back"), weights(folder))
    text = torch.arange(4, 250).unsqueeze(0)
    with torch.no_grad():
        before, after = load(folder)(text).logits, load(tmp_path / "back")(text).logits
    assert torch.allclose(before, after, rtol=1e-4, atol=1e-4), "the configuration says the same"


def test_a_gguf_file_comes_back_byte_by_byte(tmp_path: Path) -> None:
    export_gguf(tiny_folder(tmp_path / "m", "Qwen3", tie_word_embeddings=True), tmp_path / "one.gguf")
    import_gguf(tmp_path / "one.gguf", tmp_path / "back" / "m")
    export_gguf(tmp_path / "back" / "m", tmp_path / "two.gguf")
    assert (tmp_path / "two.gguf").read_bytes() == (tmp_path / "one.gguf").read_bytes()


@pytest.mark.parametrize(
    ("name", "chunk"), [("f32", 0), ("q8_0", 1), ("q5_1", 10000), ("q5_0", 0), ("q4_1", 0), ("q4_0", 0)]
)
def test_quantised_files_are_what_ggufs_own_functions_say(
    name: str, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = {"heads": 4, "kv_heads": 2}
    if name == "f32":
        tiny_model(tmp_path / "m.gguf")
        heads = {"heads": 1, "kv_heads": 1}
    else:
        export_gguf(tiny_folder(tmp_path / "hf", attention_bias=True), tmp_path / "m.gguf", quant=name)
    if chunk:
        monkeypatch.setattr(checkpoint, "CHUNK", chunk)
    import_gguf(tmp_path / "m.gguf", tmp_path / "back", dtype="F32")
    expected = dequantised(tmp_path / "m.gguf", **heads)
    found = load_file(tmp_path / "back" / "model.safetensors")
    assert found.keys() == expected.keys()
    for each, values in expected.items():
        assert found[each].numpy().tobytes() == values.tobytes(), each


def dequantised(file: Path, heads: int, kv_heads: int) -> dict[str, np.ndarray[Any, Any]]:
    made = {}
    for tensor in gguf.GGUFReader(file).tensors:
        name = hf_name(tensor.name)
        assert name
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        permuted = heads if "q_proj" in name else kv_heads if "k_proj" in name else 0
        made[name] = unpermute(values, permuted) if permuted else values
    return made


@pytest.mark.parametrize(
    ("quant", "dtype"), [("f16", "F16"), ("bf16", "BF16"), ("q8_0", "F16"), ("q4_0", "F16")]
)
def test_the_dtype_that_nobody_asked_for(quant: str, dtype: str, tmp_path: Path) -> None:
    export_gguf(tiny_folder(tmp_path / "hf"), tmp_path / "m.gguf", quant=quant)
    import_gguf(tmp_path / "m.gguf", tmp_path / "back")
    names = {"F16": "float16", "BF16": "bfloat16"}
    assert json.loads((tmp_path / "back" / "config.json").read_bytes())["dtype"] == names[dtype]
    assert {each.dtype for each in weights(tmp_path / "back").values()} == {getattr(torch, names[dtype])}


def test_what_the_folder_says(tmp_path: Path) -> None:
    source = tiny_folder(tmp_path / "hf", "Mistral", rms_norm_eps=1e-5)
    config = json.loads((source / "config.json").read_bytes())
    (source / "config.json").write_text(json.dumps({**config, "redraft_format": "selfee-1"}))
    export_gguf(source, tmp_path / "m.gguf", quant="q8_0")
    import_gguf(tmp_path / "m.gguf", tmp_path / "back", Run(command="redraft weights from-gguf"))
    said = json.loads((tmp_path / "back" / "config.json").read_bytes())
    assert said["architectures"] == ["LlamaForCausalLM"], "GGUF does not tell the two apart"
    assert (said["redraft_format"], said["rms_norm_eps"]) == ("selfee-1", 1e-5)
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    assert {key: said[key] for key in ids} == ids
    assert json.loads((tmp_path / "back" / "generation_config.json").read_bytes()) == ids
    manifest = json.loads((tmp_path / "back" / "redraft.json").read_bytes())
    assert manifest["command"] == "redraft weights from-gguf"
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "back")
    assert tokenizer("Hab a")["input_ids"] == AutoTokenizer.from_pretrained(source)("Hab a")["input_ids"]


tokens, factors = st.integers(1, 2**31 - 1), st.floats(1.5, 64, width=32)
numbers = st.fixed_dictionaries(
    {
        "model_type": st.sampled_from(["llama", "qwen2", "qwen3"]),
        "num_hidden_layers": st.integers(1, 4),
        "hidden_size": st.integers(1, 64).map(lambda n: 64 * n),
        "intermediate_size": tokens,
        "num_attention_heads": st.sampled_from([4, 8]),
        "num_key_value_heads": st.sampled_from([1, 2, 4]),
        "head_dim": st.sampled_from([16, 64, 128]),
        "vocab_size": tokens,
        "max_position_embeddings": tokens,
        "rms_norm_eps": st.floats(2.0**-99, 2.0**99, width=32),
        "tie_word_embeddings": st.booleans(),
        "rope_parameters": st.fixed_dictionaries({"rope_theta": st.floats(1.0, 1e8, width=32)})
        | st.fixed_dictionaries({"rope_type": st.just("linear"), "factor": factors}),
    }
)


@given(numbers)
def test_a_models_numbers_come_back(config: dict[str, Any]) -> None:
    said = numbers_from_config(config)
    shapes = dict(said.sizes.tensors())
    made = metadata_of(said)
    kept = {key: float(np.float32(each)) if isinstance(each, float) else each for key, each in made.items()}
    back = numbers_from_metadata({"general.architecture": said.sizes.family.gguf, **kept}, shapes)
    texts = {key: value for key, value in made.items() if isinstance(value, str)}
    again = metadata_of(back)
    assert {key: again.pop(key) for key in texts} == texts
    assert again == pytest.approx({key: made[key] for key in again}, rel=1e-6)
    assert again.keys() | texts.keys() == made.keys()
    assert dict(back.sizes.tensors()) == shapes
    assert (back.sizes, back.rope.kind) == (said.sizes, said.rope.kind)


# What is refused


def refused(file: Path, said: str) -> str:
    with pytest.raises(ModelError) as caught:
        import_gguf(file, file.parent / "back")
    assert said in caught.value.message
    assert not list(file.parent.glob("back*")), "nothing is left behind"
    return str(caught.value.hint)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"general.architecture": "gemma3"}, "the GGUF architecture 'gemma3' cannot be converted"),
        ({"general.type": "adapter"}, "is an adapter, not a model"),
        ({"llama.expert_count": 8}, "a mixture of experts"),
        ({"split.count": 3, "split.no": 0}, "is one of 3 parts of a split model"),
        ({"llama.block_count": 2}, "fit its configuration: the configuration has layers 0 to 1, but the"),
        ({"llama.block_count": 2**31 - 1}, "but the weights have 1 (the highest index is 0)"),
        ({"llama.block_count": 2**31}, "block_count 2147483648, which is not a positive whole number"),
        ({"llama.block_count": "one"}, "block_count 'one'"),
        ({"llama.attention.head_count": [1, 2]}, "attention.head_count (1, 2)"),
        ({"llama.attention.head_count": 0}, "attention.head_count 0"),
        ({"llama.attention.key_length": 16}, "llama.rope.dimension_count to 32, but its heads have 16"),
        ({"llama.attention.value_length": 16}, "llama.attention.value_length to 16"),
        ({"llama.feed_forward_length": 63}, "blk.0.ffn_gate.weight is 64 × 32, but the configuration says"),
        ({"llama.embedding_length": 64}, "but its heads have 64 elements"),
        ({"llama.attention.layer_norm_rms_epsilon": float("nan")}, "is nan"),
        ({"llama.rope.scaling.type": "longrope"}, "rotary scaling of the kind 'longrope'"),
        ({"llama.rope.scaling.type": "linear"}, "rope.scaling.factor of the rotary embedding is None"),
        ({"llama.rope.freq_base": float("inf")}, "is inf"),
    ],
)
def test_files_that_have_no_way_back(more: dict[str, Any], said: str, tmp_path: Path) -> None:
    refused(tiny_model(tmp_path / "m.gguf", more), said)


def test_scaling_of_an_unknown_make(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "hf", rope_parameters={**LLAMA3, "high_freq_factor": 7.0})
    export_gguf(folder, tmp_path / "m.gguf")
    refused(tmp_path / "m.gguf", "a rope_freqs.weight that is not Llama 3's")


def test_a_format_that_is_not_known(tmp_path: Path) -> None:
    file = tiny_model(tmp_path / "m.gguf")
    raw = file.read_bytes()
    name = b"blk.0.ffn_up.weight"
    at = raw.index(name) + len(name) + 4 + 16
    file.write_bytes(raw[:at] + (99).to_bytes(4, "little") + raw[at + 4 :])
    refused(file, "'blk.0.ffn_up.weight' has the unknown type 99")


_MOST = "10 numbers in 2 tensors became infinite, 7 of them in 'lm_head.weight'"
OVERFLOW = f"{_MOST}: --dtype bf16 allows larger numbers."


def test_what_overflows_is_a_warning(tmp_path: Path) -> None:
    warned: list[str] = []
    told: list[str] = []
    folder = tiny_folder(tmp_path / "hf", dtype=torch.bfloat16)
    large = weights(folder)
    large["model.norm.weight"][:3] = 1e5
    large["lm_head.weight"][9, :7] = -1e9
    large["lm_head.weight"][10, 0] = 1e-30
    save_file(large, folder / "model.safetensors")
    export_gguf(folder, tmp_path / "m.gguf", quant="bf16")
    file = tmp_path / "m.gguf"
    import_gguf(file, tmp_path / "back", Run(tell=told.append, warn=warned.append), dtype="F16")
    assert (warned, told) == (
        [OVERFLOW],
        ["1 number in 'lm_head.weight' became zero: too small for the dtype. A few do no harm."],
    )
    import_gguf(file, tmp_path / "same", Run(tell=pytest.fail, warn=pytest.fail))


# The default model


@pytest.fixture(scope="module")
def unpacked(default_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("default") / "hf"
    import_gguf(default_model, folder, dtype="F32")
    return folder


@pytest.mark.slow
@pytest.mark.model
def test_the_default_model_is_what_ggufs_own_functions_say(default_model: Path, unpacked: Path) -> None:
    header, count = read_header(default_model), "llama.attention.head_count"
    heads, kv_heads = header.number(count) or 0, header.number(f"{count}_kv") or 0
    expected, found = dequantised(default_model, heads, kv_heads), load_file(unpacked / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert np.array_equal(found[name].numpy().view(np.uint32), values.view(np.uint32)), name


@pytest.mark.slow
@pytest.mark.model
def test_the_default_model_talks_sense_in_transformers(unpacked: Path) -> None:
    model, tokenizer = load(unpacked), AutoTokenizer.from_pretrained(unpacked)
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
    with torch.no_grad():
        said = model.generate(**asked, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(said[0, asked["input_ids"].shape[1] :])
