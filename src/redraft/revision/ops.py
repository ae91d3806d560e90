"""Define the operations and events that the loop yields, and how the loop asks a model.

The loop is a generator. The driver answers each yielded value:

| yielded | sent back |
|---|---|
| `Continue`, `Ask` | the first `Delta` of a new stream; a stream that was open is closed |
| `More` | the next `Delta` of the open stream; the last delta has `finish` |
| `RunChecks` | the checks' results, and the usage of a judge |
| `Encode` | token ids |
| an event | None |

Any operation except `More` closes an open stream, and closing cancels the work in the engine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from redraft.chain import Chain, CheckResult, Finish, Place, Step, Usage
from redraft.chain.thoughts import apart
from redraft.engines.base import Delta, EngineRole, Message, PromptText, Tokens
from redraft.engines.steering.form import Form
from redraft.errors import ContextError, EngineError, RedraftError
from redraft.revision.state import State

Kind = Literal["answer", "feedback"]
MARK = re.compile(r"^[ \t*]*\[(\d{1,3})\][*:]*[ \t]*", re.M)  # the number before a part of a patch
_BEGUN = re.compile(r"^[ \t*]*(?:\[\d{0,3}(?:\][*:]*[ \t]*)?)?\Z", re.M)  # a number that is not complete


@dataclass(frozen=True)
class Continue:
    """Continue a raw text with the writer's model."""

    prompt: PromptText
    max_tokens: int
    stop: tuple[str, ...] = ()
    role: EngineRole = ""


@dataclass(frozen=True)
class Ask:
    """Ask the writer or the critic to answer messages."""

    messages: tuple[Message, ...]
    max_tokens: int | None  # the most new tokens; None leaves the limit to the server
    who: Literal["writer", "critic"] = "writer"
    schema: Mapping[str, Any] | None = None
    form: Form | None = None
    stop: tuple[str, ...] = ()
    watched: bool = False  # whether checks may end the text when no continuation can pass
    tools: tuple[Mapping[str, Any], ...] = ()
    must_call: bool = False
    begun: str | None = None  # the beginning of the answer; the text after it is shown as a patch
    place: Place | None = None  # the place in the last answer that the text replaces
    role: EngineRole = ""  # with "answer", the adapter gets the exercise, not the messages


@dataclass(frozen=True)
class More:
    """Get the next piece of the open stream."""


@dataclass(frozen=True)
class RunChecks:
    """Run the user's checks on an answer, or on tool calls in place of an answer."""

    answer: str
    calls: tuple[Mapping[str, Any], ...] = ()
    reasoning: str = ""
    wishes: str = ""  # the changes that a person asked for


@dataclass(frozen=True)
class Checked:
    """The checks' results, in order, and the usage of the judge's calls."""

    results: tuple[CheckResult, ...] = ()
    given_up: bool = False  # the chain ran out of time or was cancelled before the checks were done
    usage: Usage = field(default_factory=Usage)
    # The error of a check or judge that failed. `usage` counts the calls until then.
    error: RedraftError | None = None


@dataclass(frozen=True)
class Encode:
    """Encode a text as token ids. With `special`, prepend the beginning-of-text token, as for a prompt."""

    text: str
    special: bool = False


@dataclass(frozen=True)
class Text:
    """Event: a piece of an answer, of feedback, or of a patch.

    `index` is the step's number. A patch is new text for `place` in the previous answer, or for several
    places if `place` is None. A patch begins with an empty piece, and is followed by the whole answer.
    """

    kind: Kind | Literal["patch"]
    index: int
    text: str
    read: Callable[[], Any] | None = field(default=None, repr=False, compare=False)
    place: Place | None = None

    @property
    def value(self) -> Any:
        """If `output=` was given, the JSON value of the answer so far, or None before the JSON begins."""
        return self.read() if self.read else None


@dataclass(frozen=True)
class Thought:
    """Event: a piece of the model's thoughts before a text."""

    kind: Kind
    index: int
    text: str


@dataclass(frozen=True)
class StepDone:
    """Event: a step is complete, including any feedback."""

    index: int
    step: Step


@dataclass(frozen=True)
class DraftDone:
    """Event: one of several drafts is complete and checked. The best draft becomes step 0."""

    index: int
    step: Step


@dataclass(frozen=True)
class Progress:
    """Event: another answer or feedback is complete.

    Attributes:
        chain: The chain so far, for the option `resume`. The last answer may lack feedback.
    """

    chain: Chain


@dataclass(frozen=True)
class Interrupted:
    """Event: a reply broke off, and the chain resumes after its last complete step.

    Discard the text after the last complete step. The model writes it again.

    Attributes:
        chain: The chain so far, with the incomplete text.
        error: The error that ended the reply.
    """

    chain: Chain
    error: EngineError


@dataclass(frozen=True)
class Finished:
    """Event: the chain is complete. `Finished` is always the last event."""

    chain: Chain


Event = Text | Thought | DraftDone | StepDone | Progress | Interrupted | Finished
Op = Continue | Ask | More | RunChecks | Encode
Reply = Delta | Checked | Tokens | None
T = TypeVar("T")
Loop = Generator[Op | Event, Reply, T]  # a part of the loop that returns a T


