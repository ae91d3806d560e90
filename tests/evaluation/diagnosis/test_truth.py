"""Where the truth about answers comes from, and which chains do not count."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("scipy")

from redraft.chain import Chain, Step, write_jsonl
from redraft.checks.parse import parse_checks
from redraft.errors import RecordError
from redraft.evaluation.diagnosis.truth import OWN, SCORE, chains_in, known, with_checks
from tests.cli.verbs import write
from tests.evaluation.diagnosis.made_chains import step, told


def test_truth_of_an_evaluation_counts_and_not_the_checks_that_guided() -> None:
    [found] = known([told("a", "01", guide="10")]).chains
    assert (found.rights, found.truth.task) == ((False, True), "gsm8k")
    assert (found.first, found.best) == (False, True)


def test_an_echo_and_a_lost_text_are_never_right_and_a_chain_without_a_best_answer_is_wrong() -> None:
    steps = (step("x", finish="lost"), step("y", echo=True))
    [found] = known([told("a", "11").model_copy(update={"steps": steps})]).chains
    assert (found.passes, found.rights) == ((True, True), (False, False))
    [found] = known([told("a", "11", best=None)]).chains
    assert found.rights == (True, True)
    assert found.best is False


def test_own_checks_are_the_truth_where_nothing_else_is() -> None:
    [found] = known([Chain(id="a", steps=(step("x", guide="0"), step("y", guide="1")), best=1)]).chains
    assert (found.truth.task, found.rights) == (OWN, (False, True))
    assert found.scored == found.guided == {"words<=9"}
    cut = (step("x", guide="1", finish="max_tokens"),)
    assert known([Chain(id="a", steps=cut, best=0)]).chains[0].rights == (False,)


def test_a_revision_that_changed_nothing_has_the_results_of_the_answer_before_it() -> None:
    steps = (step("x", guide="0"), Step(answer="x"), Step(answer="x"))
    [found] = known([Chain(id="a", steps=steps, best=0)]).chains
    assert found.rights == (False,) * 3
    changed = (step("x", guide="0"), Step(answer="y"))
    material = known([Chain(id="a", steps=steps, best=0), Chain(id="b", steps=changed, best=0)])
    assert material.left_out == {"some answers were not checked": ("b",)}


def test_empty_answers_beside_a_file_are_wrong_unless_they_were_made_since(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    write_jsonl(file, [told("t/0", "01"), told("t/1", "1")])
    usage = {"prompt_tokens": 7, "completion_tokens": 0}
    kept = {"version": 1, "steps": [], "stop": "error", "usage": usage, "meta": told("t/2", "0").meta}
    failed = [
        {"id": "t/1", "cause": "empty reply", "error": "EmptyReply"},
        {"id": "t/2", "cause": "empty reply", "error": "EmptyReply", "message": "none", "chain": kept},
        {"id": "t/3", "cause": "timeout", "error": "EngineTimeout", "message": "none", "chain": None},
    ]
    write(tmp_path / "t.jsonl.errors.jsonl", failed)
    found = known(chains_in([file])).chains
    assert [(each.chain.id, each.truth.task, each.first, each.best, each.empty) for each in found] == [
        ("t/0", "gsm8k", False, True, False),
        ("t/1", "gsm8k", True, True, False),
        ("t/2", "gsm8k", False, False, True),
    ]
    assert found[-1].chain.usage.prompt_tokens == 7
    scored = known(with_checks(chains_in([file]), parse_checks(["lacks:rain"]))).chains
    assert [(each.truth.task, each.best) for each in scored] == [(SCORE, True), (SCORE, True), (SCORE, False)]


def test_an_empty_answer_does_not_count_where_only_own_checks_tell(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    write_jsonl(file, [Chain(id="t/0", steps=(step("x", guide="1"),), best=0)])
    write(tmp_path / "t.jsonl.errors.jsonl", [{"id": "t/1", "cause": "empty reply", "error": "EmptyReply"}])
    assert known(chains_in([file])).left_out == {"empty": ("t/1",)}


def test_what_does_not_count_is_listed_by_reason() -> None:
    cut = told("few", "01", truth={"steps": [[{"name": "n", "passed": True}]]})
    broken = told("broken", "1", truth={"steps": [[{"name": "n"}]]})
    bare = Chain(id="bare", steps=(step("x", guide="1"),), best=0)
    material = known([told("a", "1"), cut, broken, bare, Chain(id="none")])
    assert [each.chain.id for each in material.chains] == ["a"]
    assert material.left_out == {
        "no score for some answers": ("few",),
        "the score cannot be read": ("broken",),
        "no score": ("bare",),
        "no answer": ("none",),
    }


@pytest.mark.parametrize(
    ("chains", "words"),
    [([], "no chain has an answer"), ([Chain(id="a", steps=(Step(answer="x"),), best=0)], "decides")],
)
def test_chains_without_truth_are_refused(chains: list[Chain], words: str) -> None:
    with pytest.raises(RecordError, match=words):
        known(chains)
