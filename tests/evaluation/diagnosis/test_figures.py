"""Groups in which a gain is, and what counts as better, in words too."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("scipy")

from redraft.evaluation.diagnosis.figures import (
    MOST_CHECKS,
    Figures,
    decide,
    sentence,
)
from redraft.evaluation.diagnosis.truth import Known, Material, known
from redraft.evaluation.stats import paired
from tests.evaluation.diagnosis.made_chains import result, told


def one(*args: Any, **about: Any) -> Known:
    [found] = known([told(*args, **about)]).chains
    return found


Rights = tuple[bool, bool]


def groups(*chains: Known) -> dict[str, list[Rights]]:
    """Whether first and best answers are right, by group."""
    found = Figures(Material(chains, {})).groups
    return {name: [pair[:2] for pair in changes.pairs] for name, changes in found.items()}


def test_groups_are_those_of_the_records_and_mixed_tasks() -> None:
    chains = [one("a", "01", truth={"groups": ["level 1", "Algebra"]}), one("b", "1")]
    assert groups(*chains) == {"level 1": [(False, True)], "Algebra": [(False, True)]}
    mixed = one("b", "10", task="math")
    assert groups(*chains, mixed)["gsm8k"] == [(False, True), (True, True)]
    assert groups(*chains, mixed)["math"] == [(True, False)]
    assert groups(one("a", "01"), one("b", "0")) == {}


def several(*rows: str, names: tuple[str, ...], best: int | None = -1, texts: tuple[str, ...] = ()) -> Known:
    """A chain whose answers have several checks, each of which passes where a row has a 1."""
    steps = [
        [result(name, passed=mark == "1").model_dump() for name, mark in zip(names, row, strict=True)]
        for row in rows
    ]
    return one("a", "0" * len(rows), best=best, task="ifeval", answers=texts, truth=_truth(steps))


def _truth(steps: list[Any]) -> dict[str, Any]:
    return {"steps": steps, "loose": [[False] * len(found) for found in steps]}


def test_constraints_are_groups_by_their_type() -> None:
    names = ('ifeval:x:one {"a": "b {c"}', "ifeval:y:two", "words<=3")
    found = {"x:one": [(False, True)], "y:two": [(True, True)], "words<=3": [(False, False)]}
    assert groups(several("010", "110", names=names)) == found
    kept_none = groups(several("111", "111", names=names, best=None))
    assert {pair for pairs in kept_none.values() for pair in pairs} == {(True, False)}
    checks = tuple(f"contains:{number}" for number in range(MOST_CHECKS + 1))
    assert groups(several("1" * len(checks), names=checks)) == {}, "checks of single records are no groups"


@pytest.mark.parametrize(("texts", "rights"), [((" ", "x"), (False, True)), (("x", " "), (True, False))])
def test_what_is_no_answer_meets_no_constraint(texts: tuple[str, str], rights: Rights) -> None:
    found = groups(several("11", "11", names=("ifeval:x:one", "ifeval:y:two"), texts=texts))
    assert found == {"x:one": [rights], "y:two": [rights]}


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
