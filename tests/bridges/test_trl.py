"""Checks as TRL's trainers call a reward function: with lists, and columns by name."""

from __future__ import annotations

import pytest

from redraft.bridges.trl import reward
from redraft.chain import Prompt
from redraft.errors import UsageError

PROMPTS = ["Describe rain.", "Describe snow."]


def test_texts_and_conversations_have_the_same_reward() -> None:
    texts = ["It is rain.", "It is white and cold and falls."]
    chats = [[{"role": "assistant", "content": text}] for text in texts]
    scored = reward("words<=4")
    assert scored(prompts=PROMPTS, completions=texts) == scored(prompts=PROMPTS, completions=chats)
    assert scored(prompts=PROMPTS, completions=texts) == [1.0, pytest.approx(4 / 7)]


def test_rows_have_checks_of_their_own() -> None:
    rows = [["contains:rain"], None]
    given = {"prompts": PROMPTS, "completions": ["No.", "No."], "trainer_state": object()}
    assert reward()(**given, checks=rows) == [0.0, None]
    assert reward("words<=4")(**given, checks=rows) == [0.5, 1.0]


def test_a_check_sees_the_whole_conversation() -> None:
    def polite(answer: str, prompt: Prompt) -> bool:
        return "please" not in prompt.said or "gladly" in answer

    asked = [[{"role": "system", "content": "Say please."}, {"role": "user", "content": "Rain?"}]]
    assert reward(polite)(prompts=asked, completions=["Yes, gladly."]) == [1.0]
    assert reward(polite)(prompts=asked, completions=["Yes."]) == [0.0]


def test_a_wrong_check_is_said_before_training() -> None:
    with pytest.raises(UsageError, match="no check is called 'word'"):
        reward("word<=4")
