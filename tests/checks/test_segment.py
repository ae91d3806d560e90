from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.checks.segment import count_characters, count_words, paragraphs, sentences, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't stop, can’t won't.", ["Don't", "stop", "can’t", "won't"]),
        ("a well-known e-mail", ["a", "well", "known", "e", "mail"]),
        ("3.14, 1,234.5 and 2nd", ["3.14", "1,234.5", "and", "2nd"]),
        ("私は猫です。タワー", ["私", "は", "猫", "で", "す", "タワー"]),
        ("안녕하세요 세계", ["안녕하세요", "세계"]),
        ("Café naïve", ["Café", "naïve"]), ("👍🏽 ok 🇩🇪 👨‍👩‍👧 — !!", ["ok"]),
        ("**bold** and `code_x`", ["bold", "and", "code_x"]), ("two\u202fwords", ["two", "words"]),
        ("_ __ --", []), ("", []),
    ],
)  # fmt: skip
def test_words_are_those_of_unicode(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@given(
    st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True)), st.sampled_from([" ", "\n", ", ", " - ", "! "])
)
def test_every_word_is_counted_whatever_separates_them(parts: list[str], separator: str) -> None:
    assert count_words(separator.join(parts)) == len(parts)


@pytest.mark.parametrize(
    ("text", "count"),
    [("abc", 3), ("  a b\n", 3), ("👨‍👩‍👧", 1), ("🇩🇪🇫🇷", 2), ("e\u0301", 1), ("a\r\nb", 3), ("", 0)],
)
def test_characters_are_what_a_reader_sees(text: str, count: int) -> None:
    assert count_characters(text) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("One.", 1), ("One\ntwo.\n\nThree.", 2), ("\n\nOne.\n \t\n\nTwo.\n", 2), ("One.\r\n\r\nTwo.", 2),
        ("  ", 0),
    ],
)  # fmt: skip
def test_paragraphs_are_separated_by_blank_lines(text: str, count: int) -> None:
    assert len(paragraphs(text)) == count


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It rains. It pours!  Why? ", ["It rains.", "It pours!", "Why?"]),
        ("Dr. Smith met Mrs. Jones at 3.5 km.", 1),
        ("J. R. R. Tolkien wrote it. He did.", 2),
        ("He lives in the U.S. and works. She lives in the U.S. She works.", 3),
        ("Wait... what? Well… Yes.", ["Wait... what?", "Well…", "Yes."]),
        ('"Really?" he asked. "Yes." Then he left.', ['"Really?" he asked.', '"Yes."', "Then he left."]),
        ("The answer is no. Go on.", 2), ("Take option b. Then go.", 2),
        ("See No. 5, Fig. 3 and pp. 7 there.", 1),
        ("Bring tea, milk, etc. They help.", 2),
        ("Use e.g. Python. It works, i.e. Guido says so.", 2),
        ("猫です。犬です！はい？", ["猫です。", "犬です！", "はい？"]),
        ("# A title\nOne sentence\nover two lines.", ["A title", "One sentence\nover two lines."]),
        ("- First item\n- Second item. With two.\n1. Third", 4),
        ("1. One\n2) Two\n* Three", ["One", "Two", "Three"]),
        ("No stop at all", 1), ("World War I. Germany lost.", 2),
        ("mars is red. it is far.", 2), ("eBay pays. and I.", 1),
        ("Visit example.com. Version 2.0. Done!", 3),
        ("Hi!!! You?! Yes.", 3), ("... --- !!!", 0), ("", 0),
    ],
)  # fmt: skip
def test_sentences(text: str, expected: list[str] | int) -> None:
    found = [sentence.removeprefix("# ") for sentence in sentences(text)]
    assert (found if isinstance(expected, list) else len(found)) == expected


@given(st.text())
def test_sentences_keep_every_word_in_order_but_list_marks(text: str) -> None:
    text = text.translate({ord(char): None for char in "0123456789-+*•"})
    joined = "\n".join(sentences(text))
    assert [word for word in words(joined) if word.isalpha()] == [w for w in words(text) if w.isalpha()]


def test_hostile_repeats_are_counted_in_linear_time() -> None:
    """A quarter of a second of work each; quadratic time would take many, and the process would be killed."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_CPU, (5, 5))\n"
        "from redraft.checks.segment import paragraphs, sentences\n"
        "for piece in sys.argv[1:]: sentences(piece * 30_000); paragraphs(piece * 30_000)"
    )
    pieces = [".", "a.", ".\n", ". ", "1. ", ' "', ".)", "\n", "\n "]
    assert subprocess.run([sys.executable, "-c", code, *pieces], timeout=600).returncode == 0


def test_real_questions_have_about_as_many_sentences_as_final_stops(shared_data: Path) -> None:
    lines = (shared_data / "questions" / "vicuna_80.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    plain = [text for text in texts if "\n" not in text and '"' not in text and "." not in text[:-1]]
    assert len(plain) > 40
    assert all(len(sentences(text)) == sum(text.count(stop) for stop in ".?!") for text in plain)
