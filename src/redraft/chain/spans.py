"""Render a chain as a training text, in spans that mark which parts carry loss.

A format decides how prompt and answer are written. An objective decides which spans carry loss (`loss_mask`).
In formats of one instruction and one reply, several messages become one instruction
(`chain.selfee.instruction_of`). The strings of SelFee and Alpaca must not change: SelFee's reply begins on a
new line, Alpaca's reply right after the colon.

In plain-text conversations, each assistant turn carries loss, including the stop token. The last turn has all
steps, in SelFee's format (with the objective `answer`: only the best answer). Vicuna 1.1 is `{system} USER:
{…} ASSISTANT: {…}</s>USER: …` (FastChat, `vicuna_v1.1`). StableVicuna is `### Human: {…}`, a line break, `###
Assistant: {…}` (model card). The model card shows only one turn, without a system message. So redraft chose
the stop token and line break after a turn, and the empty line after a system message.
"""

# ruff: noqa: A002  (`format` is an option)
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from redraft.chain import Chain, Prompt, loss_mask, meta_of
from redraft.chain.chat import ChatTemplate, chat_spans
from redraft.chain.loss_mask import WHOLE, Span, asked_span, best_answer, framed, is_learnt, known_turns
from redraft.chain.read.conversations import asks
from redraft.chain.selfee import escape, instruction_of, render_prompt
from redraft.chain.texts import Turn, answer_message
from redraft.errors import RecordError, UsageError
from redraft.jobs.formats import Objective, TrainingFormat

_GAP = "\0"
_ALONE = render_prompt(Prompt(instruction=_GAP)).split(_GAP)
_WITH_INPUT = render_prompt(Prompt(instruction=_GAP, input=_GAP)).split(_GAP)
"""The texts around the instruction and the input of a prompt."""

_RESPONSE = "\n\n### Response:"


def _selfee(chain: Chain, objective: Objective) -> list[Span]:
    if objective == "answer":
        written = [replace(span, text=escape(span.text)) for span in best_answer(chain, objective)]
    else:
        written = loss_mask.whole_chain(chain, objective)
    return _prompt(chain.prompt, _ALONE[-1]) + written


def _prompt(prompt: Prompt, last: str) -> list[Span]:
    instruction = asked_span(instruction_of(prompt))
    if prompt.input and not prompt.messages:
        before, between, _ = _WITH_INPUT
        return [framed(before), instruction, framed(between), asked_span(prompt.input), framed(last)]
    return [framed(_ALONE[0]), instruction, framed(last)]


@dataclass(frozen=True)
class _Style:
    system: str  # start of a conversation without a system message
    after_system: str  # after the system message or its default
    user: str
    again: str  # before the user's later turns
    assistant: str  # before the assistant's turn and its leading space


_VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
_VICUNA = _Style(_VICUNA_SYSTEM, " ", "USER: ", "USER: ", " ASSISTANT:")
_STABLE_VICUNA = _Style("", "\n\n", "### Human: ", "\n### Human: ", "\n### Assistant:")


def _conversation(chain: Chain, objective: Objective, style: _Style) -> list[Span]:
    spans = _before(known_turns(chain.prompt), style, trained=objective in WHOLE)
    return spans + loss_mask.led_by_space(loss_mask.last_turn(chain, objective))


def _before(turns: Sequence[Turn], style: _Style, *, trained: bool) -> list[Span]:
    system = "\n\n".join(turn.text for turn in turns if turn.role == "system")
    spoken = [turn for turn in turns if turn.role != "system"]
    if spoken and spoken[0].role == "assistant":  # dropped by FastChat's trainer too
        spoken = spoken[1:]
    wanted = ["assistant" if i % 2 else "user" for i in range(len(spoken))]
    if not spoken or [turn.role for turn in spoken] != wanted or len(spoken) % 2 != 1:
        raise RecordError("user and assistant do not take turns")
    if system:
        spans = [asked_span(system), framed(style.after_system)]
    else:
        spans = [framed(style.system + style.after_system)] if style.system else []
    for number, turn in enumerate(spoken):
        if turn.role == "assistant":
            spans += loss_mask.led_by_space(
                loss_mask.answer_spans(turn.text, trained=trained and is_learnt(turn.message or {}))
            )
        else:
            spans += [framed(style.again if number else style.user), asked_span(turn.text)]
            spans.append(framed(style.assistant))
    return spans


