"""Render a chain as a training text, in spans that say where the loss is.

A format decides how prompt and answer are written; an objective decides which spans carry loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from redraft.chain import Chain
from redraft.errors import RecordError, UsageError
from redraft.formats import Objective, TrainingFormat
from redraft.formats.read.conversations import asks
from redraft.formats.render import conversations, instructions
from redraft.formats.render.chat import ChatTemplate, chat
from redraft.formats.render.targets import WHOLE, Span, checked

_MAKERS: dict[TrainingFormat, Callable[[Chain, Objective], list[Span]]] = {
    "selfee": instructions.selfee,
    "alpaca": instructions.alpaca,
    "self-instruct": instructions.self_instruct,
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
