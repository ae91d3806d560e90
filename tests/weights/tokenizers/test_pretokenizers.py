"""Pre-tokenizers: recognised in every form of tokenizer.json, and llama.cpp makes the same ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken

from redraft.errors import ModelError
from redraft.weights.tokenizers.from_gguf import TokenCount, write_tokenizer
from redraft.weights.tokenizers.pretokenizers import (
    DIGIT,
    GPT2,
    PRE_TOKENIZERS,
    pre_tokenizer_json,
    pre_tokenizer_named,
    pre_tokenizer_of,
)
from redraft.weights.tokenizers.to_gguf import tokenizer_metadata
from tests.weights.tokenizer_files import (
    TEXTS,
    byte_level,
    from_rule,
    ids,
    llama_cpp_ids,
    load,
    model_file,
    save,
)

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def split(regex: str, behavior: str = "Isolated", *, invert: bool = False) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert}


def sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(steps)}


def tokenizer(rule: object) -> dict[str, Any]:
    return {"pre_tokenizer": rule, "model": {"type": "BPE"}}


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_llama_cpp_makes_the_ids_of_the_tokenizers_library(name: str, tmp_path: Path) -> None:
    rule = PRE_TOKENIZERS[name]
    cut = from_rule(pre_tokenizer_json(rule))
    source, copy = tmp_path / "source", tmp_path / "copy"
    original = byte_level(source, cut, ignore_merges=rule.ignore_merges, nfc=rule.nfc)
    metadata = tokenizer_metadata(source, original.get_vocab_size())
    assert metadata["tokenizer.ggml.pre"] == name
    # llama.cpp's tekken has no marks (see the module), so texts with them are left out there.
    texts = [text for text in TEXTS if name != "tekken" or "हिन्दी" not in text]
    by_llama_cpp = llama_cpp_ids(model_file(tmp_path / "m.gguf", metadata), texts, special=True)
    assert by_llama_cpp == ids(original, texts, special=True)
    copy.mkdir()
    write_tokenizer(metadata, copy)
    assert by_llama_cpp == ids(load(copy), texts, special=True)
    assert tokenizer_metadata(copy, original.get_vocab_size()) == metadata


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_words_are_counted_as_the_whole_text_is(name: str, tmp_path: Path) -> None:
    rule = PRE_TOKENIZERS[name]
    whole = byte_level(tmp_path, from_rule(pre_tokenizer_json(rule)), nfc=rule.nfc)
    count = TokenCount(tmp_path / "tokenizer.json")
    pieces = st.sampled_from([" ", "  ", "\n", " \t", "\x1c", "\u0301", *TEXTS, *" ".join(TEXTS).split(" ")])

    @given(st.lists(pieces | st.text(max_size=9)).map("".join))
    def same(text: str) -> None:
        number = len(whole.encode(text, add_special_tokens=False))
        for limit in (*range(0, 60, 7), number - 1, number):
            within = count.within(text, limit)
            assert number <= within <= limit or within == number
        assert count(text) == number

    same()


@pytest.mark.parametrize("added", [AddedToken("dog jumps over"), AddedToken("<a>", lstrip=True, rstrip=True)])
def test_a_token_over_a_space_is_counted_once(added: AddedToken, tmp_path: Path) -> None:
    whole = byte_level(tmp_path, from_rule({**BYTES, "use_regex": True}))
    whole.add_tokens([added])
    save(tmp_path, whole)
    text = "The dog jumps over . <a> . <a> ."
    assert TokenCount(tmp_path / "tokenizer.json")(text) == len(whole.encode(text))


def test_other_forms_of_a_rule_are_recognised() -> None:
    gpt2 = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    assert pre_tokenizer_of(tokenizer(gpt2)).name == "gpt-2"
    assert pre_tokenizer_of(tokenizer(sequence(split(GPT2), BYTES))).name == "gpt-2"
    assert pre_tokenizer_of(tokenizer(sequence(split(DIGIT), gpt2))).name == "smollm"
    qwen2 = PRE_TOKENIZERS["qwen2"].splits[0]
    assert pre_tokenizer_of(tokenizer(sequence(split(qwen2, "Removed", invert=True), BYTES))).name == "qwen2"
    deepseek = [split(each) for each in PRE_TOKENIZERS["deepseek-coder"].splits]
    deepseek[0] = split("[\r\n]")
    assert pre_tokenizer_of(tokenizer(sequence(*deepseek, BYTES))).name == "deepseek-coder"


@pytest.mark.parametrize(
    "rule",
    [
        None, 7, {"type": "Whitespace"}, {"type": "ByteLevel", "add_prefix_space": True},
        sequence(split(r"\w+"), BYTES), sequence(split(GPT2, "MergedWithNext"), BYTES),
        sequence(split(GPT2, invert=True), BYTES),
        sequence({"type": "Digits", "individual_digits": False}, BYTES),
        sequence(sequence(split(GPT2)), BYTES),
    ],
)  # fmt: skip
def test_an_unknown_rule_is_refused(rule: object) -> None:
    with pytest.raises(ModelError, match=r"llama.cpp does not have(.|\n)*convert_hf_to_gguf\.py"):
        pre_tokenizer_of(tokenizer(rule))


def test_names_that_llama_cpp_treats_alike() -> None:
    assert pre_tokenizer_named("llama3") is PRE_TOKENIZERS["llama-bpe"]
    assert pre_tokenizer_named("starcoder") is PRE_TOKENIZERS["smollm"]


@pytest.mark.parametrize("name", ["kimi-k2", None, 7, ["gpt-2"], "default"])
def test_an_unknown_name_is_refused(name: object) -> None:
    with pytest.raises(ModelError, match="the unknown pre-tokenizer"):
        pre_tokenizer_named(name)
