from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.data.test_clean import talk
from tests.cli.data.word_tokenizer import tokenizer_of_words
from tests.cli.verbs import lines, redraft, write


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    said = [[40, 40, 10, 10, 10, 10], [5, 5]]
    long, short = (talk(f"t{i}", *("w " * size for size in sizes)) for i, sizes in enumerate(said))
    path = write(tmp_path / "talks.jsonl", [long, "broken", short])
    path.write_text(path.read_text().replace('"broken"', '{"broken'))
    return path


@pytest.fixture
def words(tmp_path: Path) -> Path:
    return tokenizer_of_words(tmp_path / "words")


def test_what_is_too_long_stays_whole_and_what_is_broken_goes_aside(
    talks: Path, words: Path, tmp_path: Path
) -> None:
    out, side = tmp_path / "out.jsonl", tmp_path / "side.jsonl"
    args = (talks, "--tokenizer", words, "--limit", 64, "--format", "chat", "-j", 1, "-o", out)
    assert "split: 1; records over 64 tokens: 1" in redraft("data", "split", *args, "--dropped", side).stderr
    assert [each["id"] for each in lines(out)] == ["talks/t0#1", "talks/t0#2", "talks/t1"]
    (broken,) = map(json.loads, side.read_text().splitlines())
    assert (broken["rule"], broken["where"]) == ("unreadable", f"{talks}:2")
