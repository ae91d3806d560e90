"""Judging a text by checks, as other frameworks ask for it: with texts, chat messages, and without async."""

from __future__ import annotations

import asyncio

import pytest

from redraft.chain import Prompt
from redraft.errors import UsageError
from redraft.integrations.judged import checks_of, judged, wait


@pytest.mark.parametrize(
    ("text", "score"), [("It is rain.", 1.0), ("It is white and cold and falls.", 4 / 7)]
)
def test_a_text_and_a_conversation_have_the_same_score(text: str, score: float) -> None:
    chat = [{"role": "user", "content": "Once more."}, {"role": "assistant", "content": text}]
    found = [wait(judged(checks_of(["words<=4"]), each, "Rain?")) for each in (text, chat)]
    assert [each.score for each in found] == [pytest.approx(score)] * 2
    assert [each.passed for each in found] == [not each.feedback for each in found] == [score == 1] * 2


def test_a_check_sees_the_whole_conversation() -> None:
    def polite(answer: str, prompt: Prompt) -> bool:
        return "please" not in prompt.said or "gladly" in answer

    asked = [{"role": "system", "content": "Say please."}, {"role": "user", "content": "Rain?"}]
    scores = [wait(judged(checks_of([polite]), each, asked)).score for each in ("Yes, gladly.", "Yes.")]
    assert scores == [1, 0]


def test_it_can_be_waited_for_within_a_loop_of_events() -> None:
    async def caller() -> bool:
        return wait(judged(checks_of(["words<=4"]), "It is rain.")).passed

    assert asyncio.run(caller())


def test_a_wrong_check_is_said_before_anything_is_judged() -> None:
    with pytest.raises(UsageError, match="no check is called 'word'"):
        checks_of(["word<=4"])
    with pytest.raises(UsageError, match="there are no checks"):
        checks_of([])
