"""The score of a task: counts, intervals, groups, and how they are shown."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("scipy")

from redraft.chain import Chain, Step
from redraft.evaluation.stats import proportion
from redraft.evaluation.tasks.tally import Share, Tally
from redraft.evaluation.tasks.tasks import KEY
from tests.evaluation.diagnosis.made_chains import told

BESIDE = ("first answers", "loose", "constraints", "constraints, loose")


def tally_of(*chains: Chain, task: str = "gsm8k") -> Tally:
    tally = Tally(task=task)
    for each in chains:
        tally.add(each)
    return tally


def counts(shares: dict[str, Share]) -> dict[str, tuple[int, int]]:
    return {name: (share.hits, share.count) for name, share in shares.items()}


def test_the_best_answer_scores_and_the_first_is_shown_beside_it_where_some_are_revised() -> None:
    tally = tally_of(told("a", "01"), told("b", "10", best=0), told("ü", "00"), told("d", "10"))
    assert tally.table() == [
        "gsm8k: 4 answers; 95 % intervals",
        "score            50.0 %  15.0 to 85.0  2 of 4",
        "  first answers  50.0 %  15.0 to 85.0  2 of 4",
    ]
    assert (tally.wrong, tally.score.rate) == (["ü", "d"], proportion(2, 4))
    found = tally.record()
    assert (found["task"], found["wrong"], found["first_answers"]["hits"]) == ("gsm8k", ["ü", "d"], 2)
    ends = {"low": pytest.approx(0.15, abs=1e-3), "high": pytest.approx(0.85, abs=1e-3)}
    assert found["score"] == {"value": 0.5, **ends, "hits": 2, "count": 4}
    assert tally_of(told("a", "1")).table()[1:] == ["score  100.0 %  20.7 to 100.0  1 of 1"]


def test_a_chain_without_an_answer_or_without_truth_is_wrong() -> None:
    tally = tally_of(told("a", "", best=None), Chain(id="b", steps=(Step(answer="x"),), best=0))
    assert (tally.score.hits, tally.score.count, tally.wrong) == (0, 2, ["a", "b"])


def test_an_echo_and_an_empty_text_are_wrong_in_every_figure() -> None:
    """The checks may pass them: "no commas" passes an empty text. Denominators are those of all answers."""
    result = {"name": "ifeval:punctuation:no_comma {}", "passed": True}
    truth = {"task": "ifeval", "steps": [[result, result]], "loose": [[True, True]]}

    def of(name: str, step: Step, best: int | None = 0) -> Chain:
        return Chain(id=name, steps=(step,), best=best, meta={KEY: truth})

    tally = tally_of(
        of("good", Step(answer="x")),
        of("echo", Step(answer="My answer has no comma.", echo=True)),
        of("none kept", Step(answer="My answer has no comma.", echo=True), None),
        of("empty", Step(answer=" \n")),
        task="ifeval",
    )
    assert (tally.score.hits, tally.score.count) == (1, 4)
    assert counts(tally.beside) == dict(zip(BESIDE, [(1, 4), (1, 4), (2, 8), (2, 8)], strict=True))
    assert counts(tally.groups) == {"punctuation:no_comma": (2, 8)}


def test_runs_turns_and_constraints_of_one_item_are_not_independent() -> None:
    def turn(name: str, question: int, *, right: bool) -> Chain:
        made = told(name, str(int(right)))
        return made.model_copy(update={"meta": {**made.meta, "source": {"question_id": question}}})

    turns = [turn(f"q/{n}{'~2' * second}", n, right=n < 10) for n in range(30) for second in (0, 1)]
    found = tally_of(*turns)
    assert (found.score.hits, found.score.count) == (20, 60)
    rate = found.score.rate
    assert rate.high - rate.low > 1.3 * (proportion(20, 60).high - proportion(20, 60).low)


def test_groups() -> None:
    first, second = ({"groups": [level, "Algebra"]} for level in ("level 1", "level 2"))
    tally = tally_of(told("a", "1", truth=first), told("b", "0", truth=second))
    assert counts(tally.groups) == {"level 1": (1, 1), "level 2": (0, 1), "Algebra": (1, 2)}
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
    assert counts(tally.beside) == dict(zip(BESIDE, [(0, 1), (1, 1), (1, 2), (2, 2)], strict=True))
    assert {name: share.hits for name, share in tally.groups.items()} == {"x:one": 1, "x:two": 0}
