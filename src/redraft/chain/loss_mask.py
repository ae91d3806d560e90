"""Render a chain's answers and feedback as spans, and mark the spans that an objective trains on.

A chain is written as SelFee's text (`chain.selfee`), then the stop token. A section that was cut during
generation is left out, together with the stop token, because the model did not stop there. Each format adds a
prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redraft.chain import Chain, Feedback, Prompt, Step, calls_of, has_answer, other_parts, thoughts_of
from redraft.chain.read.conversations import answered_by
from redraft.chain.selfee import escape, feedback_heading, revision_heading
from redraft.chain.texts import Speaker, Turn, answer_message, asked_turns, gold_text, tools_of
from redraft.errors import RecordError
from redraft.jobs.formats import Objective

WHOLE: frozenset[Objective] = frozenset({"full", "answer", "accepted"})
"""The objectives that train on the assistant's earlier turns."""

_ROLES = ("system", "user", "assistant")
_RENAMED: Mapping[str, Speaker] = {"developer": "system", "function": "tool"}

_NONE = "no answer"
_CUT = "the answer was cut"
_REJECTED = "every answer was rejected"

MISSING_LOSS: dict[Objective, str] = {
    "full": _NONE,
    "answer": _NONE,
    "accepted": "every answer was rejected, and there is no feedback",
    "revision": "no feedback and no revision",
    "critic": "no feedback",
}


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a training text."""

    text: str
    trained: bool  # whether its tokens carry loss
    stop: bool = False  # whether it is the model's stop token; `text` is then empty
    given: bool = False  # whether the model reads it; otherwise the model writes it
    control: bool = False  # whether the format wrote it; control tokens in other spans stay text
    answer: bool = False  # whether it is an answer, not a feedback or heading


def framed(text: str) -> Span:
    """Return a span for text that the format adds."""
    return Span(text, trained=False, given=True, control=True)


def asked_span(text: str) -> Span:
    """Return a span for text from the user or the system."""
    return Span(text, trained=False, given=True)


def answer_spans(text: str, *, trained: bool) -> list[Span]:
    """Return the spans of an answer and of the stop token."""
    return [Span(text, trained, answer=True), Span("", trained, stop=True)]


def known_turns(prompt: Prompt, roles: Sequence[str] = (*_ROLES, "tool")) -> list[Turn]:
    """Return a prompt's turns. Raise a RecordError for a role not in `roles`, or for content besides text."""
    turns = [turn._replace(role=_RENAMED.get(turn.role, turn.role)) for turn in asked_turns(prompt)]
    for turn in turns:
        if turn.role not in roles:
            raise RecordError(f"a message has the role {turn.role!r:.40}, which this format does not know")
        if parts := other_parts(turn.message or {}):
            raise RecordError(f"training supports only text, not {parts[0]:.40}")
    return turns


def only_text(chain: Chain) -> Chain:
    """Return the chain, or raise a RecordError if the chain contains tools, tool calls or thoughts."""
    messages = [*(turn.message or {} for turn in known_turns(chain.prompt, _ROLES)), answer_message(chain)]
    for found, what in ((calls_of, "a tool call"), (thoughts_of, "thoughts")):
        if any(map(found, messages)):
            raise RecordError(f"a record contains {what}, so it needs another format: try --format chat")
    if tools_of(chain):
        raise RecordError("a record contains tools, so it needs another format: try --format chat")
    return chain


def ending_in_answer(chain: Chain) -> Chain:
    """If a chain has no answer, make the prompt's last assistant message the answer, and drop later turns."""
    if chain.steps or gold_text(chain):
        return chain
    turns = chain.prompt.messages or ()
    if not (ends := [i for i, message in enumerate(turns) if message.get("role") == "assistant"]):
        raise RecordError(_NONE)
    last = answered_by(turns[: ends[-1]], turns[ends[-1]])
    meta = chain.meta | last.meta
    return chain.model_copy(update={"prompt": last.prompt, "steps": last.steps, "best": 0, "meta": meta})


def is_learnt(message: Mapping[str, Any]) -> bool:
    """Return whether an assistant message is trained on: not if `weight` is 0 (OpenAI) or `train` is false.

    Raises:
        RecordError: The weight is neither 0 nor 1.
    """
    weight = message.get("weight", 1)
    if weight not in (0, 1, None):
        raise RecordError(f"a message has weight {weight!r:.40}; only 0 and 1 are allowed")
    return weight != 0 and message.get("train") is not False


