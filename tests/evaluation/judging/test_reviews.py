"""The review record, in the shapes that others write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from redraft.chain.read.records import raw_records
from redraft.errors import RecordError
from redraft.evaluation.judging.reviews import Review, Unreadable, read_reviews
from tests.cli.verbs import write
from tests.evaluation.made import review

PAIR = {
    "question_id": 81, "model_1": "new", "model_2": "old", "g1_winner": "model_1", "g2_winner": "model_2",
    "judge": ["gpt-4", "pair-v2"], "g1_judgment": "[[A]]", "g2_judgment": "[[A]]", "turn": 2,
}  # fmt: skip


def test_released_reviews_survive_a_round_trip(shared_data: Path) -> None:
    path = shared_data / "selfee" / "reviews" / "chatgpt_vs_selfee_13b_enforce_0_revisions.jsonl"
    lines = path.read_text("utf-8").splitlines()
    for line, (where, each) in zip(lines, read_reviews(raw_records(path)), strict=True):
        assert where.startswith(f"{path}:")
        assert json.loads(each.to_json()) == json.loads(line)


def test_unknown_fields_survive_and_optional_ones_are_left_out() -> None:
    record = review(1, "a", "b", (9, 8), cost=3, judge="gpt", turn=2)
    assert json.loads(Review.of(record).to_json()) == record
    assert "turn" not in json.loads(Review.of(review(1, "a", "b", (9, 8))).to_json())


def test_the_field_comes_before_the_text() -> None:
    made = Review.of(review(1, "a", "b", (9, 8), text="3 4"))
    assert made.scores() == (9, 8)
    assert made.model_copy(update={"score": None}).scores() == (3, 4)
    assert made.model_copy(update={"score": (-1, -1)}).scores() == (3, 4)
    with pytest.raises(Unreadable, match="outside 1 to 10: 12 and 8"):
        made.model_copy(update={"score": (12, 8)}).scores()
    with pytest.raises(Unreadable, match="one score"):
        made.model_copy(update={"score": None, "text": "[[8]]"}).scores()


@pytest.mark.parametrize(("score", "verdict"), [((9, 8), 1), ((8, 9), -1), ((9, 9), 0)])
def test_a_verdict_is_for_the_answer_shown_first(score: tuple[float, float], verdict: int) -> None:
    assert Review.of(review(1, "a", "b", score)).verdict() == verdict


def test_a_line_of_mt_bench_is_a_review_in_each_order(tmp_path: Path) -> None:
    records = [PAIR, PAIR | {"g1_winner": "tie", "g2_winner": "error", "turn": 1}]
    found = [each for _, each in read_reviews(raw_records(write(tmp_path / "pairs.jsonl", records)))]
    assert [(each.answer1_id, each.answer2_id) for each in found] == [("new", "old"), ("old", "new")] * 2
    assert [(each.model_1, each.judge, each.turn) for each in found[:2]] == [
        ("new", "gpt-4", 2),
        ("old", "gpt-4", 2),
    ]
    assert [found[0].verdict(), found[1].verdict(), found[2].verdict()] == [1, 1, 0]
    with pytest.raises(Unreadable, match="could not be read"):
        found[3].verdict()


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([1], "the record is a list, not a review"),
        ("9 8", "the record is '9 8', not a review"),
        ({"question_id": 1}, "answer1_id: Field required"),
        (review(1, "a", "b", (9, 8)) | {"score": ["nine", 8]}, "score.0: .*found 'nine'"),
        (review(1, "a", "b", (9, 8)) | {"score": [9]}, "score"),
        (review(1, "a", "b", (9, 8), text=None), "text"),
        (review(1, "a", "b", (9, 8), winner="me"), "winner"),
        ({"question_id": 1, "g1_winner": "tie"}, "the MT-bench judgement lacks model_1, model_2, g2"),
    ],
)
def test_what_is_no_review_is_named(tmp_path: Path, record: Any, message: str) -> None:
    path = write(tmp_path / "r.jsonl", [review(1, "a", "b", (9, 8)), record])
    with pytest.raises(RecordError, match=f"r.jsonl:2: {message}") as raised:
        list(read_reviews(raw_records(path)))
    assert "A review is" in (raised.value.hint or "")
