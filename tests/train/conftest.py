from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from redraft.weights.gguf.reader import read_header
from redraft.weights.tokenizers.from_gguf import write_tokenizer
from tests.train.tiny import model_folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(model_folder(tmp_path_factory.mktemp("tiny") / "model"))


@pytest.fixture(scope="session")
def default_tokenizer(
    default_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> PreTrainedTokenizerBase:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(read_header(default_model, whole=True).metadata, folder)
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    return loaded
