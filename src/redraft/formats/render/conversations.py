r"""Render conversations in plain words: Vicuna's format, version 1.1, and StableVicuna's.

The loss is on each of the assistant's turns with its stop token. A chain's steps are SelFee's text inside the
last turn. Vicuna: `{system} USER: {…} ASSISTANT: {…}</s>USER: …` (FastChat, `vicuna_v1.1`). StableVicuna:
`### Human: {…}\n### Assistant: {…}` (its model card). That card shows one turn without a system message; the
stop token and line break after a turn, and the empty line after a system message, are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from redraft.chain import Chain, Prompt
from redraft.errors import RecordError
from redraft.formats import Objective
from redraft.formats.render.loss_mask import (
    WHOLE,
    Span,
    answer_spans,
    asked,
    best_answer,
    framed,
    led_by_space,
    whole_chain,
)
from redraft.formats.selfee import render_prompt
from redraft.formats.texts import Turn, asked_turns, gold_text

_VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


@dataclass(frozen=True)
class _Style:
    """The texts around the turns of a conversation.

    Attributes:
        system: Start of a conversation without a system message.
        after_system: After either.
        user: Before the user's first turn.
        again: Before the user's later turns.
        assistant: Before the assistant's turn and its leading space.
    """

    system: str
    after_system: str
    user: str
    again: str
    assistant: str


_VICUNA = _Style(_VICUNA_SYSTEM, " ", "USER: ", "USER: ", " ASSISTANT:")
_STABLE_VICUNA = _Style("", "\n\n", "### Human: ", "\n### Human: ", "\n### Assistant:")


def known_turns(prompt: Prompt) -> list[Turn]:
    """Return the turns before the answer.

    Raises:
        RecordError: A message's role is not system, user or assistant.
    """
    turns = list(asked_turns(prompt))
    if strange := next((turn.role for turn in turns if turn.role not in _ROLES), None):
        raise RecordError(f"a message of the role {strange!r:.40}, which training texts do not have")
    return turns


_ROLES = ("system", "user", "assistant")


def last_turn(chain: Chain, objective: Objective) -> list[Span]:
    """Return the assistant's last turn, a single answer or all steps; empty if there is no answer.

    Raises:
        RecordError: The only answer was cut.
    """
    if not chain.steps and not gold_text(chain):
        return []
    if objective == "answer":
        return best_answer(chain, objective)
    return whole_chain(chain, objective, plain=True)


def answered(turns: Sequence[Turn], last: Sequence[Span]) -> list[Turn]:
    """Return the turns up to the last answer; all of them if `last` follows.

    Raises:
        RecordError: There is no answer.
    """
    if last:
        return list(turns)
    ends = [i for i, turn in enumerate(turns) if turn.role == "assistant"]
    if not ends:
        raise RecordError("no answer")
    return list(turns[: ends[-1] + 1])


def _conversation(chain: Chain, objective: Objective, style: _Style) -> list[Span]:
    last = last_turn(chain, objective)
    turns = answered(known_turns(chain.prompt), last)
    spans = _before(turns, style, answered=bool(last), trained=objective in WHOLE)
    return spans + (led_by_space(last) if last else [])


def _asked(prompt: Prompt, style: _Style) -> list[Span]:
    return _before(known_turns(prompt), style, answered=True, trained=False)


def _before(turns: Sequence[Turn], style: _Style, *, answered: bool, trained: bool) -> list[Span]:
    """Return turns; `answered` if the assistant's follows, which is not among them."""
    system = "\n\n".join(turn.text for turn in turns if turn.role == "system")
    conversation = _in_turn([turn for turn in turns if turn.role != "system"], answered=answered)
    if system:
        spans = [asked(system), framed(style.after_system)]
    else:
        spans = [framed(style.system + style.after_system)] if style.system else []
    for number, turn in enumerate(conversation):
        if turn.role == "assistant":
            spans += led_by_space(answer_spans(turn.text, trained=trained))
        else:
            spans += [framed(style.again if number else style.user), asked(turn.text)]
            spans.append(framed(style.assistant))
    return spans


def _in_turn(turns: list[Turn], *, answered: bool) -> list[Turn]:
    """Return the turns from the first question on (FastChat's trainer drops a leading answer).

    Raises:
        RecordError: User and assistant do not alternate.
    """
    if turns and turns[0].role == "assistant":
        turns = turns[1:]
    wanted = ["assistant" if i % 2 else "user" for i in range(len(turns))]
    if not turns or [turn.role for turn in turns] != wanted or len(turns) % 2 != int(answered):
        raise RecordError("user and assistant do not take turns")
    return turns


vicuna = partial(_conversation, style=_VICUNA)  # render Vicuna's format, version 1.1
stable_vicuna = partial(_conversation, style=_STABLE_VICUNA)  # render StableVicuna's format
vicuna_prompt = partial(_asked, style=_VICUNA)  # render a prompt in Vicuna's format, up to the answer

stable_vicuna_prompt = partial(_asked, style=_STABLE_VICUNA)
"""Render a prompt in StableVicuna's format, up to the answer."""


@dataclass(frozen=True)
class ConversationTemplate:
    """A format of conversations.

    Attributes:
        name: As in `--chat-template`.
        spans: Renders a prompt, up to the answer.
        stops: Texts that end an answer, beside the model's stop token.
    """

    name: str
    spans: Callable[[Prompt], Sequence[Span]]
    stops: tuple[str, ...] = ()

    def text(self, prompt: Prompt, end: str) -> str:
        """Return the text of a prompt. `end` is the model's stop token, which ends earlier answers.

        Raises:
            RecordError: User and assistant do not take turns.
        """
        return "".join(end if span.stop else span.text for span in self.spans(prompt))


TEMPLATES: Mapping[str, ConversationTemplate] = {
    each.name: each
    for each in (
        ConversationTemplate("vicuna", vicuna_prompt),
        ConversationTemplate("stablevicuna", stable_vicuna_prompt, ("\n### Human:",)),
        ConversationTemplate(
            "selfee", lambda prompt: [framed(render_prompt(prompt))], ("\n\n### Feedback 1:",)
        ),
    )
}
