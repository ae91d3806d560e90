"""The text of a stream: whole characters, stop strings, and tokens that always spell it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import transformers
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import decoders, processors

from redraft.engines.base import first_stop
from redraft.engines.text import FinalText, Spelling, Tokenizer
from tests.engines.hf_folders import tokenizer
from tests.weights.tokenizer_files import llama_like

WORDS = Tokenizer(tokenizer(), "toy")
STOPS = st.lists(st.text(st.sampled_from("ab \n#日"), max_size=4), max_size=3)


def decode(tokens: Sequence[int]) -> str:
    return WORDS.decode(tokens, control=False)


def pieces(tokens: Sequence[int], stop: Sequence[str] = (), prompt: Sequence[int] = (5,)) -> list[FinalText]:
    spelling = Spelling.after(prompt, decode, stop)
    said: list[FinalText] = []
    for token in tokens:
        said.append(spelling.add(token))
        if said[-1].stop_text is not None:
            return said
    return [*said, spelling.end()]


def text_of(said: Sequence[FinalText]) -> str:
    return "".join(piece.text for piece in said)


@given(text=st.text(st.sampled_from("ab \n#日é🎉\ufffd"), max_size=30), stop=STOPS)
@example(text="a日", stop=["日"])
@example(text="aab", stop=["ab", "aabb"])
@example(text="\ufffd\ufffd", stop=[])
def test_it_ends_where_the_whole_text_would(text: str, stop: list[str]) -> None:
    said = pieces(WORDS.encode(text), stop)
    if (found := first_stop(text, stop)) is None:
        assert said[-1].stop_text is None
        assert text.startswith(text_of(said))
        assert not text.removeprefix(text_of(said)).strip("\ufffd")
    else:  # of two that begin at one place, the shorter may be complete first
        assert text_of(said) == text[: found[0]] or (said[-1].stop_text or "") in stop
        assert text.startswith(text_of(said) + (said[-1].stop_text or "?"))


@given(tokens=st.lists(st.integers(0, WORDS.size - 1), max_size=30), stop=STOPS)
@example(tokens=[102, 102, 102, 102, 102, 102], stop=[])
@example(tokens=[165, 1, 1, 248, 101, 30], stop=[])  # 日, with control tokens inside
def test_tokens_spell_the_text_shown_so_far(tokens: list[int], stop: list[str]) -> None:
    text, seen = "", list[int]()
    for piece in pieces(tokens, stop):
        text += piece.text
        seen += piece.tokens
        if piece.text and piece.stop_text is None and len(seen) < len(tokens):
            assert decode(seen) == text
        if piece.stop_text is not None:
            assert decode(seen).startswith(text + piece.stop_text)
    assert seen == tokens[: len(seen)]
    if piece.stop_text is None:
        assert len(seen) == len(tokens)
        assert text.rstrip("\ufffd") == decode(tokens).rstrip("\ufffd")


@given(tokens=st.lists(st.integers(3, WORDS.size - 1), max_size=30))
@example(tokens=[102] * 9)
def test_nothing_is_held_back_for_long(tokens: list[int]) -> None:
    spelling = Spelling.after((5,), decode, ())
    held = 0
    for token in tokens:
        held += 1 - len(spelling.add(token).tokens)
        assert held <= 3


def test_a_character_is_shown_when_it_is_whole() -> None:
    tokens = WORDS.encode("a日b")
    assert len(tokens) == 5
    assert [(piece.text, len(piece.tokens)) for piece in pieces(tokens)] == [
        ("a", 1), ("", 0), ("", 0), ("日", 3), ("b", 1), ("", 0),
    ]  # fmt: skip


def test_half_a_character_at_the_end_is_left_out() -> None:
    tokens = WORDS.encode("a日")[:-1]
    assert [(piece.text, piece.tokens) for piece in pieces(tokens)][-1] == ("", tokens[1:])


def test_what_may_be_a_stop_string_waits() -> None:
    said = pieces(WORDS.encode("x\n## y"), ["\n###"])
    assert [piece.text for piece in said] == ["x", "", "", "\n##" + " ", "y", ""]
    assert text_of(pieces(WORDS.encode("x\n##"), ["\n###"])) == "x\n##"


def test_control_tokens_have_no_text() -> None:
    said = pieces([*WORDS.encode("a"), 1, *WORDS.encode("b")])
    assert (text_of(said), [len(piece.tokens) for piece in said]) == ("ab", [1, 1, 1, 0])


@pytest.mark.parametrize("prepend", ["first", "always"])
def test_the_first_word_keeps_its_space(tmp_path: Path, prepend: str) -> None:
    words = _llama_like(tmp_path, prepend)
    tokens = words.encode("the quick 日本 fox", special=True)
    for cut in range(1, len(tokens) + 1):
        spelling = Spelling.after(tokens[:cut], lambda ids: words.decode(ids, control=False), ())
        shown = "".join(spelling.add(token).text for token in tokens[cut:]) + spelling.end().text
        before = words.decode(tokens[:cut], control=False)
        if "\ufffd" not in before:
            assert (before + shown).strip() == "the quick 日本 fox"


@pytest.mark.parametrize("prepend", ["first", "always"])
@given(text=st.text(st.sampled_from("ab \n日<s>/")))
def test_a_tokenizer_that_adds_a_space_adds_none_within_a_text(
    tmp_path_factory: pytest.TempPathFactory, prepend: str, text: str
) -> None:
    words = _llama_like(tmp_path_factory.getbasetemp() / f"words-{prepend}", prepend)
    tokens = words.encode(text)
    assert not {1, 2} & set(tokens)
    assert words.decode(tokens) == text


_MADE: dict[Path, Tokenizer] = {}


def _llama_like(folder: Path, prepend: str) -> Tokenizer:
    if folder not in _MADE:
        fast = llama_like(folder, prepend=prepend)
        fast.decoder = decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(content=" ", left=1, right=0),
            ]
        )
        _MADE[folder] = Tokenizer(transformers.PreTrainedTokenizerFast(tokenizer_object=fast), "toy")
    return _MADE[folder]


@pytest.mark.parametrize(("behind", "added"), [("<s> $A", 0), ("<s> $A </s>", 1), ("$A </s>", 1), ("$A", 0)])
def test_what_a_tokenizer_puts_behind_a_text_does_not_end_a_prompt(behind: str, added: int) -> None:
    fast = tokenizer()
    fast.backend_tokenizer.post_processor = processors.TemplateProcessing(
        behind.replace("<s>", "<|im_start|>").replace("</s>", "<|im_end|>"),
        None,
        [("<|im_start|>", 1), ("<|im_end|>", 2)],
    )
    words = Tokenizer(fast, "toy")
    start = (1,) if behind.startswith("<s>") else ()
    assert (words.encode("ab", special=True), words._behind) == ((*start, *words.encode("ab")), added)


def test_control_tokens_that_mark_thoughts_are_written_out() -> None:
    toy = tokenizer()
    tags = ["<|START_THINKING|>", "<|END_THINKING|>", "<|other|>"]
    toy.add_special_tokens({"additional_special_tokens": tags})
    toy.chat_template = "<|START_THINKING|>{{ thinking }}<|END_THINKING|>{{ content }}"
    tokens = Tokenizer(toy, "toy")
    ids = toy("<|START_THINKING|>a<|END_THINKING|>b<|other|>", add_special_tokens=False)["input_ids"]
    assert tokens.decode(ids, control=False) == "<|START_THINKING|>a<|END_THINKING|>b"
