"""Telling a revision from a copy of the feedback."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.verify.echo import echoes

FEEDBACK = (
    'The answer has 64 words, and at most 50 are allowed. The answer does not contain the word "never".'
)
TOKENS = st.lists(st.sampled_from(["a", "b", "c", "don't"]), max_size=30)


@pytest.mark.parametrize(
    "answer",
    [
        FEEDBACK,
        'The answer does not contain the word "never".',
        "THE ANSWER DOES NOT CONTAIN THE WORD NEVER",
        "- **The answer** does not contain the word: never!",
        "The answer has 64 words and at most 50 are allowed; indeed",  # 11 of 12 words
    ],
)
def test_an_echo(answer: str) -> None:
    assert echoes(answer, FEEDBACK)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "The word never.",  # four words at most may be the answer
        "at most 50 are",
        "The word never does not contain the answer.",  # the words in another order
        "Rain falls, and it never asks whether the answer does not contain the word.",
        "The answer has 64 words. It never rains.",  # half of it
    ],
)
def test_no_echo(answer: str) -> None:
    assert not echoes(answer, FEEDBACK)


def test_japanese_is_no_single_word() -> None:
    assert echoes("答えが長すぎます。", "答えが長すぎます。短くしてください。")
    assert not echoes("雨は夜の町に降る。", "答えが長すぎます。短くしてください。")


@given(TOKENS, TOKENS)
def test_it_agrees_with_the_definition(said: list[str], heard: list[str]) -> None:
    run = math.ceil(0.9 * len(said))
    runs = [said[i : i + run] for i in range(len(said) - run + 1)]
    common = any(heard[i : i + run] in runs for i in range(len(heard) - run + 1))
    assert echoes(" ".join(said), ", ".join(heard)) == (len(said) >= 5 and common)


def test_long_texts_take_time_in_proportion() -> None:
    """Comparing all pairs of runs of these would take hours."""
    assert not echoes("a b " * 100_000 + "c " * 100_000, "a b " * 200_000)
    assert echoes("a b " * 100_000, "a b " * 100_000)