def run_checks(op: RunChecks, pay: Callable[[Usage], None]) -> Loop[Checked]:
    """Run checks, and call `pay` with the judge's usage. Return the results or raise the error of a check."""
    checked = yield from reply_to(op, Checked)
    pay(checked.usage)
    if checked.error is not None:
        raise checked.error
    return checked


def reply_to(op: Op, kind: type[T]) -> Loop[T]:
    """Yield an operation, and return its reply: a delta, token ids, or the results of checks."""
    reply = yield op
    if not isinstance(reply, kind):
        raise TypeError(f"{type(op).__name__} must be sent a {kind.__name__}, not {type(reply).__name__}")
    return reply


class CallMeter:
    """Counts the tokens and seconds that one call spends on each step."""

    def __init__(self, clock: Callable[[], float], index: int) -> None:
        self._clock = clock
        self._last = clock()
        self._tokens = {index: 0}
        self._seconds = {index: 0.0}

    def count(self, delta: Delta, index: int) -> None:
        """Count a delta for a step. A delta with a text or thought but no token ids counts as one token."""
        now = self._clock()
        took = now - self._last if delta.seconds is None else delta.seconds
        self._seconds[index] = self._seconds.get(index, 0.0) + took
        new = len(delta.tokens) or bool(delta.text or delta.thought)
        self._tokens[index] = self._tokens.get(index, 0) + new
        self._last = now

    def usages(self, last: Delta) -> dict[int, Usage]:
        """Return each step's usage. The last delta's token count, if any, replaces the counted tokens.

        The prompt counts for the step in which the call began.
        """
        first, *_ = self._tokens
        *_, final = self._tokens
        if last.completion_tokens is not None:
            self._tokens[final] += last.completion_tokens - sum(self._tokens.values())
        used = {
            index: Usage(completion_tokens=max(tokens, 0), seconds=round(self._seconds[index], 4))
            for index, tokens in self._tokens.items()
        }
        used[first] += Usage(
            prompt_tokens=last.prompt_tokens or 0,
            cached_tokens=last.cached_tokens or 0,
            estimated=last.estimated,
        )
        return used


@dataclass(frozen=True)
class Generated:
    """A generated text with its finish reason, usage, tool calls, and further fields of its last `Delta`."""

    text: str
    finish: Finish
    usage: Usage
    aside: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()
    unsteered: bool = False
    reasoning: str = ""
    others: tuple[str, ...] = ()


def ask_model(state: State, ask: Ask, kind: Kind, index: int) -> Loop[Generated]:
    """Ask a model, yield the text as events, record the usage, and return the text.

    If the stream of an answer fails, the text so far becomes a step, and the error is raised. A full context
    is an error only if there is no answer yet.
    """
    yield from announce_progress(state)
    meter, delta = CallMeter(state.clock, index), Delta()
    pieces: list[str] = []
    thoughts: list[str] = []
    unsteered, shown = False, ""
    if ask.begun is not None:
        yield Text("patch", index, "", place=ask.place)
    try:
        delta = yield from reply_to(ask, Delta)
        while True:
            meter.count(delta, index)
            unsteered = unsteered or delta.unsteered
            if delta.thought:
                thoughts.append(delta.thought)
                yield Thought(kind, index, delta.thought)
            pieces += [delta.text] * bool(delta.text)
            new, shown = _new_of(ask, delta, pieces, shown)
            if new:
                yield Text(kind if ask.begun is None else "patch", index, new, place=ask.place)
            if delta.finish:
                break
            delta = yield from reply_to(More(), Delta)
    except ContextError:
        if not (state.steps or state.drafts):
            raise
        delta = Delta(finish="context")
    except Exception:
        usage = state.pay(meter.usages(delta)[index], ask.who)
        if kind == "answer" and pieces and ask.begun is None:
            state.begin("".join(pieces).strip(), "error", usage, reasoning="".join(thoughts).strip())
        raise
    usage = state.pay(meter.usages(delta)[index], ask.who)
    opened, text = apart("".join(pieces))  # thoughts in the text, if the engine does not separate them
    reasoning, finish = "".join([*thoughts, opened]).strip(), delta.finish or "stop"
    whole = text.strip() if ask.begun is None else text.rstrip()
    reasoning = "" if reasoning == whole else reasoning  # an answer that was first taken for a thought
    return Generated(whole, finish, usage, delta.aside, delta.tool_calls, unsteered, reasoning, delta.others)


def _new_of(ask: Ask, delta: Delta, pieces: list[str], shown: str) -> tuple[str, str]:
    if ask.begun != "":  # the reply has no numbered parts
        return delta.text, shown
    now = MARK.sub("", "".join(pieces) if delta.finish else _BEGUN.sub("", "".join(pieces)))
    return now[len(shown) :], now


def announce_progress(state: State) -> Loop[None]:
    """Yield a `Progress` event if there is a step or a draft."""
    if state.steps or state.drafts:
        yield Progress(state.chain(None))
