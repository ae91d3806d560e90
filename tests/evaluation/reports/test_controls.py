"""Controls in a report: whether constants and instructions change the outcome."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("scipy")

from redraft.evaluation.reports.compare import compare
from redraft.evaluation.reports.inputs import Material, opened, place
from redraft.evaluation.reports.page import page
from redraft.evaluation.reports.reviews import Report
from redraft.evaluation.tables import as_text
from tests.evaluation.made import answer, report, review, write

MODELS = {"": "new", "constant": "a constant answer", "instruction": "new with an instruction"}


def reviews(kind: str, wins: int, of: int = 20) -> list[dict[str, Any]]:
    """Reviews in both orders of questions, of which the model or the control wins some and loses the rest."""
    found = []
    for question in range(of):
        score = (9, 5) if question < wins else (5, 9)
        for swapped in (True, False):
            names = ["new", "old"][:: -1 if swapped else 1]
            made = review(question, *names, score[:: -1 if swapped else 1])
            shown = [MODELS[kind], "old"][:: -1 if swapped else 1]
            made |= {"review_id": f"{kind}{question}{swapped}", "model_1": shown[0], "model_2": shown[1]}
            made["metadata"] = {"swapped": True} if swapped else {}
            found.append(made | ({"control": kind} if kind else {}))
    return found


def described(tmp_path: Path, constant: int, instruction: int) -> Report:
    records = [*reviews("constant", constant), *reviews("", 10), *reviews("instruction", instruction)]
    given = [
        write(tmp_path / f"{model}.jsonl", [answer(model, question, "text") for question in range(20)])
        for model in ("new", "old")
    ]
    return report([write(tmp_path / "reviews.jsonl", records)], answers=given, draws=200)


def test_a_judge_that_keeps_to_the_answers(tmp_path: Path) -> None:
    found = described(tmp_path, constant=0, instruction=10)
    [comparison] = found.comparisons
    assert (comparison.model, comparison.whole.reviews.total) == ("new", 40)
    assert [each.changes_outcome for each in found.controls] == [False, False]
    text = "\n".join(as_text(found.sections()))
    assert "Control: a constant answer against old: a constant loses against old, as it should" in text
    assert "not to be trusted" not in text
    assert '"note warns"' not in page(found, "here")


def test_a_judge_that_is_swayed(tmp_path: Path) -> None:
    found = described(tmp_path, constant=9, instruction=18)
    assert [each.changes_outcome for each in found.controls] == [True, True]
    constant, instruction = found.controls
    assert constant.figure.value == pytest.approx(0.45)
    assert instruction.gain
    assert instruction.gain.value == pytest.approx(0.4)
    text = "\n".join(as_text(found.sections()))
    assert "Control: new with an instruction against old: an instruction" in text
    assert "+40.0" in text
    assert text.count("do not trust this judge") == 2
    assert [each["changes_outcome"] for each in found.record()["controls"]] == [True, True]
    assert "not to be trusted, see Control: a constant answer, new with an instruction" in text
    assert page(found, "here").count('<p class="note warns">') == 2


def test_an_instruction_that_costs_the_answer_wins_changes_the_outcome_too(tmp_path: Path) -> None:
    assert described(tmp_path, constant=0, instruction=0).controls[1].changes_outcome


@pytest.mark.parametrize("kind", ["", "instruction"])
def test_the_model_is_the_one_that_was_named_first_whichever_review_came_first(
    tmp_path: Path, kind: str
) -> None:
    plain = reviews("", 10)
    assert plain[0]["model_1"] == "old"
    found = report(
        [write(tmp_path / "reviews.jsonl", [*reviews(kind, 3), *plain] if kind else plain)], draws=200
    )
    assert [(each.model, each.opponent) for each in found.comparisons] == [("new", "old")]


def test_a_control_stands_for_the_model_whatever_else_is_compared(tmp_path: Path) -> None:
    records = [
        *reviews("constant", 3),
        *reviews("", 10),
        review(1, "x", "y", (9, 8), model_1="x", model_2="y"),
    ]
    placed = place([opened(write(tmp_path / "reviews.jsonl", records))], Material())
    found = compare(placed, ("new", "old", "x", "y"), draws=200)
    assert [each.model for each in found] == ["a constant answer", "new", "x"]


def test_a_control_that_the_judge_refused_says_nothing(tmp_path: Path) -> None:
    unread = [each | {"score": None, "winner": "error"} for each in reviews("instruction", 3)]
    found = report([write(tmp_path / "reviews.jsonl", [*reviews("", 10), *unread])], draws=200)
    assert len(found.comparisons) == 1
    [control] = found.controls
    assert (control.changes_outcome, control.unreadable) == (False, 40)
    assert "nothing on it can be read" in "\n".join(as_text(found.sections()))
    json.dumps(found.record(), allow_nan=False)
