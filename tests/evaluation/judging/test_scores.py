"""Scores in the text of a review: all that are there, and none that are not."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain.read.records import raw_records
from redraft.evaluation.judging.reviews import Unreadable, read_reviews, scores_in, winner_in

TRAP = "Assistant 1 finds the length of the segment from (2, -4) to (10, 4)."


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ("9 8.5\nBoth are helpful.", (9, 8.5)), ("9, 8\nBoth", (9, 8)), ("**7/10 10/10**\n", (7, 10)),
        ("\n 10 10 ", (10, 10)), ("(8, 9)\nThe tuple is above: (2, 3) is a point.", (8, 9)),
        ("Good. Rating: [[8]]", (8,)), ("[[1, 2]]? No.\n[[8, 9]], so [[8, 9]]", (8, 9)),
        ("So [[8,\n9]]", (8, 9)), ("9 3\nAssistant 2 ends with [[1, 2]], which is no matrix.", (9, 3)),
        ("**8** **9**\nBoth", (8, 9)), ("**8**, *9*", (8, 9)), ("Score: 8 9\nBoth", (8, 9)),
        ("**Scores:** 8, 9", (8, 9)), ("Final scores: 8 and 9.", (8, 9)),
        ("8 out of 10, 9 out of 10", (8, 9)), ("**8**/10 **9**/10", (8, 9)), ("\ufeff9 8\nBoth", (9, 8)),
        ("8 out of 10", (8,)), ("It is good.\n\nRating: 8/10", (8,)), ("Score: **8**\nIt is good.", (8,)),
        ("Good. [[8 out of 10]]", (8,)),
    ],
)  # fmt: skip
def test_scores_are_read(text: str, scores: tuple[float, ...]) -> None:
    assert scores_in(text) == scores


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "an empty text"), ("Both are good.", "no scores"), (TRAP, "no scores"),
        ("The answer is 10 units and 4 steps.", "no scores"), ("9\n8", "no scores"), ("8", "no scores"),
        ("8 out of 12 tests pass.", "no scores"), ("8 out of 100", "no scores"),
        ("Score: 8 points less than 9", "no scores"),
        ("It scores 8 out of 10 in my view, I think.", "no scores"), ("Assistant 1: 8", "no scores"),
        ("95 88\nBoth are fine.", "outside 1 to 10: 95 and 88"), ("-1 -1", "outside 1 to 10"),
        ("0 9", "outside 1 to 10: 0 and 9"), ("[[A]]", "no scores"),
        ("[[8]] out of [[10]]", r"\[\[8\]\] and \[\[10\]\] on one line"),
        ("[[1, 2]], no: [[8, 9]]", "on one line"),
        ("Answer 1 has on a line\n(1, 2)\nwhich is wrong.", "no scores"), ("INCORRECT", "no scores"),
    ],
)  # fmt: skip
def test_scores_are_never_made_up(text: str, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        scores_in(text)


def test_a_verdict_is_that_on_the_last_line_with_one() -> None:
    asked = 'I write "[[A]]" if A is better, "[[B]]" if B is, and "[[C]]" for a tie.'
    for each, winner in (("A", "1"), ("B", "2"), ("C", "tie")):
        assert winner_in(f"{asked}\nB quotes [[B]].\n[[{each}]], so [[{each}]]\nThat is all.") == winner
    for text, why in (
        ("A is better", "no verdict"),
        ("INCORRECT", "no verdict"),
        ("Answer A is not correct.", "no verdict"),
        ("[[A]] or [[B]]", r"\[\[A\]\] and \[\[B\]\] on one line"),
        (f"[[A]]\n{asked}", "on one line"),
        ("", "empty"),
    ):
        with pytest.raises(Unreadable, match=why):
            winner_in(text)


@given(st.text(max_size=400))
def test_any_text_gives_scores_on_the_scale_or_none(text: str) -> None:
    with contextlib.suppress(Unreadable):
        assert all(1 <= score <= 10 for score in scores_in(text))


LONG = ["(1, ", "score is ", "9 ", "[[", "* "]
BLANK = ["(8,", "[[8", "9", "9 8", "Score", "8 out of 10", "**8**"]


@pytest.mark.parametrize(
    "text",
    [*(part * 40_000 for part in LONG), *(f"{start}{' ' * 100_000}x" for start in BLANK)],
    ids=lambda text: text[:16],
)
def test_a_hostile_text_takes_no_quadratic_time(text: str) -> None:
    start = time.process_time()
    with pytest.raises(Unreadable):
        scores_in(text)
    assert time.process_time() - start < 2  # it was 40 s where the time grew with the square


def test_released_texts_give_the_released_scores_or_none(shared_data: Path) -> None:
    files = sorted((shared_data / "selfee" / "reviews").glob("*.jsonl"))
    reviews = [review for path in files for _, review in read_reviews(raw_records(path))]
    found = 0
    for review in reviews:
        with contextlib.suppress(Unreadable):
            assert review.model_copy(update={"score": None}).scores() == review.score
            found += 1
    assert (len(reviews), found) == (320, 308), "twelve end in a tuple, or name the assistants"
