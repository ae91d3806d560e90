"""A draft without a text is an error. A revision without one ends the chain and is never the best answer."""

from __future__ import annotations

import pytest

from redraft.chain import Step, best_step
from redraft.errors import EmptyReply
from redraft.revision.options import Budget
from redraft.revision.state import Mode
from tests.revision.play import NATIVE, Stream, plan, play


@pytest.mark.parametrize("empty", ["", " \n", Stream("", finish="max_tokens")])
@pytest.mark.parametrize("mode", ["verified", "prompted"])
def test_with_checks_that_nothing_would_pass(mode: Mode, empty: str | Stream) -> None:
    a_plan = plan(mode=mode, checks=("toy",), critic=NATIVE if mode == "prompted" else None)
    streams = ["A draft that is too long.", *(["Revision is needed."] if mode == "prompted" else []), empty]
    chain = play(a_plan, streams, lambda answer: len(answer) < 5).chain
    assert (chain.answer, chain.passed) == ("A draft that is too long.", False)
    assert chain.stop == ("max_tokens" if isinstance(empty, Stream) else "ended")


def test_a_cut_answer_is_better_than_none() -> None:
    assert best_step([Step(answer="One gu", finish="max_tokens"), Step(answer="")]) == 0


@pytest.mark.parametrize("mode", ["verified", "prompted", "native"])
@pytest.mark.parametrize(("empty", "hint"), [("", None), (Stream(" ", finish="max_tokens"), "--max-tokens")])
def test_no_answer_at_all_is_an_error(mode: Mode, empty: str | Stream, hint: str | None) -> None:
    checks = ("toy",) if mode == "verified" else ()
    with pytest.raises(EmptyReply, match="'toy' gave no answer") as caught:
        play(plan(mode=mode, checks=checks), [empty], lambda _: True)
    assert (hint or "") in (caught.value.hint or "")
    assert caught.value.chain
    assert caught.value.chain.stop == "error"


@pytest.mark.parametrize("mode", ["prompted", "native"])
def test_a_budget_or_a_cancel_may_leave_no_answer(mode: Mode) -> None:
    cancelled = play(plan(mode=mode), [Stream("", finish="cancelled")]).chain
    assert (cancelled.stop, cancelled.best) == ("cancelled", None)
    spent = plan(mode=mode, budget=Budget(tokens=1))
    chain = play(spent, [Stream(" ", finish="max_tokens")]).chain
    assert (chain.stop, chain.best) == ("budget", None)
