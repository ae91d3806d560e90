from __future__ import annotations

import asyncio
import functools
import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers

from redraft.engines.llamacpp.engine import LlamaCppEngine
from redraft.errors import ModelError
from redraft.weights.gguf.reader import read_header
from redraft.weights.tokenizers.from_gguf import write_tokenizer
from redraft.weights.tokenizers.to_gguf import tokenizer_metadata
from tests.weights.tokenizer_files import (
    TEXTS,
    byte_level,
    ids,
    llama_cpp_ids,
    load,
    model_file,
    sentencepiece_model,
    write,
)

Metadata = dict[str, Any]
FIXTURES = [HealthCheck.function_scoped_fixture]
# Libraries know different versions of Unicode, so only characters that all know are tried with those rules.
KNOWN = st.characters(exclude_categories=["Cs", "Cn"]).filter(
    lambda character: unicodedata.ucd_3_2_0.category(character) != "Cn"
)
"""Bytes that the default model has no token of. llama.cpp keeps apart what stands on both sides of them."""

PIECES = st.lists(
    st.text(KNOWN, max_size=4)
    | st.sampled_from(["'ll", " ", "  ", "\n", "\r\n", "\t", "12", "½", "É", "e\u0301", "日", "🚀"])
).map("".join)


class Asked:
    def __init__(self, model: Path) -> None:
        self._runner = asyncio.Runner()
        self._engine = self._runner.run(LlamaCppEngine.start(model))

    def ids(self, text: str) -> list[int]:
        return list(self._runner.run(self._engine._tokenize(text, start=False, control=False)))

    def close(self) -> None:
        self._runner.run(self._engine.aclose())
        self._runner.close()


@functools.cache
def cached(folder: Path) -> Tokenizer:
    return load(folder)


@functools.cache
def default_metadata(model: Path) -> Metadata:
    found = read_header(model, whole=True).metadata
    return {name: list(each) if isinstance(each, tuple) else each for name, each in found.items()}


