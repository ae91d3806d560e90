"""Prompts as tokens, up to where a model writes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from redraft.chain import Chain, Prompt
from redraft.formats.encoder import NO_ROOM, Encoder, PromptEncoder, Skipped
from tests.train.tokenizer_kinds import KINDS, tokenizer

PROMPT = Prompt(instruction="Sort the list.", input="3, 1, 2")
TALK = Prompt(
    messages=(
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Sort it."},
    )
)


@pytest.mark.parametrize(
    ("kind", "prompt"),
    [
        *((kind, PROMPT) for kind in KINDS),
        *((kind, TALK) for kind in KINDS if kind not in ("spaced", "merging")),
    ],
)  # tokens of those reach over the ends of earlier answers, where training splits the text
@pytest.mark.parametrize("format_", ["chat", "selfee", "vicuna", "stablevicuna"])
def test_a_training_example_begins_with_the_tokens_of_its_prompt(
    kind: str, format_: Any, prompt: Prompt
) -> None:
    made = tokenizer(kind)
    found = PromptEncoder(made, format_, 512, 64).encode(Chain(prompt=prompt))
    chain = Chain.model_validate({"prompt": prompt.model_dump(), "steps": [{"answer": "1, 2, 3"}]})
    whole = Encoder(made, format_, "answer", 512).encode(chain)
    assert not isinstance(found, Skipped)
    assert not isinstance(whole, Skipped)
    assert np.array_equal(found.ids, whole.ids[: len(found.ids)])
    last = np.flatnonzero(whole.trained)[-1]
    first = last - int(np.argmax(~whole.trained[: last + 1][::-1])) + 1
    assert len(found.ids) == first
    assert not found.trained.any()


def test_a_prompt_that_leaves_no_room_is_skipped() -> None:
    found = PromptEncoder(tokenizer("bytes"), "chat", 64, 60).encode(Chain(prompt=PROMPT))
    assert isinstance(found, Skipped)
    assert found.reason == NO_ROOM


def test_a_record_without_a_question_is_skipped() -> None:
    found = PromptEncoder(tokenizer("bytes"), "chat", 64, 8).encode(Chain(prompt=Prompt()))
    assert isinstance(found, Skipped)


def test_the_room_is_part_of_the_fingerprint() -> None:
    made = tokenizer("bytes")
    assert PromptEncoder(made, "chat", 64, 8).fingerprint != PromptEncoder(made, "chat", 64, 9).fingerprint
