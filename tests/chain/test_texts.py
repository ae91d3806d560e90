"""A chain as turns, and back."""

from __future__ import annotations

from typing import Any

import pytest

from redraft.chain import Chain, Prompt
from redraft.chain.texts import turns_of


@pytest.mark.parametrize("role", [5, {"a": 1}, None])
def test_a_role_is_a_text_whatever_a_message_has(role: Any) -> None:
    chain = Chain(prompt=Prompt(messages=({"role": role, "content": "a"},)))
    assert [turn.role for turn in turns_of(chain)] == [str(role)]