@pytest.fixture(scope="module")
def default_folder(default_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("default")
    write_tokenizer(default_metadata(default_model), folder)
    return folder


@pytest.fixture(scope="module")
def default_asked(default_model: Path) -> Iterator[Asked]:
    asked = Asked(default_model)
    yield asked
    asked.close()


@pytest.fixture(scope="module")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    sentencepiece_model(folder / "source")
    metadata = tokenizer_metadata(folder / "source", 602)
    model_file(folder / "m.gguf", metadata)
    write_tokenizer(metadata, folder)
    return folder


@pytest.fixture(scope="module")
def llama_asked(llama_folder: Path) -> Iterator[Asked]:
    asked = Asked(llama_folder / "m.gguf")
    yield asked
    asked.close()


@pytest.mark.model
def test_the_default_model_comes_back_the_same(default_model: Path, default_folder: Path) -> None:
    before = default_metadata(default_model)
    after = tokenizer_metadata(default_folder, len(before["tokenizer.ggml.tokens"]))
    assert after.pop("tokenizer.ggml.add_eos_token") is False
    assert after == {name: before[name] for name in after}
    assert {name for name in before if name.startswith("tokenizer")} - after.keys() == {
        "tokenizer.ggml.add_space_prefix"  # which byte-level BPE has not
    }


@pytest.mark.model
@settings(max_examples=settings().max_examples // 2, suppress_health_check=FIXTURES)
@given(text=st.text(KNOWN) | PIECES)
@example("}\x06:")
def test_the_default_model_makes_the_same_ids_of_any_text(
    default_folder: Path, default_asked: Asked, text: str
) -> None:
    text = text.translate(dict.fromkeys([4, 6, 19, 20, 22, 29]))
    assert default_asked.ids(text) == ids(cached(default_folder), [text])[0]


@settings(suppress_health_check=FIXTURES)
@given(text=st.text() | PIECES)
def test_sentencepiece_makes_the_same_ids(llama_folder: Path, llama_asked: Asked, text: str) -> None:
    assert llama_asked.ids(text) == ids(cached(llama_folder), [text])[0]


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_transformers_loads_it(kind: str, default_model: Path, default_folder: Path) -> None:
    from transformers import AutoTokenizer

    write(default_folder, "config.json", {"model_type": kind})
    tokenizer = AutoTokenizer.from_pretrained(default_folder)
    (default_folder / "config.json").unlink()
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert (tokenizer.pad_token, tokenizer.unk_token) == ("<|im_end|>", "<|endoftext|>")
    assert tokenizer.model_max_length == 8192
    text = "Hello, world"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert chat.endswith("<|im_start|>user\nHi<|im_end|>\n")
    if kind == "llama":
        found = llama_cpp_ids(default_model, TEXTS, special=True)
        assert found == [tokenizer(text)["input_ids"] for text in TEXTS]


def test_transformers_loads_a_sentencepiece_one(llama_folder: Path) -> None:
    from transformers import AutoTokenizer

    write(llama_folder, "config.json", {"model_type": "llama"})
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    found = llama_cpp_ids(llama_folder / "m.gguf", TEXTS, special=True, start=True)
    assert found == [tokenizer(text)["input_ids"] for text in TEXTS]
    assert all(row[0] == tokenizer.bos_token_id for row in found)
    for text in TEXTS:
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    assert len(tokenizer) == 600


def test_a_sentencepiece_one_comes_back_with_the_same_ids(llama_folder: Path) -> None:
    before = tokenizer_metadata(llama_folder / "source", 602)
    after = tokenizer_metadata(llama_folder, 602)
    del before["tokenizer.ggml.scores"], after["tokenizer.ggml.scores"]
    assert after == before
    path = model_file(llama_folder / "again.gguf", tokenizer_metadata(llama_folder, 602))
    assert llama_cpp_ids(path, TEXTS) == llama_cpp_ids(llama_folder / "m.gguf", TEXTS)


@pytest.fixture
def metadata(tmp_path: Path) -> Metadata:
    byte_level(tmp_path / "source", pre_tokenizers.ByteLevel(add_prefix_space=False))
    return tokenizer_metadata(tmp_path / "source", 720)


@pytest.mark.parametrize(("bos", "eos"), [(False, True), (True, False)])
def test_what_is_put_around_a_text(bos: bool, eos: bool, metadata: Metadata, tmp_path: Path) -> None:
    metadata |= {"tokenizer.ggml.add_bos_token": bos, "tokenizer.ggml.add_eos_token": eos}
    write_tokenizer(metadata, tmp_path)
    path = model_file(tmp_path / "m.gguf", metadata)
    texts = ["one two", ""]
    assert llama_cpp_ids(path, texts, start=True) == ids(load(tmp_path), texts, start=True)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert (config["add_bos_token"], config["add_eos_token"]) == (bos, eos)


def test_two_texts_have_it_twice(metadata: Metadata, tmp_path: Path) -> None:
    write_tokenizer(metadata | {"tokenizer.ggml.add_bos_token": True}, tmp_path)
    tokenizer = load(tmp_path)
    assert tokenizer.get_vocab_size() == 701, "rows without a token get none"
    assert tokenizer.encode("one", "two").ids == tokenizer.encode("one").ids + tokenizer.encode("two").ids


def test_what_llama_cpp_takes_for_granted(metadata: Metadata, llama_folder: Path, tmp_path: Path) -> None:
    for name in ("add_bos_token", "add_eos_token"):
        del metadata[f"tokenizer.ggml.{name}"]
    write_tokenizer(metadata, tmp_path)
    assert load(tmp_path).encode("").ids == []
    spm = tokenizer_metadata(llama_folder / "source", 600)
    for name in ("add_bos_token", "add_eos_token", "bos_token_id", "eos_token_id", "unknown_token_id"):
        del spm[f"tokenizer.ggml.{name}"]
    del spm["tokenizer.ggml.add_space_prefix"]
    write_tokenizer(spm, tmp_path)
    found = llama_cpp_ids(model_file(tmp_path / "m.gguf", spm), ["one", ""], start=True)
    assert found == ids(load(tmp_path), ["one", ""], start=True)
    assert found[1] == [1]


def test_the_template_is_written_as_it_is(metadata: Metadata, tmp_path: Path) -> None:
    write_tokenizer(metadata | {"tokenizer.chat_template": "{{ é }}\r\n"}, tmp_path)
    assert (tmp_path / "chat_template.jinja").read_bytes() == "{{ é }}\r\n".encode()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "t5"}, "of the kind 't5'"), ({"model": None}, "has no model"),
        ({"pre": "kimi-k2"}, "pre-tokenizer 'kimi-k2'"), ({"pre": None}, "pre-tokenizer None"),
        ({"tokens": None}, "has no tokens"), ({"tokens": []}, "has no tokens"),
        ({"tokens": [1, 2]}, "among its tokens: 1"), ({"tokens": ["a"]}, "1 tokens but 720 token types"),
        ({"tokens": ["a"] * 720}, "the token 'a' twice, with the ids 0 and 1"),
        ({"token_type": ["a"]}, "among its token_type"), ({"merges": None}, "has no merges"),
        ({"merges": ["a"]}, "the merge 'a', which"), ({"merges": ["a b c"]}, "the merge 'a b c', which"),
        ({"merges": ["a €€"]}, "the merge 'a €€', which"), ({"bos_token_id": 720}, "the bos token 720"),
        ({"bos_token_id": -1}, "the bos token -1"), ({"bos_token_id": "a"}, "the bos token 'a'"),
        ({"eos_token_id": 715}, "the eos token 715"), ({"add_bos_token": 1}, "add_bos_token 1"),
        ({"model": "llama"}, "has no scores"),
        ({"model": "llama", "scores": [1.0]}, "720 tokens but 1 scores"),
        ({"model": "llama", "scores": ["a"] * 720}, "among its scores"),
        ({"model": "llama", "scores": [float("nan")] * 720}, "scores that are not finite"),
        ({"model": "llama", "scores": [1.0] * 720, "add_space_prefix": "yes"}, "add_space_prefix 'yes'"),
        ({"model": "llama", "tokens": ["a" * 2000], "token_type": [1], "scores": [0.0]}, "2000 characters"),
    ],
)  # fmt: skip
def test_bad_metadata(change: Metadata, said: str, metadata: Metadata, tmp_path: Path) -> None:
    metadata |= {f"tokenizer.ggml.{name}": value for name, value in change.items()}
    if metadata["tokenizer.ggml.tokens"] == ["a" * 2000]:
        metadata = {name: each for name, each in metadata.items() if not name.endswith("_token_id")}
        metadata |= {f"tokenizer.ggml.{name}_token_id": 0 for name in ("bos", "eos", "unknown")}
    with pytest.raises(ModelError, match=said):
        write_tokenizer(metadata, tmp_path)
