"""Lists of blocked words, from files."""

from __future__ import annotations

from pathlib import Path

import pytest

from redraft.collect.clean.rules import ALPACA, word_list
from redraft.errors import UsageError


def test_a_file_has_a_word_or_phrase_a_line(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("\ufeff# of ours\n\nStraße\n  go   to\nC++\n.env\n", "utf-8")
    words = word_list(str(path))
    assert words.words == {"strasse"}
    assert words.find("In der STRASSE.") == "strasse"
    assert words.find("Go to it") == "go to"
    assert words.find("cargo to it, go together") is None
    assert words.find("in c++, of course") == "c++"
    assert words.find("see .env") == ".env"
    assert words.find("my.environment") is None
    assert words.find("of ours") is None


def test_a_later_place_counts_too(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("go to\n", "utf-8")
    assert word_list(str(path)).find("cargo to and go to") == "go to"


def test_lists_have_names() -> None:
    assert word_list("alpaca") is ALPACA


def test_no_such_list(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a list") as error:
        word_list(str(tmp_path / "none"))
    assert "fastchat, alpaca" in error.value.message


@pytest.mark.parametrize(("data", "problem"), [(b"# x\n\n", "no words"), (b"\xff\xfea", "not UTF-8")])
def test_a_file_without_words(tmp_path: Path, data: bytes, problem: str) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=problem):
        word_list(str(path))
