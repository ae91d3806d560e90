"""What counts as better, in words too."""

from __future__ import annotations

import pytest

pytest.importorskip("scipy")

from redraft.evaluation.diagnosis.figures import decide, sentence
from redraft.evaluation.stats import paired


def columns(better: int, worse: int, same: int) -> tuple[list[float], list[float]]:
    one = [0.0] * better + [1.0] * worse + [1.0] * same
    return one, [1.0] * better + [0.0] * worse + [1.0] * same


def test_a_gain_that_chance_would_not_bring_pays() -> None:
    found = decide(*columns(9, 1, 20))
    assert (found.items, found.better, found.worse, found.outcome) == (30, 9, 1, "better")
    assert found.gain.value == pytest.approx(8 / 30)
    assert found.p == paired([False] * 9 + [True] * 21, [True] * 9 + [False] + [True] * 20)
    assert sentence(found) == (
        "Revising does better here: it adds 26.7 points (6.7 to 46.7) over the first answers; better in 9 "
        "of 30 items, worse in 1, p = 0.021."
    )


def test_the_other_way_round_it_does_not() -> None:
    found = decide(*columns(1, 9, 20))
    assert found.outcome == "worse"
    assert sentence(found, "best-of-4", "blind retry") == (
        "Don't: blind retry loses 26.7 points (6.7 to 46.7) against best-of-4; better in 1 of 30 items, "
        "worse in 9, p = 0.021."
    )


def test_undecided_gives_no_number_of_items_to_collect() -> None:
    """Whoever followed such advice five times got 8 % false verdicts."""
    one, other = columns(6, 2, 32)
    found = decide(one, other)
    assert found.outcome == "undecided"
    said = sentence(found)
    assert said.endswith("over the first answers so far; better in 6 of 40 items, worse in 2, p = 0.29.")
    assert "loses 10.0 points" in sentence(decide(other, one))
    assert sentence(decide(*columns(0, 0, 6))) == "Undecided: revising changes no item's score."
