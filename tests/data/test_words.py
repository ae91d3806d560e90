"""Texts as words: any script, and the same hashes in every process."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.data.words import normalised, window_hashes, word_hashes, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't  PANIC, it is 3.14!", ["don", "t", "panic", "it", "is", "3", "14"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),  # vowel signs are marks, and belong to their word
        ("今日は", ["今", "日", "は"]), ("ｆｕｌｌ width", ["full", "width"]), ("x是y", ["x", "是", "y"]),
        ("🙂 … ___ “’”", []), ("“It’s” – a", ["it", "s", "a"]),
    ],
)  # fmt: skip
def test_words_of_any_script(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@given(st.text())
def test_a_text_in_two_forms_is_normalised_alike(text: str) -> None:
    assert normalised(f"  {text}\t\n{text} ") == normalised(f"{text} {text}")


def test_case_space_and_forms_do_not_count() -> None:
    assert normalised("Ｓtraße\n\n  E\u0301TÉ ") == normalised("STRASSE été")
    assert normalised("a b") != normalised("ab")


@given(st.lists(st.text(max_size=3), max_size=12), st.integers(1, 5))
def test_a_window_is_known_by_its_words_wherever_it_stands(parts: list[str], size: int) -> None:
    hashes = window_hashes(word_hashes(parts), size).tolist()
    runs = [tuple(parts[i : i + size]) for i in range(len(parts) - size + 1)]
    assert (len(hashes), len(set(hashes))) == (len(runs), len(set(runs)))
    assert dict(zip(runs, hashes, strict=True)) == dict(zip(reversed(runs), reversed(hashes), strict=True))


def test_numbers_are_the_same_in_another_process() -> None:
    code = "from redraft.data.words import word_hashes\nprint(word_hashes(['a', 'é', 'x' * 100]).tolist())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(word_hashes(["a", "é", "x" * 100]).tolist())
