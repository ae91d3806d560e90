"""Findings from the numbers of a summary."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from redraft.collect.report.findings import DataFinding, findings
from redraft.collect.report.stats import describe


def found(tmp_path: Path, *records: object, long: int = 2048) -> dict[str, DataFinding]:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    report = describe([path], lambda text: len(text.split()), long=long)
    return {each.name: each for each in findings(report)}


ENGLISH = "Please describe how rain comes to fall from the clouds, number"
GERMAN = "Bitte beschreibe mir, wie der Regen aus den Wolken fällt, Nummer"


def test_good_records_with_a_licence_raise_nothing(tmp_path: Path) -> None:
    chain = {
        "version": 1,
        "prompt": {"instruction": ENGLISH},
        "steps": [
            {"answer": "It is heavy.", "feedback": {"text": "No revision is needed.", "verdict": "accept"}}
        ],
        "best": 0,
        "meta": {"origin": {"dataset": "own", "licence": "MIT"}},
    }
    assert found(tmp_path, chain) == {}


def test_nothing_at_all_is_said_to_be_nothing(tmp_path: Path) -> None:
    assert list(found(tmp_path)) == ["empty"]


def test_faults_come_first(tmp_path: Path) -> None:
    said = found(
        tmp_path,
        {"x": 1},
        {"conversations": [{"from": "gpt", "value": "Hi."}, {"from": "human", "value": "Hi."}]},
        {"messages": [{"role": "user", "content": "a b c d e"}, {"role": "assistant", "content": ""}]},
        long=4,
    )
    assert list(said) == ["unreadable", "roles", "empty answer", "long", "licence"]
    assert [each.level for each in said.values()] == ["fault", "fault", "fault", "warning", "note"]
    assert said["roles"].text.endswith("assistant speaks first (1).")
    assert said["roles"].examples == (f"{tmp_path / 'a.jsonl'}:2",)
    assert said["unreadable"].text == "1 record that cannot be read."


def test_repeats_are_counted_beyond_the_first(tmp_path: Path) -> None:
    said = found(tmp_path, *[{"prompt": "Why?"}] * 3, {"prompt": " WHY? "}, {"prompt": "How?"})
    assert said["repeated"].count == 3
    assert said["repeated"].text.startswith("3 records with the first question of an earlier one, 3 with all")


@pytest.mark.parametrize(("others", "warns"), [(0, False), (1, False), (2, True)])
def test_a_mixture_of_languages_is_noted_from_one_in_a_hundred(
    tmp_path: Path, others: int, warns: bool
) -> None:
    records = [{"prompt": f"{ENGLISH} {number}"} for number in range(150)]
    said = found(tmp_path, *records, *({"prompt": f"{GERMAN} {number}"} for number in range(others)))
    assert ("languages" in said) == warns
    if warns:
        assert said["languages"].text.endswith("not in en, of 152 whose language is clear: de (2).")


def test_records_not_for_commercial_use_are_a_warning(tmp_path: Path) -> None:
    chain = {
        "version": 1,
        "prompt": {"instruction": "q"},
        "steps": [],
        "meta": {"origin": {"licence": "CC BY-NC 4.0"}},
    }
    assert found(tmp_path, chain)["noncommercial"].text == "1 record not for commercial use, of 1."


def test_records_without_any_answer_are_told(tmp_path: Path) -> None:
    said = found(tmp_path, {"prompt": "Why?"}, {"question": "How?", "answer": "So."}, {"prompt": "Who?"})
    assert said["no answer"].count == 2
    assert "2 records" in said["no answer"].text
    assert said["no answer"].examples == (f"{tmp_path / 'a.jsonl'}:1", f"{tmp_path / 'a.jsonl'}:3")


def test_tags_of_html_in_answers_are_told(tmp_path: Path) -> None:
    answers = ["<p>So.</p>", "So: `<p>x</p>`", "So."]
    talks = [{"instruction": "Why?", "output": answer} for answer in answers]
    assert found(tmp_path, *talks)["html"].count == 1
