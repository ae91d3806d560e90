"""`--preview`: the records as the model will see them, with what carries loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import Chain
from redraft.chain.encoder import Encoder, Example
from redraft.train.look import CLOSE, OPEN, preview, shown, visible
from redraft.train.options import SftOptions, parse
from redraft.train.prepare import Stored
from tests.train.tiny import chains
from tests.train.tokenizer_kinds import tokenizer


def seen(model: str, folder: Path, *words: str) -> str:
    data = chains(folder / "chains.jsonl")
    own = parse(["--data_path", str(data), "--model_max_length", "256", *words], SftOptions)
    lines: list[str] = []
    preview(own, model, folder / "cache", show=lines.append, say=lambda _: None)
    return "\n".join(lines)


@pytest.mark.parametrize("kind", ["llama", "bytes"])
@pytest.mark.parametrize("text", ["Add 1 and 1.", "naïve — 日本語 👩‍👩‍👧", "a  b\tc"])
def test_the_tokens_are_the_text(kind: str, text: str) -> None:
    made = tokenizer(kind)
    ids = np.array(made.encode(text, add_special_tokens=False), np.uint32)
    said = shown(Stored(ids, np.zeros(len(ids), np.bool_)), made)
    whole = made.decode(ids.tolist(), clean_up_tokenization_spaces=False)
    assert said.strip() == visible(whole).strip()


def test_control_tokens_are_named_and_their_letters_are_not() -> None:
    made = tokenizer("llama")
    encoded = Encoder(made, "selfee", "full", 512).encode(
        Chain.model_validate({"prompt": {"instruction": "say </s>"}, "steps": [{"answer": "yes"}]})
    )
    assert isinstance(encoded, Example)
    said = shown(Stored(encoded.ids, encoded.trained), made)
    assert said.startswith("⟨s⟩")
    assert said.endswith(f"{OPEN}yes⟨/s⟩{CLOSE}")
    assert "say </s>" in said


def test_nothing_predicts_the_first_token() -> None:
    made = tokenizer("llama")
    ids = np.array(made.encode("Add 1", add_special_tokens=False), np.uint32)
    assert not shown(Stored(ids, np.ones(len(ids), np.bool_)), made).startswith(OPEN)


@given(st.text())
def test_nothing_that_is_shown_steers_a_terminal(text: str) -> None:
    steering = {"\x1b", "\r", "\x07", "\u202e", "\x9b", "\t"}
    assert not steering & set(visible(text))
    assert all(each.isprintable() or each == "\n" or each.isspace() for each in visible(text))


def test_what_cannot_be_seen_is_written_out() -> None:
    assert visible("a\x1b[2J\u202eb\n") == "a\\x1b[2J\\u202eb↵\n"


def test_examples_are_shown_with_what_carries_loss(model: str, tmp_path: Path) -> None:
    text = seen(model, tmp_path, "--preview", "3", "--training_objective", "full")
    assert text.count("\n── sum/") == 3
    assert f"### Answer:↵\n{OPEN}" in text
    assert "No revision is needed.⟨/s⟩" + CLOSE in text


def test_more_than_there_are(model: str, tmp_path: Path) -> None:
    assert seen(model, tmp_path, "--preview", "100").count("\n── sum/") == 24


def test_it_shows_what_the_run_reads_first(model: str, tmp_path: Path) -> None:
    one = seen(model, tmp_path, "--preview", "2", "--seed", "1")
    assert one == seen(model, tmp_path, "--preview", "2", "--seed", "1")
    assert one != seen(model, tmp_path, "--preview", "2", "--seed", "2")