def last_turn(chain: Chain, objective: Objective) -> list[Span]:
    """Return the spans of the last turn: all steps or, with the objective `answer`, only the best answer."""
    if objective == "answer":
        return best_answer(chain, objective)
    return whole_chain(chain, objective, plain=True)


def first_alone(chain: Chain) -> Chain:
    """Return the chain with only answer 0, without feedback. A preference pair is returned unchanged."""
    if not chain.steps or _is_pair(chain):
        return chain
    step = chain.steps[0]
    finish = "stop" if step.complete else step.finish  # a complete step's `finish` may describe its feedback
    alone = step.model_copy(update={"feedback": None, "finish": finish})
    return chain.model_copy(update={"steps": (alone,), "best": 0})


def best_answer(chain: Chain, objective: Objective) -> list[Span]:
    """Return the spans of the best answer or, if rejected, of the last accepted answer.

    If all were rejected, `full` trains on the best answer, and other objectives raise a RecordError.
    """
    steps = _steps(chain)
    best = steps[chain.best] if chain.best is not None and chain.best < len(steps) else steps[-1]
    for fault in (None, _REJECTED) if objective == "full" else (None,):
        if found := next((step for step in (best, *reversed(steps)) if _fault(step) == fault), None):
            return answer_spans(found.written, trained=True)
    raise RecordError(_fault(best) or _REJECTED)


def _fault(step: Step) -> str | None:
    if not has_answer([step]):
        return _NONE
    if step.echo:
        return "the answer is an echo, such as a copy of the feedback"
    if not step.complete:
        return _CUT
    return _REJECTED if rejected(step) else None


def whole_chain(chain: Chain, objective: Objective, *, plain: bool = False) -> list[Span]:
    """Return the spans of all steps, in SelFee's format. Sections that were cut off are left out."""
    steps = _steps(chain)
    learnt = [_trains(objective, k, step) for k, step in enumerate(steps)]
    last = steps[-1]
    ended = last.finish == "stop"
    if not ended and last.complete:
        steps = (*steps[:-1], last.model_copy(update={"feedback": None}))
    elif not ended and not (steps := steps[:-1]):
        raise RecordError(_CUT)
    if learnt[len(steps) - 1] and not has_answer(steps[-1:]):
        raise RecordError(_NONE)
    if plain and len(steps) == 1 and not _feedback(steps[0]):  # a lone answer needs no escapes
        spans = [Span(steps[0].written, learnt[0], answer=True)]
    else:
        spans = []
        for k, step in enumerate(steps):
            if k:
                # A critic learns to end a feedback: with this heading or, after the last one, the stop token.
                spans.append(Span(revision_heading(k), objective != "critic" or spans[-1].trained))
            spans.append(Span(escape(step.answer), learnt[k], answer=True))
            if feedback := _feedback(step):
                spans.append(Span(feedback_heading(k + 1), objective != "critic"))
                spans.append(Span(escape(feedback.text), trained=True))
    return [*spans, Span("", spans[-1].trained, stop=True)] if ended else spans


def _trains(objective: Objective, k: int, step: Step) -> bool:
    if step.echo or not step.complete:
        return False
    if objective == "accepted":
        return not rejected(step)
    return objective == "full" or (objective == "revision" and k > 0)


def led_by_space(spans: Sequence[Span]) -> list[Span]:
    """Return the spans with a leading space, for formats whose prompts end in a colon."""
    return [replace(spans[0], text=f" {spans[0].text}"), *spans[1:]]


def rejected(step: Step) -> bool:
    """Return whether an answer failed the checks, or the feedback asks for a revision."""
    return step.passed is False or bool(step.feedback and step.feedback.verdict == "revise")


def _feedback(step: Step) -> Feedback | None:
    feedback = step.feedback
    return None if feedback and not feedback.text and feedback.verdict == "accept" else feedback


def _steps(chain: Chain) -> tuple[Step, ...]:
    if has_answer(chain.steps):
        return (chain.steps[chain.best],) if _is_pair(chain) and chain.best is not None else chain.steps
    if gold := gold_text(chain):
        return (Step(answer=gold),)
    raise RecordError(_NONE)


def _is_pair(chain: Chain) -> bool:
    return chain.meta.get("preference") is True
