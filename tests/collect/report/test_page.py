"""The page of statistics: all parts are there, and texts of records stay texts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("vl_convert")

from redraft.collect.report.show import page
from redraft.collect.report.stats import describe
from tests.pages.reading import BAD, read


def page_of(path: Path, *records: object) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return page(describe([path], len), "made so")


def test_no_text_of_a_record_becomes_markup(tmp_path: Path) -> None:
    text = BAD
    record = {
        "instruction": text,
        "output": text,
        "dataset": text,
        "outputs": [{"output": text, "feedback": text}, {"output": "b", "feedback": text}],
    }
    talk = {"messages": [{"role": text, "content": text}, {"role": "assistant", "content": text}]}
    reader = read(page_of(tmp_path / "<b onclick=x>.jsonl", record, talk, {text: 1}))
    assert BAD in "".join(reader.text)
    assert "<b onclick=x>.jsonl" in "".join(reader.text)
    assert reader.scripts == []


def test_all_parts_are_there_for_chains(shared_data: Path, tmp_path: Path) -> None:
    lines = (shared_data / "selfee" / "chains" / "conala.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "conala.jsonl").write_bytes(b"".join(lines[:500]))
    report = describe([tmp_path / "conala.jsonl"], len, unit="characters")
    text = "".join(read(page(report, "redraft 1 · seed 0")).text)
    parts = (
        "conala.jsonl|gold answers| quoting the gold answer|answers a record|characters, feedback|Feedback 5|"
        "scores in last feedbacks|characters by step|revision 4|languages|Examples|accepted at once · |"
        "corrected · |leaking · |without a verdict · |Samples|redraft 1 · seed 0"
    )
    for part in parts.split("|"):
        assert part in text


@pytest.mark.parametrize("records", [0, 1])
def test_of_little_or_nothing_there_is_a_page_too(tmp_path: Path, records: int) -> None:
    html = page_of(tmp_path / "a.jsonl", *[{"prompt": "Why?"}] * records)
    assert ("Distributions" in html) == bool(records)
    assert ("No records." in html) != bool(records)
    read(html)


def test_long_texts_and_long_chains_are_cut_with_a_word_on_it(tmp_path: Path) -> None:
    steps = [{"output": "y" * 5000, "feedback": "again"}] * 40
    html = page_of(tmp_path / "a.jsonl", {"instruction": "x" * 5000, "outputs": steps})
    assert "… 3,500 more characters" in html
    assert "… 30 more answers" in html
    assert "x" * 1501 not in html


def test_a_rationale_is_shown_and_wider_bars_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    answers = ["Two and two.\n#### 4", *["word " * 2**i for i in range(10)]]
    records = [{"question": "What is 2 + 2?", "answer": answer} for answer in answers]
    path.write_text("\n".join(map(json.dumps, records)), "utf-8")
    made = page(describe([path], lambda text: len(text.split()), samples=20), "")
    assert "<b>rationale</b>" in made
    assert "a bar has a wider range than those before it" in made
