"""A revision without a text ends the chain, passes nothing, and is never the best answer."""

from __future__ import annotations

import pytest

from redraft.chain import Step
from redraft.revise.state import Mode, best_step
from tests.revise.play import NATIVE, Stream, plan, play


@pytest.mark.parametrize("empty", ["", " \n", Stream("", finish="max_tokens")])
@pytest.mark.parametrize("mode", ["verified", "prompted", "native"])
def test_with_checks_that_nothing_would_pass(mode: Mode, empty: str | Stream) -> None:
    a_plan = plan(mode=mode, checks=("toy",), critic=NATIVE if mode == "prompted" else None)
    streams = ["A draft that is too long.", *(["Revision is needed."] if mode == "prompted" else []), empty]
    chain = play(a_plan, streams, lambda answer: len(answer) < 5).chain
    assert (chain.answer, chain.passed) == ("A draft that is too long.", False)
    assert chain.stop == ("max_tokens" if isinstance(empty, Stream) else "ended")


def test_with_a_critic() -> None:
    chain = play(plan(), ["One gull.", "Revision is needed.", ""]).chain
    assert (chain.answer, chain.stop, chain.revisions) == ("One gull.", "ended", 1)


def test_a_cut_answer_is_better_than_none() -> None:
    assert best_step([Step(answer="One gu", finish="max_tokens"), Step(answer="")]) == 0
