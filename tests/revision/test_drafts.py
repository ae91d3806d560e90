"""Best of N: drafts are sampled and checked, the best one is kept, and revised if the mode says so."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

import redraft
from redraft.chain import Chain, best_step
from redraft.engines.scripted import ScriptedEngine, ScriptedReply
from redraft.errors import EmptyReply, ServerError, UsageError
from tests.revision.play import plan, play

LONG, SHORTER, SHORT = "One two three four five six.", "One two three four.", "One two."


def revise(replies: list[Any], **options: Any) -> tuple[Chain, ScriptedEngine]:
    engine = ScriptedEngine(replies)
    return redraft.revise("Say it.", model=engine, **{"checks": ["words<=3"], **options}), engine


def test_best_of_stops_at_the_first_draft_that_passes() -> None:
    chain, engine = revise([LONG, SHORT, SHORTER], mode="best-of", drafts=3)
    assert (chain.answer, chain.passed, chain.stop) == (SHORT, True, "passed")
    assert ([step.answer for step in chain.drafts], len(engine.calls)) == ([LONG], 2)
    assert (engine.calls[0], chain.model["revision_mode"]) == (engine.calls[1], "best-of")


def test_best_of_keeps_the_best_of_drafts_that_all_fail() -> None:
    chain, engine = revise([LONG, SHORTER, LONG], mode="best-of", drafts=3)
    assert (chain.answer, chain.passed, chain.revisions) == (SHORTER, False, 0)
    assert [step.answer for step in chain.drafts] == [LONG, LONG]
    assert [result.passed for step in chain.drafts for result in step.checks] == [False, False]
    assert len(engine.calls) == 3
    assert chain.usage.completion_tokens == len(LONG + SHORTER + LONG)


def test_best_of_makes_four_drafts_unless_told_otherwise() -> None:
    assert len(revise([LONG], mode="best-of")[1].calls) == 4


def test_the_best_draft_is_revised() -> None:
    chain, engine = revise([SHORTER, LONG, SHORT], drafts=2)
    assert [step.answer for step in chain.steps] == [SHORTER, SHORT]
    assert ([step.answer for step in chain.drafts], chain.stop) == ([LONG], "passed")
    assert SHORTER in str(engine.calls[2])
    assert LONG not in str(engine.calls[2])


def test_a_critic_sees_the_best_draft_and_the_findings_of_its_checks() -> None:
    replies = [LONG, SHORTER, "It is dull. Revision is needed.", SHORT, "Fine. Revision is not needed."]
    chain, engine = revise(replies, mode="prompted", drafts=2, min_revisions=1)
    assert [step.answer for step in chain.steps] == [SHORTER, SHORT]
    assert chain.steps[0].feedback is not None
    assert chain.steps[0].feedback.by == "both"
    assert "4 words" in str(engine.calls[2])


@pytest.mark.parametrize("replies", [["", SHORTER], [SHORTER, ""]])
def test_a_draft_that_is_empty_is_a_failed_one(replies: list[str]) -> None:
    assert revise(replies, mode="best-of", drafts=2)[0].answer == SHORTER


@pytest.mark.parametrize("options", [{"mode": "best-of", "drafts": 2}, {"mode": "verified"}])
def test_texts_that_are_all_empty_are_no_answer_and_another_model_begins_anew(options: Any) -> None:
    with pytest.raises(EmptyReply) as caught:
        revise([""] * 4, **options)
    assert revise([SHORT], resume=caught.value.chain, **options)[0].answer == SHORT


def test_a_budget_ends_the_drafts_and_the_best_so_far_is_kept() -> None:
    budget = redraft.Budget(tokens=len(LONG + SHORTER))
    chain, engine = revise([LONG, SHORTER, LONG], mode="best-of", drafts=8, budget=budget)
    assert (chain.answer, chain.stop, len(engine.calls)) == (SHORTER, "budget", 2)


def test_a_failure_keeps_the_drafts_and_the_chain_goes_on_from_them() -> None:
    broken = ScriptedReply("One two thr", ServerError("gone"))
    with pytest.raises(ServerError) as failure:
        revise([SHORTER, LONG, broken], mode="best-of", drafts=4)
    cut = failure.value.chain
    assert cut is not None
    assert cut.answer == SHORTER
    assert {step.answer for step in cut.drafts} == {LONG, "One two thr"}
    chain, engine = revise([LONG, LONG], mode="best-of", drafts=4, resume=cut)
    assert (chain.answer, [step.answer for step in chain.drafts]) == (SHORTER, [LONG] * 3)
    assert len(engine.calls) == 2


def test_a_draft_that_the_budget_cut_is_written_again() -> None:
    replies = [SHORTER, LONG, SHORT]
    cut, _ = revise(replies, mode="best-of", drafts=3, budget=redraft.Budget(tokens=len(SHORTER) + 20))
    assert [(step.answer, step.finish) for step in cut.drafts] == [(LONG[:20].strip(), "max_tokens")]
    chain, engine = revise(replies[1:], mode="best-of", drafts=3, resume=cut)
    assert (chain.answer, len(engine.calls)) == (SHORT, 2)
    assert [step.answer for step in chain.drafts] == [SHORTER, LONG]


def test_a_draft_that_there_was_no_time_to_check_is_checked() -> None:
    hurry = threading.Event()

    def short(answer: str) -> bool:
        if answer == SHORT:
            hurry.wait(20)
        return answer == SHORT

    options: dict[str, Any] = {"mode": "best-of", "drafts": 2, "checks": [short]}
    cut, _ = revise([LONG, SHORT], budget=redraft.Budget(seconds=0.3), **options)
    hurry.set()
    assert (cut.answer, cut.stop, cut.drafts[0].passed) == (LONG, "budget", None)
    chain, engine = revise(["Another."], resume=cut, **options)
    assert (chain.answer, chain.stop, len(engine.calls)) == (SHORT, "passed", 0)
    assert [step.answer for step in chain.drafts] == [LONG]


@pytest.mark.parametrize("options", [{"mode": "best-of"}, {"mode": "verified"}])
@pytest.mark.parametrize(
    "streams",
    [
        ["Four gulls sleep.", "Two gulls.", "Six gulls.", "Nine gulls fly over.", "Gull."],
        ["Four gulls sleep.", "Two gulls.", "Gull.", "Nine gulls fly over.", "Six gulls."],
        ["Four gulls sleep.", "Two gulls.", "Six gulls.", "Gull."],
    ],
)
def test_every_moment_can_be_resumed(options: dict[str, Any], streams: list[str]) -> None:
    def short(answer: str) -> bool:
        return len(answer) < 8

    made = plan(
        checks=("toy",), drafts=4, **{"max_revisions": 0 if options["mode"] == "best-of" else 1, **options}
    )
    whole = play(made, streams, short)
    assert len(whole.progress) > 3
    for used, cut in whole.progress:
        resumed = play(replace(made, earlier=cut), streams[used:] or ["nothing is left"], short)
        assert (resumed.chain.answer, resumed.chain.usage) == (whole.chain.answer, whole.chain.usage)
        assert sorted(step.answer for step in resumed.chain.drafts) == sorted(
            step.answer for step in whole.chain.drafts
        )


def test_a_judge_alone_chooses() -> None:
    judge = ScriptedEngine(["Poor.\nScore: 3", "Good.\nScore: 9", "Fair.\nScore: 5"])
    chain, _ = revise(["First.", "Second.", "Third."], mode="best-of", drafts=3, checks=[], judge=judge)
    assert chain.answer == "Second."
    assert chain.usage_by_role["judge"].completion_tokens > 0


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"drafts": 0}, "at least 1"),
        ({"drafts": 2, "checks": []}, "Add a check"),
        ({"mode": "best-of", "checks": []}, "or a judge"),
        ({"drafts": 2, "mode": "native"}, "Use mode 'verified'"),
        ({"mode": "best-of", "critic": ScriptedEngine(["Fine."])}, "Use mode 'prompted' and drafts=4"),
        ({"mode": "best-of", "drafts": 2, "min_revisions": 1}, "Use mode 'verified' and drafts=2"),
    ],
)
def test_drafts_that_make_no_sense(options: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError) as failure:
        revise(["First."], **options)
    assert word in str(failure.value.hint)


def test_the_record_holds_the_drafts_and_is_as_before_without_them() -> None:
    chain, _ = revise([LONG, SHORTER], mode="best-of", drafts=2)
    assert Chain.from_json(chain.to_json()) == chain
    assert best_step(chain.steps) == 0
    assert "drafts" not in revise([SHORT])[0].to_json()
