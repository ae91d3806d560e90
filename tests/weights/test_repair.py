"""Faults of early Llama conversions: repairs, their reports, and what stays unchanged."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from redraft.errors import ModelError
from redraft.weights.repair import repair_tokenizer

# As decapoda-research/llama-7b-hf had them, which most deltas of spring 2023 were made with.
CONFIG = {
    "architectures": ["LLaMAForCausalLM"],
    "bos_token_id": 0,
    "eos_token_id": 1,
    "hidden_size": 4096,
    "max_sequence_length": 2048,
    "model_type": "llama",
    "pad_token_id": -1,
    "vocab_size": 32000,
}
GENERATION = {"_from_model_config": True, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
TOKENIZER = {"bos_token": "", "eos_token": "", "tokenizer_class": "LLaMATokenizer", "unk_token": ""}


def pieces(*names: str) -> bytes:
    """A SentencePiece model: a message with text, score and kind for each piece, and that it is a BPE."""
    messages = [
        b"\x0a" + bytes([len(name.encode())]) + name.encode() + b"\x15" + struct.pack("<f", 0.0) + b"\x18\x03"
        for name in names
    ]
    return b"".join(b"\x0a" + bytes([len(message)]) + message for message in messages) + b"\x12\x02\x18\x02"


def folder_with(folder: Path, **files: Any) -> Path:
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def llama(folder: Path, **files: Any) -> Path:
    (folder / "tokenizer.model").write_bytes(pieces("<unk>", "<s>", "</s>", "<0x00>"))
    return folder_with(folder, **files)


def files_of(folder: Path) -> dict[str, Any]:
    return {path.name: json.loads(path.read_text()) for path in folder.glob("*.json")}


def test_the_first_conversion_of_llama(tmp_path: Path) -> None:
    folder = llama(tmp_path, config=CONFIG, generation_config=GENERATION, tokenizer_config=TOKENIZER)
    assert repair_tokenizer(folder) == [
        "tokenizer_config.json: tokenizer_class 'LLaMATokenizer' → 'LlamaTokenizer'",
        "config.json: architectures ['LLaMAForCausalLM'] → ['LlamaForCausalLM']",
        "config.json: max_position_embeddings None → 2048 (from max_sequence_length)",
        "tokenizer_config.json: unk_token '' → '<unk>'",
        "tokenizer_config.json: bos_token '' → '<s>'",
        "tokenizer_config.json: eos_token '' → '</s>'",
        "tokenizer_config.json: add_bos_token None → True (as it was before transformers 5)",
        "config.json: bos_token_id 0 → 1 (as in the tokenizer)",
        "config.json: eos_token_id 1 → 2 (as in the tokenizer)",
        "generation_config.json: bos_token_id 0 → 1 (as in the tokenizer)",
        "generation_config.json: eos_token_id 1 → 2 (as in the tokenizer)",
        "config.json: pad_token_id -1 → None (there is no such token)",
    ]
    changes = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 2048, "pad_token_id": None}
    ids = {"bos_token_id": 1, "eos_token_id": 2}
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True}
    assert files_of(folder) == {
        "config.json": CONFIG | changes | ids,
        "generation_config.json": GENERATION | ids,
        "tokenizer_config.json": {"tokenizer_class": "LlamaTokenizer", **tokens},
    }
    assert repair_tokenizer(folder) == []
    assert len(list(folder.iterdir())) == 4


def test_a_special_token_that_is_an_object(tmp_path: Path) -> None:
    token = {"content": "", "lstrip": False, "special": True}
    folder = llama(tmp_path, special_tokens_map={"bos_token": token, "eos_token": "</s>"})
    assert len(repair_tokenizer(folder)) == 1
    assert files_of(folder)["special_tokens_map.json"]["bos_token"] == {**token, "content": "<s>"}


def test_the_vocabulary_of_a_fast_tokenizer_says_as_much(tmp_path: Path) -> None:
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2}
    folder_with(tmp_path, tokenizer={"model": {"vocab": vocabulary}}, generation_config=GENERATION)
    assert len(repair_tokenizer(tmp_path)) == 2


@pytest.mark.parametrize(
    "files",
    [
        # Alpaca: its models were trained with these.
        {"tokenizer_config": {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>"}},
        # 0 and 1 mean something else there, or only one of them is odd.
        {"config": {"bos_token_id": 0, "eos_token_id": 2}},
        {"config": {"bos_token_id": None, "eos_token_id": [1, 2]}},
        {"config": {"max_position_embeddings": 4096, "max_sequence_length": 2048}},
        {"config": {"vocab_size": 32001}, "added_tokens": {"[PAD]": 32000}},
        {"config": {"architectures": "LlamaForCausalLM", "max_sequence_length": "long"}},
        {"config": {}, "tokenizer_config": {"added_tokens_decoder": [], "tokenizer_class": None}},
        {},
    ],
)
def test_left_alone(tmp_path: Path, files: dict[str, Any]) -> None:
    assert repair_tokenizer(llama(tmp_path, **files)) == []


@pytest.mark.parametrize(
    "model", [pieces("<pad>", "</s>", "<unk>"), b"", b"\x0a\xff\x0a", b"\x0a\x05\x0a\xff<unk>", None]
)
def test_ids_of_another_vocabulary_are_left_alone(tmp_path: Path, model: bytes | None) -> None:
    folder_with(tmp_path, config={"bos_token_id": 0, "eos_token_id": 1}, tokenizer_config={"bos_token": ""})
    if model is not None:
        (tmp_path / "tokenizer.model").write_bytes(model)
    assert repair_tokenizer(tmp_path) == []


def test_added_tokens_without_a_row(tmp_path: Path) -> None:
    folder_with(
        tmp_path,
        config={"vocab_size": 32000, "pad_token_id": 32000},
        added_tokens={"[PAD]": 32000, "<s>": 1},
        special_tokens_map={"pad_token": "[PAD]", "eos_token": "</s>"},
        tokenizer_config={
            "pad_token": {"content": "[PAD]"},
            "added_tokens_decoder": {"1": {"content": "<s>"}, "32000": {"content": "[PAD]"}},
        },
        tokenizer={"added_tokens": [{"id": 1, "content": "<s>"}, {"id": 32000, "content": "[PAD]"}]},
    )
    lines = repair_tokenizer(tmp_path)
    assert files_of(tmp_path) == {
        "config.json": {"vocab_size": 32000, "pad_token_id": None},
        "added_tokens.json": {"<s>": 1},
        "special_tokens_map.json": {"pad_token": None, "eos_token": "</s>"},
        "tokenizer_config.json": {"pad_token": None, "added_tokens_decoder": {"1": {"content": "<s>"}}},
        "tokenizer.json": {"added_tokens": [{"id": 1, "content": "<s>"}]},
    }
    first = "added_tokens.json: the added token '[PAD]' → none (the embedding has no row for it)"
    assert (lines[0], len(lines)) == (first, 6)


def test_the_rows_of_the_embedding_count_and_not_what_the_config_says(tmp_path: Path) -> None:
    folder_with(tmp_path, config={"vocab_size": 32000}, added_tokens={"[PAD]": 32000})
    line = "config.json: vocab_size 32000 → 32001 (rows of the embedding)"
    assert repair_tokenizer(tmp_path, rows=32001) == [line]


def test_a_file_that_is_no_object(tmp_path: Path) -> None:
    folder_with(tmp_path, added_tokens=["[PAD]"])
    with pytest.raises(ModelError, match=r"added_tokens.json holds a list, not an object"):
        repair_tokenizer(tmp_path)


def test_a_repaired_tokenizer_loads_and_has_no_token_beyond_the_rows(tmp_path: Path) -> None:
    import sentencepiece
    from transformers import AutoTokenizer

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the rain in spain stays mainly in the plain"] * 20),
        model_prefix=str(tmp_path / "tokenizer"),
        vocab_size=40,
        model_type="bpe",
        minloglevel=2,
    )
    (tmp_path / "tokenizer.vocab").unlink()
    old = {**TOKENIZER, "pad_token": "[PAD]"}
    folder_with(
        tmp_path,
        config={**CONFIG, "vocab_size": 40},
        tokenizer_config=old,
        special_tokens_map={"pad_token": "[PAD]"},
        added_tokens={"[PAD]": 40},
    )
    repair_tokenizer(tmp_path, rows=40)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (1, 2, 0)
    assert len(tokenizer) == 40
    assert tokenizer("rain")["input_ids"][0] == 1
