"""What a file is, and whose answers reviews are of, without ids, under a wrong name and beside bad files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("scipy")

from redraft.chain import Chain
from redraft.errors import RecordError, UsageError
from redraft.evaluation.reports.inputs import opened
from redraft.evaluation.reports.report import describe
from tests.cli.verbs import write
from tests.evaluation.made import answer, report, review

GRADE = {"question_id": 1, "model": "new", "judgment": "So.", "score": 7}
CHAIN: dict[str, Any] = json.loads(Chain(id="a").to_json())
RECORDS = {"reviews": review(1, "a", "b", (9, 8)), "grades": GRADE, "chains": CHAIN}


@pytest.mark.parametrize("kind", RECORDS)
def test_the_first_record_says_what_a_file_is(tmp_path: Path, kind: str) -> None:
    assert opened(write(tmp_path / "a.jsonl", [RECORDS[kind], {}])).kind == kind
    (tmp_path / "b.json").write_text(json.dumps(RECORDS[kind], indent=1))
    given = opened(tmp_path / "b.json")
    assert given.kind == kind
    assert len(list(given.records)) == 1


@pytest.mark.parametrize("other", ["grades", "chains"])
def test_several_kinds_are_refused_by_name(tmp_path: Path, other: str) -> None:
    files = [write(tmp_path / f"{kind}.jsonl", [RECORDS[kind]]) for kind in ("reviews", other)]
    with pytest.raises(UsageError, match=f"reviews.jsonl has reviews; .*{other}.jsonl has {other}"):
        describe(files)


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (answer("new", 1, "x"), "is a record that no report describes; its fields are answer_id, model_id"),
        ({}, "its fields are none"),
        ("9 8", "is '9 8', which no report describes"),
        ({"files": [], "comparisons": []}, "its fields are files, comparisons"),
    ],
)
def test_anything_else_is_named(tmp_path: Path, record: Any, problem: str) -> None:
    with pytest.raises(RecordError, match=f"a.jsonl:1: .*{problem}") as raised:
        opened(write(tmp_path / "a.jsonl", [record]))
    assert raised.value.hint


def test_answers_with_chains_are_refused(tmp_path: Path) -> None:
    chains = write(tmp_path / "chains.jsonl", [CHAIN])
    with pytest.raises(UsageError, match="--answers goes with reviews and grades"):
        describe([chains], answers=[chains])


WITHOUT_IDS = ("answer1_id", "answer2_id")


def game(first: str, second: str, scores: dict[str, float], *, ids: bool = True) -> list[dict[str, Any]]:
    """Reviews of two questions with one model shown first."""
    made = [review(n, first, second, (scores[first], scores[second])) for n in (1, 2)]
    return [{name: value for name, value in each.items() if ids or name not in WITHOUT_IDS} for each in made]


def ratio(*files: Path, **more: Any) -> float | None:
    [found] = report(files, **more).comparisons
    return found.whole.ratio and round(found.whole.ratio.value, 3)


POINTS = {"new": 9, "old": 6, "other": 3}


@pytest.mark.parametrize("answers", [False, True])
def test_reviews_without_ids_are_placed_by_the_name_of_their_file(tmp_path: Path, *, answers: bool) -> None:
    files = [
        write(tmp_path / f"{one}_vs_{two}.jsonl", game(one, two, POINTS, ids=False))
        for one, two in (("new", "old"), ("old", "new"))
    ]
    given = [
        write(tmp_path / f"{name}.jsonl", [answer(name, n, name * 5) for n in (1, 2)])
        for name in ("new", "old")
    ]
    more: dict[str, Any] = {"answers": given} if answers else {}
    assert ratio(*files, **more) == 1.5
    [found] = report(files, **more).comparisons
    assert (found.model, found.in_both_orders, found.whole.questions) == ("new", True, 2)
    assert (found.length_bias is not None) is answers


def test_reviews_without_ids_or_names_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "reviews.jsonl", game("new", "old", POINTS, ids=False))
    with pytest.raises(
        RecordError, match=r"reviews.jsonl:1: .*no ids of answers.*name of the file"
    ) as raised:
        describe([path])
    assert "NEW_vs_OLD" in (raised.value.hint or "")
    named = path.rename(tmp_path / "new_vs_old.jsonl")
    new = write(tmp_path / "new.jsonl", [answer("new", 1, "x")])
    with pytest.raises(RecordError, match=r"new_vs_old.jsonl:1: .*old.* to question 1.*new"):
        describe([named], answers=[new])


def test_all_released_reviews_of_selfee_have_a_shape_that_is_read(shared_data: Path, tmp_path: Path) -> None:
    """Two of the 18 files, those with guanaco, have no ids of answers, as here."""
    folder = shared_data / "selfee" / "reviews"
    for path in folder.glob("*_3_*.jsonl"):
        records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        write(
            tmp_path / path.name,
            [{k: v for k, v in each.items() if k not in WITHOUT_IDS} for each in records],
        )
    released, without = (report(sorted(where.glob("*_3_*.jsonl"))) for where in (folder, tmp_path))
    assert without.comparisons[0].sums == released.comparisons[0].sums
    assert without.comparisons[0].whole.both == released.comparisons[0].whole.both
