from __future__ import annotations

from pathlib import Path

import pytest

from redraft.engines.load import token_count
from redraft.errors import ModelError, UsageError
from redraft.weights.tokenizers.from_gguf import TokenCount
from tests.cli.data.word_tokenizer import tokenizer_of_words
from tests.gguf_files import gguf


def test_tokens_are_counted_without_cutting_filling_or_special_tokens(tmp_path: Path) -> None:
    words = tokenizer_of_words(tmp_path / "words")
    count = token_count(str(words))
    assert count == TokenCount(words / "tokenizer.json")
    assert [count(text) for text in ("", "a", "a b c d e f")] == [0, 1, 6]
    assert count("word " * 100_000) in range(100_000, 100_010)


def test_a_tokenizer_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no tokenizer\.json"):
        token_count(str(tmp_path))
    for name in ("nope", "script:a.jsonl", "http://localhost:8000/v1#m"):
        with pytest.raises(UsageError, match="there is no tokenizer") as caught:
            token_count(name)
        assert "script:" not in str(caught.value.hint)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"the tokenizer of .*tokenizer\.json cannot be loaded"):
        token_count(str(tmp_path))
    (tmp_path / "model.gguf").write_bytes(gguf({"general.architecture": "llama"}))
    with pytest.raises(ModelError, match="has no model"):
        token_count(str(tmp_path / "model.gguf"))


@pytest.mark.model
def test_the_default_models_tokens(default_model: Path) -> None:
    count = token_count(str(default_model))
    assert [count(text) for text in ("", "Hello world", "Hello<|im_end|>")] == [0, 2, 2]
