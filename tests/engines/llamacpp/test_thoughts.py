from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import redraft
from redraft.weights.gguf.reader import read_header
from tests.gguf_files import with_text

pytest.importorskip("xllamacpp")

ASKED: Any = {"seed": 3, "max_tokens": 50, "max_revisions": 0}


@pytest.fixture(scope="module")
def thinker(default_model: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    own = read_header(default_model).text("tokenizer.chat_template") or ""
    template = own.replace("assistant\n' }}{% endif %}", "assistant\n<think>\n' }}{% endif %}")
    known = "{# {{ '<think>' + message.reasoning_content + '</think>' }} #}"
    path = tmp_path_factory.mktemp("thoughts") / "thinker.gguf"
    return str(with_text(default_model, "tokenizer.chat_template", known + template, path))


@pytest.mark.parametrize("check", ["words<=12", "json"])
def test_an_answer_behind_a_thought_that_is_ended_has_its_form(thinker: str, check: str) -> None:
    (step,) = redraft.revise("Describe rain.", model=thinker, checks=[check], max_thoughts=10, **ASKED).steps
    assert (step.passed, bool(step.reasoning)) == (True, True)
    assert step.usage.completion_tokens <= ASKED["max_tokens"]
    assert "</think>" not in step.answer
