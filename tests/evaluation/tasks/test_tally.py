"""The score of a task: counts, intervals, groups, and how they are shown."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("scipy")

from redraft.chain import Chain, Step
from redraft.evaluation.tasks.tally import Tally
from redraft.evaluation.tasks.tasks import KEY
from redraft.stats import proportion


def chain(name: str, *rights: bool, best: int | None = -1, **about: Any) -> Chain:
    """A chain whose steps are right or wrong."""
    steps = [[{"name": "final number 1", "passed": right, "score": float(right)}] for right in rights]
    return Chain(
        id=name,
        steps=tuple(Step(answer="x") for _ in rights),
        best=len(rights) - 1 if best == -1 else best,
        meta={KEY: {"task": "gsm8k", "steps": steps, **about}},
    )


def tally_of(*chains: Chain, task: str = "gsm8k") -> Tally:
    tally = Tally(task=task)
    for each in chains:
        tally.add(each)
    return tally


def test_the_best_answer_scores_and_the_first_is_shown_beside_it() -> None:
    tally = tally_of(
        chain("a", False, True),
        chain("b", True, False, best=0),
        chain("c", False, False),
        chain("d", True, False),
    )
    assert tally.table() == [
        "gsm8k: 4 answers",
        "score            50.0 %  15.0 to 85.0  2 of 4",
        "  first answers  50.0 %  15.0 to 85.0  2 of 4",
    ]
    assert tally.wrong == ["c", "d"]
    assert tally.score.rate == proportion(2, 4)


def test_first_answers_have_no_row_where_nothing_was_revised() -> None:
    assert tally_of(chain("a", True)).table() == ["gsm8k: 1 answer", "score  100.0 %  20.7 to 100.0  1 of 1"]


def test_a_chain_without_an_answer_or_without_truth_is_wrong() -> None:
    tally = tally_of(chain("a", best=None), Chain(id="b", steps=(Step(answer="x"),), best=0))
    assert (tally.score.hits, tally.score.count, tally.wrong) == (0, 2, ["a", "b"])


def test_groups() -> None:
    tally = tally_of(
        chain("a", True, groups=["level 1", "Algebra"]), chain("b", False, groups=["level 2", "Algebra"])
    )
    assert {name: (share.hits, share.count) for name, share in tally.groups.items()} == {
        "level 1": (1, 1),
        "level 2": (0, 1),
        "Algebra": (1, 2),
    }
    assert [line.split("  ")[0] for line in tally.table()[2:]] == ["Algebra", "level 1", "level 2"]


def test_ifeval_counts_prompts_and_single_constraints_strictly_and_loosely() -> None:
    def result(name: str, *, passed: bool) -> dict[str, Any]:
        return {"name": f'ifeval:{name} {{"a": "b c"}}', "passed": passed}

    steps = [[result("x:one", passed=True), result("x:two", passed=False)]]
    made = Chain(
        id="a", steps=(Step(answer="x"),), best=0, meta={KEY: {"steps": steps, "loose": [[True, True]]}}
    )
    tally = tally_of(made, task="ifeval")
    assert (tally.score.hits, tally.score.count) == (0, 1)
    beside = {name: (share.hits, share.count) for name, share in tally.beside.items()}
    assert beside == {
        "first answers": (0, 1),
        "loose": (1, 1),
        "constraints": (1, 2),
        "constraints, loose": (2, 2),
    }
    assert {name: share.hits for name, share in tally.groups.items()} == {"x:one": 1, "x:two": 0}


def test_the_record_for_json() -> None:
    found = tally_of(chain("a", True), chain("ü", False)).record()
    assert found["task"] == "gsm8k"
    assert found["score"] == {
        "value": 0.5,
        "low": pytest.approx(0.0945, abs=1e-4),
        "high": pytest.approx(0.9055, abs=1e-4),
        "hits": 1,
        "count": 2,
    }
    assert (found["wrong"], found["first_answers"]["hits"]) == (["ü"], 1)
