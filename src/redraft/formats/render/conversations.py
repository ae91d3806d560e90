r"""Training texts of a talk in plain words: Vicuna's, version 1.1, and StableVicuna's.

The loss is on what the assistant says in every turn, each with the stop token. A chain's steps are SelFee's
text inside the last turn. Vicuna: `{system} USER: {…} ASSISTANT: {…}</s>USER: …` (FastChat, `vicuna_v1.1`).
StableVicuna: `### Human: {…}\n### Assistant: {…}` (its model card); the card has one turn and no system
message, so the stop token and line break after a turn, and an empty line after a system message, are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from redraft.chain import Chain, Prompt, content_of
from redraft.errors import RecordError
from redraft.formats.gold import gold_text
from redraft.formats.render.targets import (
    WHOLE,
    Objective,
    Span,
    asked,
    best_answer,
    framed,
    led_by_space,
    said,
    whole_chain,
)

_VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


@dataclass(frozen=True)
class Turn:
    """Who says what. `role` is `system`, `user` or `assistant`."""

    role: str
    text: str


@dataclass(frozen=True)
class _Style:
    """How a talk is written.

    Attributes:
        system: What stands at the beginning if the talk has no system message.
        after_system: What stands behind either.
        user: Before what a user says.
        again: Before what a user says after the first turn.
        assistant: Before what the assistant says and the space that leads it.
    """

    system: str
    after_system: str
    user: str
    again: str
    assistant: str


_VICUNA = _Style(_VICUNA_SYSTEM, " ", "USER: ", "USER: ", " ASSISTANT:")
_STABLE_VICUNA = _Style("", "\n\n", "### Human: ", "\n### Human: ", "\n### Assistant:")


def vicuna(chain: Chain, objective: Objective) -> list[Span]:
    """Vicuna's text, version 1.1."""
    return _talk(chain, objective, _VICUNA)


def stable_vicuna(chain: Chain, objective: Objective) -> list[Span]:
    """StableVicuna's text."""
    return _talk(chain, objective, _STABLE_VICUNA)


def turns_of(prompt: Prompt) -> list[Turn]:
    """What was said before the answer.

    Raises:
        RecordError: A message is neither the system's, nor a user's, nor the assistant's.
    """
    if prompt.messages is None:
        return [Turn("user", prompt.text)]
    turns = [Turn(str(message.get("role")), content_of(message)) for message in prompt.messages]
    if strange := next((turn.role for turn in turns if turn.role not in _ROLES), None):
        raise RecordError(f"a message of the role {strange!r:.40}, which training texts have no place for")
    return turns


_ROLES = ("system", "user", "assistant")


def last_turn(chain: Chain, objective: Objective) -> list[Span]:
    """What the assistant says last, or nothing if the talk has no answer: a single answer, or all steps.

    Raises:
        RecordError: Its only answer was cut.
    """
    if not chain.steps and not gold_text(chain):
        return []
    if objective == "answer":
        return best_answer(chain, objective)
    return whole_chain(chain, objective, plain=True)


def answered(turns: Sequence[Turn], last: Sequence[Span]) -> list[Turn]:
    """The turns that an answer follows: of a talk that ends in a question, those before it.

    Raises:
        RecordError: No answer follows any.
    """
    if last:
        return list(turns)
    ends = [i for i, turn in enumerate(turns) if turn.role == "assistant"]
    if not ends:
        raise RecordError("no answer")
    return list(turns[: ends[-1] + 1])


def _talk(chain: Chain, objective: Objective, style: _Style) -> list[Span]:
    last = last_turn(chain, objective)
    turns = answered(turns_of(chain.prompt), last)
    system = [turn.text for turn in turns if turn.role == "system"]
    talk = _in_turn([turn for turn in turns if turn.role != "system"], answered=bool(last))
    spans = _opening(style, "\n\n".join(system))
    for number, turn in enumerate(talk):
        if turn.role == "assistant":
            spans += led_by_space(said(turn.text, trained=objective in WHOLE))
        else:
            spans += [framed(style.again if number else style.user), asked(turn.text)]
            spans.append(framed(style.assistant))
    return spans + (led_by_space(last) if last else [])


def _opening(style: _Style, system: str) -> list[Span]:
    if system:
        return [asked(system), framed(style.after_system)]
    return [framed(style.system + style.after_system)] if style.system else []


def _in_turn(turns: list[Turn], *, answered: bool) -> list[Turn]:
    """The turns from the first question on (FastChat's trainer drops a first word of the assistant's).

    Raises:
        RecordError: Users and assistant do not take turns.
    """
    if turns and turns[0].role == "assistant":
        turns = turns[1:]
    wanted = ["assistant" if i % 2 else "user" for i in range(len(turns))]
    if not turns or [turn.role for turn in turns] != wanted or len(turns) % 2 != int(answered):
        raise RecordError("user and assistant do not take turns")
    return turns