@dataclass(frozen=True)
class ConversationTemplate:
    """A conversation format, which `--chat-template` selects by name."""

    name: str
    style: _Style | None  # the texts around turns; None for SelFee's format
    stops: tuple[str, ...] = ()  # texts that end an answer, besides the model's stop token

    def text(self, prompt: Prompt, end: str) -> str:
        """Return the text of a prompt, with the stop token `end` after each earlier answer.

        Raises:
            RecordError: User and assistant do not take turns.
        """
        if self.style is None:
            return render_prompt(prompt)
        spans = _before(known_turns(prompt), self.style, trained=False)
        return "".join(end if span.stop else span.text for span in spans)


TEMPLATES: Mapping[str, ConversationTemplate] = {
    "vicuna": ConversationTemplate("vicuna", _VICUNA),
    "stablevicuna": ConversationTemplate("stablevicuna", _STABLE_VICUNA, ("\n### Human:",)),
    "selfee": ConversationTemplate("selfee", None, ("\n\n### Feedback 1:",)),
}

_MAKERS: dict[TrainingFormat, Callable[[Chain, Objective], list[Span]]] = {
    "selfee": _selfee,
    "alpaca": lambda chain, objective: _prompt(chain.prompt, _RESPONSE) + best_answer(chain, objective),
    "vicuna": partial(_conversation, style=_VICUNA),
    "stablevicuna": partial(_conversation, style=_STABLE_VICUNA),
}

_ONE_TURN: frozenset[TrainingFormat] = frozenset({"alpaca", "selfee"})
"""Formats whose prompt contains all turns before the last answer."""


def check_parts(format: TrainingFormat, objective: Objective) -> None:
    """Raise a UsageError if the objective trains on feedback, but the format leaves feedback out."""
    if format == "alpaca" and objective in ("revision", "critic"):
        found = f"--training_objective {objective} trains on feedback, which --format {format} does not have."
        raise UsageError(found, hint="Use --format selfee, chat or vicuna, or --training_objective answer.")


def leaves_answers(chain: Chain, format: TrainingFormat, objective: Objective, spans: Sequence[Span]) -> bool:
    """Return whether the format or the chat template excludes earlier answers from the loss."""
    answered = any(message.get("role") == "assistant" for message in chain.prompt.messages or ())
    left = format in _ONE_TURN or any(span.given and span.answer for span in spans)
    return objective in WHOLE and answered and left


def spans_of(
    chain: Chain, format: TrainingFormat, objective: Objective, template: ChatTemplate | None = None
) -> list[Span]:
    """Return a chain's training text as spans.

    The format `chat` needs the model's `template`. A chain with nothing to train on raises a RecordError.
    """
    check_parts(format, objective)
    if not asks(chain.prompt):
        raise RecordError("no question")
    chain = loss_mask.ending_in_answer(chain)
    source = meta_of(chain, "source")
    if shown := next((name for name in ("images", "videos", "audios", "image") if source.get(name)), None):
        raise RecordError(f"training supports only text, not {shown}")
    earlier = [message for message in chain.prompt.messages or () if message.get("role") == "assistant"]
    learnt = [is_learnt(message) for message in (*earlier, answer_message(chain))]
    if format == "chat":
        if template is None:
            hint = "Choose another --format: vicuna and selfee need no chat template."
            raise UsageError("the model has no chat template.", hint=hint)
        spans = chat_spans(chain, objective, template)
    else:
        spans = _MAKERS[format](loss_mask.only_text(chain), objective)
        if not learnt[-1]:
            end = max((k for k, span in enumerate(spans) if span.given), default=0)
            spans = [replace(span, trained=span.trained and k < end) for k, span in enumerate(spans)]
    if not any(span.trained for span in spans):
        muted = "" if all(learnt) else "no answer to train on: weight is 0, or train is false"
        raise RecordError(muted or loss_mask.MISSING_LOSS[objective])
    return spans
