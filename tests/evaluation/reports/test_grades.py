"""The report on grades: means by model, judge and category, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("scipy")

from redraft.errors import RecordError
from redraft.evaluation.reports.grades import Grade, GradeReport, graded
from redraft.evaluation.reports.report import describe, page
from tests.cli.verbs import write
from tests.evaluation.made import answer, lines
from tests.evaluation.reports.test_page import BAD, data_of, read


def grade(question: int | str, score: float | None, **more: Any) -> dict[str, Any]:
    record = {"question_id": question, "model": "new", "judge": ["gull", "grades-general"], "turn": 1}
    return record | {"judgment": "So so.", "score": score} | more


def report(folder: Path, records: Sequence[dict[str, Any]], **given: Any) -> GradeReport:
    found = describe([write(folder / "grades.jsonl", records)], **given)
    assert isinstance(found, GradeReport)
    return found


def test_a_mean_for_each_model_and_judge(tmp_path: Path) -> None:
    records = [
        *(grade(number, 6 + number % 3) for number in range(30)),
        grade("x", None),
        grade("y", -1, judgment="[[9]]"),
        grade("z", 11),
        grade(1, 4, judge="tern"),
    ]
    first, other = report(tmp_path, records).grades
    mean = first.mean()
    assert (first.model, first.judge, first.questions) == ("new", "gull", 30)
    assert mean.value == pytest.approx(7.0)
    # The standard error of 30 grades with a variance of 20/29 is 0.152, and Student's t is 2.045.
    assert mean.low == pytest.approx(7 - 0.31, abs=0.02)
    assert mean.high == pytest.approx(7 + 0.31, abs=0.02)
    assert [place.rpartition(":")[2] for place in first.unreadable] == ["31", "32", "33"]
    assert (other.judge, other.mean().value) == ("tern", 4)


def test_turns_of_a_question_are_drawn_together() -> None:
    records = [grade(n // 2, 5 + n // 2, turn=1 + n % 2) for n in range(8)]
    [found] = graded(("", Grade.model_validate(each)) for each in records)
    assert (found.questions, found.mean().value) == (4, 6.5)
    [alone] = graded(("", Grade.model_validate(each)) for each in records if each["turn"] == 1)
    assert found.mean() == alone.mean()


def test_categories_and_places_of_the_unreadable(tmp_path: Path) -> None:
    records = [*(grade(n, 5 + n) for n in range(4)), grade(4, None)]
    asked = [{"question_id": n, "text": "?", "category": "maths" if n % 2 else "prose"} for n in range(5)]
    found = lines(report(tmp_path, records, questions=write(tmp_path / "q.jsonl", asked)))
    assert found[0] == "new graded by gull: 4 questions, 5 grades; 95 % intervals"
    assert found[1].startswith("mean 6.50 ")
    assert found[2].startswith("unreadable 1 ")
    assert found[2].endswith("grades.jsonl:5")
    assert found[3] == "by category"
    assert found[4].startswith("prose 6.00 ")
    assert found[5].startswith("maths 7.00 ")
    assert len(found) == 6


def test_two_turns_of_a_question_are_one_question_in_a_test_too(tmp_path: Path) -> None:
    scores = {"old": 5, "new": 6}
    records = [grade(n, scores[m], model=m, turn=turn) for m in scores for n in range(9) for turn in (1, 2)]
    found = report(tmp_path, records)
    [gain] = found.differences
    assert (len(gain.better), len(gain.worse), gain.moved) == (18, 0, (9, 0))
    assert gain.p == pytest.approx(2 / 2**9)
    assert "p 0.0039 exact sign test on each question's sum: 9 better and 0 worse" in lines(found)


def test_a_question_that_gains_in_a_turn_what_it_loses_in_the_other_is_neither_better_nor_worse(
    tmp_path: Path,
) -> None:
    scores = (("old", (8.1, 7.3)), ("new", (8.3, 7.1)))
    records = [
        grade(1, score, model=model, turn=turn)
        for model, turns in scores
        for turn, score in enumerate(turns, 1)
    ]
    [gain] = report(tmp_path, records).differences
    assert (gain.better, gain.worse, gain.moved, gain.p) == (("1",), ("1, turn 2",), (0, 0), 1)


def test_the_page_shows_the_grades_and_runs_nothing(tmp_path: Path) -> None:
    records = [grade(n, 5, answer_id=f"new-{n}", judgment=BAD, judge=BAD) for n in (1, 2)] + [grade(3, None)]
    answers = [write(tmp_path / "new.jsonl", [answer("new", n, BAD) for n in (1, 2)])]
    asked = write(tmp_path / "q.jsonl", [{"question_id": n, "text": BAD, "category": BAD} for n in (1, 2, 3)])
    reader = read(page(report(tmp_path, records[:2], questions=asked, answers=answers), "made"))
    first, _ = data_of(reader)
    [shown], [note] = first["answers"], first["notes"]
    assert (first["question"], shown["text"], note["text"], note["by"]) == (BAD,) * 4
    assert len(reader.scripts) == 2
    *_, last = data_of(read(page(report(tmp_path, records), "made")))
    assert (last["kinds"], last["row"], last["answers"]) == (["unreadable"], "–", [])


@pytest.mark.parametrize(
    ("records", "problem"),
    [
        ([grade(1, None), grade(2, -1)], "found 2 grades, but none is readable"),
        ([grade(1, 5), grade(1, 6)], "gull already graded new's answer to question 1 in .*:1"),
        ([grade(1, 5), {"model": "new", "judgment": "x"}], ":2: the record is not a grade: question_id"),
        ([grade(7, 5)], "belongs to question 7, which is not in .*q.jsonl"),
        ([grade(1, 5, answer_id="b")], "the answer 'b' is not in new"),
    ],
)
def test_what_is_refused(tmp_path: Path, records: list[dict[str, Any]], problem: str) -> None:
    questions = write(tmp_path / "q.jsonl", [{"question_id": n, "text": "?"} for n in (1, 2)])
    answers = [write(tmp_path / "new.jsonl", [answer("new", 1, "x")])] if "answer_id" in records[0] else []
    with pytest.raises(RecordError, match=problem):
        report(tmp_path, records, questions=questions, answers=answers)
