"""Render a chain's answers and feedbacks as spans, and mark those that an objective trains on.

A chain is written as SelFee's text (`formats.selfee`), then the stop token. A section that was cut during
generation is left out together with the stop token, because the text does not end there. Each format adds its
own prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from redraft.chain import Chain, Feedback, Step, is_blank
from redraft.errors import RecordError
from redraft.formats import Objective
from redraft.formats.selfee import escape, feedback_heading, revision_heading
from redraft.formats.texts import gold_text

WHOLE: frozenset[Objective] = frozenset({"full", "answer", "accepted"})
"""The objectives that train on the assistant's earlier turns."""

_NONE = "no answer"
_CUT = "its answer was cut"
_REJECTED = "every answer was rejected"

_MISSING: dict[Objective, str] = {
    "full": _NONE,
    "answer": _NONE,
    "accepted": "every answer was rejected, and there is no feedback",
    "revision": "no feedback and no revision",
    "critic": "no feedback",
}


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a training text.

    Attributes:
        trained: Its tokens carry loss.
        stop: It is the model's stop token; `text` is empty.
        given: The model reads it; otherwise the model writes it.
        control: It is text of the format, so it may spell control tokens. Elsewhere they stay text.
        answer: It is an answer, not a feedback or heading.
    """

    text: str
    trained: bool
    stop: bool = False
    given: bool = False
    control: bool = False
    answer: bool = False


def framed(text: str) -> Span:
    """Return text of the format."""
    return Span(text, trained=False, given=True, control=True)


def asked(text: str) -> Span:
    """Return text of a user or system."""
    return Span(text, trained=False, given=True)


def answer_spans(text: str, *, trained: bool) -> list[Span]:
    """Return an answer with the stop token."""
    return [Span(text, trained, answer=True), Span("", trained, stop=True)]


def checked(spans: list[Span], objective: Objective) -> list[Span]:
    """Return the spans.

    Raises:
        RecordError: None of them is trained.
    """
    if not any(span.trained for span in spans):
        raise RecordError(_MISSING[objective])
    return spans


def first_alone(chain: Chain) -> Chain:
    """Return the chain as answer 0 without its feedback: what SelFee's answer-only trainer read.

    A pair for preference training, and a task with a gold answer alone, stay as they are.
    """
    if not chain.steps or _is_pair(chain):
        return chain
    step = chain.steps[0]
    finish = "stop" if step.complete else step.finish  # otherwise the feedback was cut
    alone = step.model_copy(update={"feedback": None, "finish": finish})
    return chain.model_copy(update={"steps": (alone,), "best": 0})


def best_answer(chain: Chain, objective: Objective) -> list[Span]:
    """Return the answer to train on: the best one, else the last accepted one, else the gold one.

    `full` trains on the best answer even if all were rejected.

    Raises:
        RecordError: Every answer is empty, cut, an echo of the feedback, or rejected.
    """
    return answer_spans(_single(_steps(chain), chain.best, objective).answer, trained=True)


def learns_later(chain: Chain, objective: Objective) -> bool:
    """Whether the objective is a single answer other than answer 0.

    Raises:
        RecordError: There is none.
    """
    steps = _steps(chain)
    return objective == "answer" and _single(steps, chain.best, objective) is not steps[0]


def _single(steps: Sequence[Step], number: int | None, objective: Objective) -> Step:
    best = steps[number] if number is not None and number < len(steps) else steps[-1]
    ordered = (best, *reversed(steps))
    allowed = (None, _REJECTED) if objective == "full" else (None,)
    for fault in allowed:
        if found := next((step for step in ordered if _fault(step) == fault), None):
            return found
    raise RecordError(_fault(best) or _REJECTED)


def _fault(step: Step) -> str | None:
    """Return why an answer must not be trained on, or None."""
    if is_blank(step.answer):
        return _NONE
    if step.echo:
        return "its answer only repeats the feedback"
    if not step.complete:
        return _CUT
    return _REJECTED if _rejected(step) else None


def whole_chain(chain: Chain, objective: Objective, *, plain: bool = False) -> list[Span]:
    """Return every step as SelFee's text. With `plain`, a lone answer stays unchanged.

    Raises:
        RecordError: There is no answer, or no complete one.
    """
    steps, ended = _complete(chain)
    learnt = [_trains(objective, k, step) for k, step in enumerate(_steps(chain))]
    if plain and len(steps) == 1 and not _feedback(steps[0]):
        return _ended([Span(steps[0].answer, learnt[0], answer=True)], ended=ended)
    spans: list[Span] = []
    for k, step in enumerate(steps):
        if k:
            # For a critic, it ends a feedback as the stop token ends the last one.
            spans.append(Span(revision_heading(k), objective != "critic" or spans[-1].trained))
        spans.append(Span(escape(step.answer), learnt[k], answer=True))
        if feedback := _feedback(step):
            spans.append(Span(feedback_heading(k + 1), objective != "critic"))
            spans.append(Span(escape(feedback.text), trained=True))
    return _ended(spans, ended=ended)


def led_by_space(spans: Sequence[Span]) -> list[Span]:
    """Return the spans with a leading space, for formats that continue after a colon."""
    return [replace(spans[0], text=f" {spans[0].text}"), *spans[1:]]


def _ended(spans: list[Span], *, ended: bool) -> list[Span]:
    return [*spans, Span("", spans[-1].trained, stop=True)] if ended else spans


def _trains(objective: Objective, k: int, step: Step) -> bool:
    """Whether answer `k` carries loss. Echoes and cut answers never do."""
    if step.echo or not step.complete:
        return False
    if objective == "accepted":
        return not _rejected(step)
    return objective == "full" or (objective == "revision" and k > 0)


def _rejected(step: Step) -> bool:
    return step.passed is False or bool(step.feedback and step.feedback.verdict == "revise")


def _feedback(step: Step) -> Feedback | None:
    """Return the feedback to write. Checks accept without text, which is not written."""
    feedback = step.feedback
    return None if feedback and not feedback.text and feedback.verdict == "accept" else feedback


def _complete(chain: Chain) -> tuple[tuple[Step, ...], bool]:
    """Return the steps without cut sections, and whether the text ends with them."""
    steps = _steps(chain)
    last = steps[-1]
    if last.finish == "stop":
        return steps, True
    if last.complete:
        return (*steps[:-1], last.model_copy(update={"feedback": None})), False
    if len(steps) == 1:
        raise RecordError(_CUT)
    return steps[:-1], False


def _steps(chain: Chain) -> tuple[Step, ...]:
    """Return the steps; for a preference pair, the chosen one; without answers, the gold one.

    `data export` writes and `data split` counts the same text.

    Raises:
        RecordError: There is none.
    """
    if not all(is_blank(step.answer) for step in chain.steps):
        return (chain.steps[chain.best],) if _is_pair(chain) and chain.best is not None else chain.steps
    if gold := gold_text(chain):
        return (Step(answer=gold),)
    raise RecordError(_NONE)


def _is_pair(chain: Chain) -> bool:
    return chain.meta.get("preference") is True
