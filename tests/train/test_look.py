"""`--preview`: the records as the model will see them, with what carries loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import Chain
from redraft.chain.encoder import Encoder, Example
from redraft.train.look import CLOSE, OPEN, Estimate, estimate, preview, shown, thrown_away, visible
from redraft.train.options import SftOptions, parse
from redraft.train.prepare import Stored
from redraft.train.run import Ready, get_ready
from tests.train.tiny import chains, lines
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
    assert said.strip() == visible(made.decode(ids.tolist(), clean_up_tokenization_spaces=False)).strip()


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
    assert not {"\x1b", "\r", "\x07", "\u202e", "\x9b", "\t"} & set(visible(text))
    assert all(each.isprintable() or each == "\n" or each.isspace() for each in visible(text))


def test_what_cannot_be_seen_is_written_out() -> None:
    assert visible("a\x1b[2J\u202eb\n") == "a\\x1b[2J\\u202eb↵\n"


def test_examples_are_shown_with_what_carries_loss(model: str, tmp_path: Path) -> None:
    text = seen(model, tmp_path, "--preview", "3", "--training_objective", "full")
    assert text.count("\n── sum/") == 3
    assert seen(model, tmp_path, "--preview", "100").count("\n── sum/") == 24
    assert f"### Answer:↵\n{OPEN}" in text
    assert "No revision is needed.⟨/s⟩" + CLOSE in text


def test_it_shows_what_the_run_reads_first(model: str, tmp_path: Path) -> None:
    one = seen(model, tmp_path, "--preview", "2", "--seed", "1")
    assert one == seen(model, tmp_path, "--preview", "2", "--seed", "1")
    assert one != seen(model, tmp_path, "--preview", "2", "--seed", "2")


# `--estimate`: two steps of the run, thrown away, and what all of them take.


USUAL = "--model_max_length 128 --per_device_train_batch_size 2 --lora False --num_train_epochs 2"


def ready(model: str, folder: Path, *words: str) -> Ready:
    data = chains(folder / "chains.jsonl")
    given = ["--data_path", str(data), "--output_dir", str(folder / "out"), *USUAL.split(), *words]
    own = thrown_away(parse(given, SftOptions), folder / "aside")
    return get_ready(own, model, folder / "cache", say=lambda _: None)


@pytest.mark.parametrize("words", ["--gradient_accumulation_steps 3", "--packing False", "--max_steps 1000"])
def test_two_steps_say_what_all_of_them_take(model: str, tmp_path: Path, words: str) -> None:
    made = ready(model, tmp_path, *words.split())
    steps, lengths = made.loop.steps, made.data.rows.lengths
    found = estimate(made)
    assert found
    rows = 2 * len(lengths) if made.own.max_steps is None else 2000  # two passes, or steps of two rows
    assert (found.steps, found.tokens) == (steps, pytest.approx(rows * lengths.mean(), rel=0.01))
    assert found.seconds == pytest.approx(found.tokens / lines(tmp_path / "aside")[1]["tokens_per_second"])
    assert found.memory > 100e6


def test_nothing_is_left_of_it(model: str, tmp_path: Path) -> None:
    words = "--save_steps 1 --gguf x.gguf --eval_strategy steps"
    estimate(ready(model, tmp_path, *words.split()))
    assert {path.name for path in tmp_path.iterdir()} == {"aside", "cache", "chains.jsonl"}
    assert {path.name for path in (tmp_path / "aside").iterdir()} == {"log.jsonl"}


def test_it_is_said_in_words() -> None:
    found = Estimate(100, 4, steps=9, tokens=7200, tokens_per_second=2.0, memory=3_200_000_000)
    assert found.lines(None) == [
        "parameters  100, 4 of them trained (4.00%)",
        "memory      3.2 GB at most",
        "speed       2 tokens/s",
        "time        about 1:00:00 for 9 steps with 7,200 tokens, from the speed of one step",
    ]
    assert found.lines(36.0)[-1] == "cost        36.00, at 36 an hour"
    writes = replace(found, rollouts=60, writing=60.0)
    assert writes.seconds == 7200
    assert (
        writes.lines(None)[-1].strip()
        == "1:00:00 of this to write and judge answers, 1:00 for each rollout batch"
    )
