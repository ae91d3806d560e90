"""Render a chain as a training text, in spans that say where the loss is.

A format decides how prompt and answer are written; an objective decides which spans carry loss
(`render.loss_mask`). The formats of one instruction and one reply are here: several messages become one
instruction (`formats.selfee.instruction_of`). The strings of SelFee and Alpaca are wire format: SelFee's
reply begins on a new line, Alpaca's right after the colon.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import get_args

from redraft.chain import Chain, Prompt
from redraft.errors import RecordError, UsageError
from redraft.formats import Objective, TrainingFormat
from redraft.formats.read.conversations import asks
from redraft.formats.render import conversations
from redraft.formats.render.chat import ChatTemplate, chat
from redraft.formats.render.loss_mask import (
    WHOLE,
    Span,
    asked,
    best_answer,
    checked,
    framed,
    led_by_space,
    whole_chain,
)
from redraft.formats.selfee import escape, instruction_of, render_prompt

_GAP = "\0"
_ALONE = render_prompt(Prompt(instruction=_GAP)).split(_GAP)
_WITH_INPUT = render_prompt(Prompt(instruction=_GAP, input=_GAP)).split(_GAP)
"""The texts around a prompt's instruction and input."""

_RESPONSE = "\n\n### Response:"


def _selfee(chain: Chain, objective: Objective) -> list[Span]:
    """Render SelFee's format. Answers are escaped even without feedback, because the text is parsed again."""
    if objective == "answer":
        written = [replace(span, text=escape(span.text)) for span in best_answer(chain, objective)]
    else:
        written = whole_chain(chain, objective)
    return _prompt(chain.prompt, _ALONE[-1]) + written


def _self_instruct(chain: Chain, objective: Objective) -> list[Span]:
    """Render one of Self-Instruct's templates, chosen by a hash of the prompt.

    They vary in `Task:`, `Input:`, `Output:` and one or two line breaks. Without `Output:`, an empty line
    comes before the answer. White space around texts is dropped.
    """
    prompt = chain.prompt
    instruction, extra = instruction_of(prompt).strip(), "" if prompt.messages else prompt.input.strip()
    bits = hashlib.blake2b(f"{instruction}\0{extra}".encode(errors="replace"), digest_size=1).digest()[0]
    task, label, output = bits & 1, bits & 2, bits & 4
    gap = "\n\n" if bits & 8 else "\n"
    spans = [framed("Task: ")] if task else []
    spans.append(asked(instruction))
    if extra:
        spans += [framed(f"{gap}Input: " if label else gap), asked(extra)]
    spans.append(framed(f"{gap}Output:" if output else "\n\n"))
    answer = [replace(span, text=span.text.strip()) for span in best_answer(chain, objective)]
    return spans + (led_by_space(answer) if output else answer)


def _prompt(prompt: Prompt, last: str) -> list[Span]:
    """Render the prompt with Alpaca's preamble, up to its last heading."""
    instruction = asked(instruction_of(prompt))
    if prompt.input and not prompt.messages:
        before, between, _ = _WITH_INPUT
        return [framed(before), instruction, framed(between), asked(prompt.input), framed(last)]
    return [framed(_ALONE[0]), instruction, framed(last)]


_MAKERS: dict[TrainingFormat, Callable[[Chain, Objective], list[Span]]] = {
    "selfee": _selfee,
    "alpaca": lambda chain, objective: _prompt(chain.prompt, _RESPONSE) + best_answer(chain, objective),
    "self-instruct": _self_instruct,
    "vicuna": conversations.vicuna,
    "stablevicuna": conversations.stable_vicuna,
}

_SINGLE: frozenset[TrainingFormat] = frozenset({"alpaca", "self-instruct"})
"""Formats that hold one answer and no feedback."""

_ONE_TURN: frozenset[TrainingFormat] = _SINGLE | {"selfee"}
"""Formats in which all turns before the last answer are the prompt."""


def check(format: TrainingFormat, objective: Objective) -> None:  # noqa: A002  (the option's name)
    """Check that a format has the parts that an objective trains on.

    Raises:
        UsageError: It does not, or a name is unknown.
    """
    for name, value, known in (
        ("format", format, TrainingFormat),
        ("training_objective", objective, Objective),
    ):
        if value not in get_args(known):
            raise UsageError(f"--{name} {value} is not known.", hint=f"One of: {', '.join(get_args(known))}")
    if format in _SINGLE and objective in ("revision", "critic"):
        raise UsageError(
            f"--training_objective {objective} trains on feedback, which --format {format} does not have.",
            hint="Use --format selfee, chat or vicuna, or --training_objective answer.",
        )


def leaves_answers(chain: Chain, format: TrainingFormat, objective: Objective) -> bool:  # noqa: A002  (as above)
    """Whether earlier answers carry no loss only because the format has one turn."""
    answered = any(message.get("role") == "assistant" for message in chain.prompt.messages or ())
    return answered and format in _ONE_TURN and objective in WHOLE


def spans_of(
    chain: Chain,
    format: TrainingFormat,  # noqa: A002  (the option's name)
    objective: Objective,
    template: ChatTemplate | None = None,
) -> list[Span]:
    """Render a chain. The joined texts are what the model reads and writes.

    The format `chat` needs the model's `template`.

    Raises:
        UsageError: The format lacks what the objective trains on, or the template cannot be used.
        RecordError: The chain has nothing to train on; the message says why.
    """
    check(format, objective)
    if not asks(chain.prompt):
        raise RecordError("no question")
    if format != "chat":
        return checked(_MAKERS[format](chain, objective), objective)
    if template is None:
        raise UsageError(
            "the model has no chat template.",
            hint="Choose another --format: vicuna and selfee need none.",
        )
    return checked(chat(chain, objective, template), objective)
