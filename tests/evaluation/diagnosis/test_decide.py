"""Deciding between two ways: what counts as better, how many items are missing, and the words for it."""

from __future__ import annotations

import pytest

pytest.importorskip("scipy")

from redraft.evaluation.diagnosis.figures import decide, sentence
from redraft.stats import mcnemar, pairs_needed


def columns(better: int, worse: int, same: int) -> tuple[list[float], list[float]]:
    one = [0.0] * better + [1.0] * worse + [1.0] * same
    return one, [1.0] * better + [0.0] * worse + [1.0] * same


def test_a_gain_that_chance_would_not_bring_pays() -> None:
    found = decide(*columns(9, 1, 20))
    assert (found.items, found.better, found.worse, found.outcome, found.more) == (30, 9, 1, "better", 0)
    assert found.gain.value == pytest.approx(8 / 30)
    assert found.p == mcnemar([False] * 9 + [True] * 21, [True] * 9 + [False] + [True] * 20)
    assert sentence(found) == (
        "Revising does better here: it adds 26.7 points (+6.7 to +46.7) over the first answers; better in 9 "
        "of 30 items, worse in 1, p = 0.021."
    )


def test_the_other_way_round_it_does_not() -> None:
    found = decide(*columns(1, 9, 20))
    assert found.outcome == "worse"
    assert sentence(found, "best-of-4", "blind retry") == (
        "Don't: blind retry loses 26.7 points (-46.7 to -6.7) against best-of-4; better in 1 of 30 items, "
        "worse in 9, p = 0.021."
    )


def test_undecided_says_how_many_items_are_missing() -> None:
    one, other = columns(6, 2, 32)
    found = decide(one, other)
    needed = pairs_needed(one, other)
    assert needed is not None
    assert found.outcome == "undecided"
    assert found.needed == needed
    assert found.more == round(needed - 40, -1) == 120
    assert sentence(found).endswith(
        "over the first answers so far; better in 6 of 40 items, worse in 2, p = 0.29. About 120 more items "
        "would decide it, if they go on like this."
    )
    assert "loses 10.0 points" in sentence(decide(other, one))


def test_no_difference_needs_no_number_of_items() -> None:
    found = decide(*columns(2, 2, 6))
    assert (found.outcome, found.more, found.p) == ("undecided", None, 1.0)
    assert sentence(found) == (
        "Undecided: revising and the first answers do equally well; better in 2 of 10 items, worse in 2. No "
        "difference is in sight."
    )
    assert found.record()["more"] is None


def test_enough_items_that_do_not_decide_need_at_least_one_more() -> None:
    found = decide(*columns(5, 0, 0))  # p is 0.062, and the formula says that five pairs are enough
    assert (found.outcome, found.needed, found.more) == ("undecided", 5, 1)
    assert "About 1 more item would decide it" in sentence(found)


def test_shares_of_several_runs_are_compared_by_item() -> None:
    found = decide([0.0, 1 / 3, 2 / 3, 0.0] * 5, [2 / 3, 2 / 3, 2 / 3, 1 / 3] * 5)
    assert (found.better, found.worse, found.outcome) == (15, 0, "better")
    assert found.gain.value == pytest.approx(1 / 3)


def test_a_single_item_leaves_nearly_all_possible() -> None:
    record = decide([0.0], [1.0]).record()
    assert record["gain"] == {"value": 1.0, "low": pytest.approx(-0.95), "high": 1.0}
    assert record["outcome"] == "undecided"


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        decide([0.0, 1.0], [1.0])
