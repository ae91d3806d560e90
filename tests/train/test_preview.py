from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from redraft.chain import Chain
from redraft.formats.encoder import Encoder, Example
from redraft.train.prepare import Stored
from redraft.train.preview import CLOSE, OPEN, Decoder, ShownToken, preview, shown, visible
from redraft.train.settings import parse
from tests.train.tiny import chains
from tests.train.tokenizer_kinds import tokenizer


def seen(model: str, folder: Path, *words: str, colour: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=colour, color_system="standard" if colour else None, width=80)
    data = chains(folder / "chains.jsonl")
    settings = parse(["--data_path", str(data), "--model_max_length", "256", *words])
    preview(settings, model, folder / "cache", console, say=lambda _: None)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["llama", "bytes"])
@pytest.mark.parametrize("text", ["Add 1 and 1.", "naïve — 日本語 👩‍👩‍👧", "a  b\tc"])
def test_the_pieces_are_the_text(kind: str, text: str) -> None:
    made = tokenizer(kind)
    ids = np.array(made.encode(text, add_special_tokens=False), np.uint32)
    said = "".join(piece.text for piece in Decoder(made).pieces(Stored(ids, np.ones(len(ids), np.bool_))))
    whole = made.decode(ids.tolist(), clean_up_tokenization_spaces=False)
    assert said.strip() == visible(whole).strip()


def test_control_tokens_are_named_and_their_letters_are_not() -> None:
    made = tokenizer("llama")
    encoded = Encoder(made, "selfee", "full", 512).encode(
        Chain.model_validate({"prompt": {"instruction": "say </s>"}, "steps": [{"answer": "yes"}]})
    )
    assert isinstance(encoded, Example)
    pieces = list(Decoder(made).pieces(Stored(encoded.ids, encoded.trained)))
    special = [piece for piece in pieces if piece.special]
    assert [piece.text for piece in special] == ["⟨s⟩", "⟨/s⟩"]
    assert (special[0].trained, special[1].trained) == (False, True)
    assert "say </s>" in "".join(piece.text for piece in pieces)


def test_nothing_predicts_the_first_token() -> None:
    made = tokenizer("llama")
    ids = np.array(made.encode("Add 1", add_special_tokens=False), np.uint32)
    first, *others = Decoder(made).pieces(Stored(ids, np.ones(len(ids), np.bool_)))
    assert not first.trained
    assert all(piece.trained for piece in others)


@given(st.text())
def test_nothing_that_is_shown_steers_a_terminal(text: str) -> None:
    steering = {"\x1b", "\r", "\x07", "\u202e", "\x9b", "\t"}
    assert not steering & set(visible(text))
    assert all(each.isprintable() or each == "\n" or each.isspace() for each in visible(text))


def test_what_cannot_be_seen_is_written_out() -> None:
    assert visible("a\x1b[2J\u202eb\n") == "a\\x1b[2J\\u202eb↵\n"


# Marks and colours.

PIECES = [ShownToken("ask", trained=False), ShownToken(" me", trained=False), ShownToken("yes", trained=True)]


def test_marks_stand_around_what_carries_loss() -> None:
    assert shown(PIECES, colour=False).plain == f"ask me{OPEN}yes{CLOSE}"
    assert not shown(PIECES, colour=False).spans


def test_in_colour_no_mark_is_needed_and_neighbours_differ() -> None:
    text = shown(PIECES, colour=True)
    assert text.plain == "ask meyes"
    styles = [str(span.style) for span in text.spans]
    assert len(set(styles)) == 3
    assert "dim" in styles[0]
    assert "bold" in styles[2]


def test_words_in_brackets_are_no_markup(model: str, tmp_path: Path) -> None:
    assert shown([ShownToken("[red]x[/red]", trained=False)], colour=True).plain == "[red]x[/red]"


def test_examples_of_a_row_are_shown_with_what_carries_loss(model: str, tmp_path: Path) -> None:
    text = seen(model, tmp_path, "--preview", "3", "--training_objective", "full")
    assert text.count("\n── sum/") == 3
    assert "━━ row " in text
    assert " examples, which do not see each other" in text
    assert f"### Answer:↵\n{OPEN}" in text
    assert "No revision is needed.⟨/s⟩" + CLOSE in text
    assert "\x1b" not in text


def test_without_packing_there_are_no_rows(model: str, tmp_path: Path) -> None:
    assert "━━" not in seen(model, tmp_path, "--preview", "2", "--packing", "False")


def test_colours_where_the_terminal_has_them(model: str, tmp_path: Path) -> None:
    text = seen(model, tmp_path, "--preview", "1", colour=True)
    assert "\x1b[1;32m" in text
    assert OPEN not in text


def test_more_than_there_are(model: str, tmp_path: Path) -> None:
    assert seen(model, tmp_path, "--preview", "100").count("\n── sum/") == 24


def test_it_shows_what_the_run_reads_first(model: str, tmp_path: Path) -> None:
    one = seen(model, tmp_path, "--preview", "2", "--seed", "1")
    assert one == seen(model, tmp_path, "--preview", "2", "--seed", "1")
    assert one != seen(model, tmp_path, "--preview", "2", "--seed", "2")


def test_it_shows_the_longest_first_as_a_run_that_groups_reads_them(model: str, tmp_path: Path) -> None:
    words = ["--preview=24", "--packing=False", "--seed=1", "--gradient_accumulation_steps=2"]
    text = seen(model, tmp_path, *words, "--group_by_length")
    lengths = [int(each) for each in re.findall(r"── sum/\d+: (\d+) tokens", text)]
    steps = [lengths[start : start + 8] for start in range(0, 24, 8)]
    assert lengths[0] == max(lengths)
    assert [sorted(step, reverse=True) for step in steps] == steps


def test_what_was_cut_is_said(model: str, tmp_path: Path) -> None:
    text = seen(model, tmp_path, "--preview=24", "--training_objective=full", "--model_max_length=96")
    assert "96 tokens, " in text
    assert "; too long: cut by " in text
    assert " of the end" in text


def test_what_was_cut_of_a_prompt_is_told_apart(model: str, tmp_path: Path) -> None:
    steps = [{"answer": "7 " * 40, "feedback": {"text": "No.", "verdict": "revise"}}, {"answer": "8 " * 99}]
    record = {"version": 1, "id": "long", "prompt": {"instruction": "1 2 3 " * 90}, "steps": steps}
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps(record) + "\n")
    words = ["--preview=99", "--training_objective=full", "--model_max_length=128", f"--data_path={path}"]
    heading = next(line for line in seen(model, tmp_path, *words).splitlines() if line.startswith("── long"))
    assert re.search(r"too long: cut by [\d,]+ of the middle of the prompt and [\d,]+ of the end; ", heading)
    assert heading.endswith("; its last answers are lost; it ends within an answer")
