"""What the loop yields: operations to perform, and events to watch.

The loop is a generator. It yields these values and is sent a `Reply`:

| yielded | sent back |
|---|---|
| `Continue`, `Ask` | the first `Delta` of a new stream; a stream that was open is closed |
| `More` | the next `Delta` of the open stream; the last one has `finish` |
| `RunChecks` | the checks' results, and the usage of a judge |
| `Encode` | token ids |
| an event | None |

Any operation but `More` closes an open stream, and closing cancels the work in the engine.
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
    """Ask the writer or the critic to answer messages."""

    messages: tuple[Message, ...]
    max_tokens: int
    who: Literal["writer", "critic"] = "writer"


@dataclass(frozen=True)
class More:
    """Get the next piece of the open stream."""


@dataclass(frozen=True)
class RunChecks:
    """Run the user's checks on an answer."""

    answer: str


@dataclass(frozen=True)
class Checked:
    """The checks' results, in order, and the usage of the judge's calls.

    Attributes:
        given_up: The chain ran out of time or was cancelled before the checks were done.
    """

    results: tuple[CheckResult, ...] = ()
    given_up: bool = False
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class Encode:
    """Encode a text as token ids; `special` for the start of a prompt."""

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
    """Event: a step is complete: an answer with its feedback, if it gets any."""

    index: int
    step: Step


@dataclass(frozen=True)
class Progress:
    """Event: another answer or feedback is complete. Comes before the next call.

    Attributes:
        chain: The complete steps so far, for the option `resume`. The last may lack feedback; `stop` is None.
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
"""A part of the loop that returns a T."""


def receive(op: Continue | Ask | More) -> Loop[Delta]:
    """Yield an operation on a stream and return its delta."""
    return (yield from _reply(op, Delta))


def encode(text: str, *, special: bool = False) -> Loop[Tokens]:
    """Yield `Encode` and return the token ids."""
    return (yield from _reply(Encode(text, special), tuple))


def run_checks(answer: str) -> Loop[Checked]:
    """Yield `RunChecks` and return the results."""
    return (yield from _reply(RunChecks(answer), Checked))


def _reply(op: Op, kind: type[T]) -> Loop[T]:
    reply = yield op
    if not isinstance(reply, kind):
        raise TypeError(f"{type(op).__name__} must be sent a {kind.__name__}, not {type(reply).__name__}")
    return reply
