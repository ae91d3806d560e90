"""What the loop says: operations that it wants done, and events for who watches.

The loop is a generator. It yields these values and is sent a `Reply`:

| yielded | sent back |
|---|---|
| `Continue`, `Ask` | the first `Delta` of a new stream; a stream that was open is closed |
| `More` | the next `Delta` of the open stream; the last one has `finish` |
| `RunChecks` | what the checks found, and what asking a judge cost |
| `Encode` | token ids |
| an event | None |

Anything else than `More` while a stream is open closes it, and closing cancels the work in the engine.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from redraft.chain import Chain, CheckResult, Step, Usage
from redraft.engines.base import Delta, Message, PromptText, Tokens

Kind = Literal["answer", "feedback"]


@dataclass(frozen=True)
class Continue:
    """Continue a raw text with the writer's model."""

    prompt: PromptText
    max_tokens: int
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ask:
    """Ask the writer, or the critic, to answer messages."""

    messages: tuple[Message, ...]
    max_tokens: int
    who: Literal["writer", "critic"] = "writer"


@dataclass(frozen=True)
class More:
    """The next piece of the open stream."""


@dataclass(frozen=True)
class RunChecks:
    """Judge an answer by the user's checks."""

    answer: str


@dataclass(frozen=True)
class Checked:
    """What each check found, in order, and what the calls of a judge cost.

    Attributes:
        given_up: The time was over, or somebody cancelled, before the checks were done.
    """

    results: tuple[CheckResult, ...] = ()
    given_up: bool = False
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class Encode:
    """Token ids of a text; `special` for the start of a prompt."""

    text: str
    special: bool = False


@dataclass(frozen=True)
class Text:
    """Event: a piece of an answer or of feedback. Feedback `index` judges answer `index`."""

    kind: Kind
    index: int
    text: str


@dataclass(frozen=True)
class StepDone:
    """Event: a step is complete: an answer, and the feedback that it got, if any."""

    index: int
    step: Step


@dataclass(frozen=True)
class Progress:
    """Event: another part of the chain is complete. Comes before each call that builds on it.

    Attributes:
        chain: The complete steps so far, the last perhaps without feedback; `stop` is None. The option
            `resume` goes on from it.
    """

    chain: Chain


@dataclass(frozen=True)
class Finished:
    """Event: the chain is complete. Always the last one."""

    chain: Chain


Event = Text | StepDone | Progress | Finished
Op = Continue | Ask | More | RunChecks | Encode
Reply = Delta | Checked | Tokens | None
T = TypeVar("T")
Loop = Generator[Op | Event, Reply, T]
"""A part of the loop that comes to a T."""


def receive(op: Continue | Ask | More) -> Loop[Delta]:
    """Yields an operation on a stream and is sent a delta."""
    reply = yield op
    if not isinstance(reply, Delta):
        raise TypeError(f"{type(op).__name__} must be sent a Delta, not {type(reply).__name__}")
    return reply


def encode(text: str, *, special: bool = False) -> Loop[Tokens]:
    """Yields `Encode` and is sent token ids."""
    reply = yield Encode(text, special)
    if not isinstance(reply, tuple):
        raise TypeError(f"Encode must be sent token ids, not {type(reply).__name__}")
    return reply


def run_checks(answer: str) -> Loop[Checked]:
    """Yields `RunChecks` and is sent what the checks found."""
    reply = yield RunChecks(answer)
    if not isinstance(reply, Checked):
        raise TypeError(f"RunChecks must be sent Checked, not {type(reply).__name__}")
    return reply
