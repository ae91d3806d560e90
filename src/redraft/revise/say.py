"""One text of the writer or the critic, streamed: events for who watches, and the whole for the loop."""

from __future__ import annotations

from dataclasses import dataclass

from redraft.chain import Finish, Stop, Usage
from redraft.engines.base import Delta
from redraft.errors import ContextError, EmptyReply
from redraft.revise.meter import Meter
from redraft.revise.ops import Ask, Kind, Loop, More, Progress, Text, receive
from redraft.revise.state import State


@dataclass(frozen=True)
class Said:
    """A text that was generated, why it ended, what it cost, and what came beside it (`Delta.aside`)."""

    text: str
    finish: Finish
    usage: Usage
    aside: str = ""


def say(state: State, ask: Ask, kind: Kind, index: int) -> Loop[Said]:
    """Asks, passes on each piece as an event, and books the cost.

    An error in the middle is raised, with the text until then kept as a step where it was an answer. A
    context that is full once there is an answer is a way to finish, not an error.
    """
    yield from tell_progress(state)
    meter, delta = Meter(state.clock, index), Delta()
    pieces: list[str] = []
    try:
        delta = yield from receive(ask)
        while True:
            meter.count(delta, index)
            if delta.text:
                pieces.append(delta.text)
                yield Text(kind, index, delta.text)
            if delta.finish:
                break
            delta = yield from receive(More())
    except ContextError:
        if not state.steps:
            raise
        delta = Delta(finish="context")
    except Exception:
        usage = state.pay(meter.usages(delta)[index], ask.who)
        if kind == "answer" and pieces:
            state.begin("".join(pieces).strip(), "error", usage)
        raise
    usage = state.pay(meter.usages(delta)[index], ask.who)
    return Said("".join(pieces).strip(), delta.finish or "stop", usage, delta.aside)


def insist_on_answer(state: State, stop: Stop | None, aside: str = "") -> None:
    """Refuse a chain in which nothing was said: it would count as done.

    Args:
        state: The chain.
        stop: Why it ends. A budget that is over, or somebody who cancels, may end it without an answer.
        aside: What came instead of a text (`Delta.aside`).

    Raises:
        EmptyReply: No answer has any text.
    """
    if stop in ("budget", "cancelled") or any(step.answer.strip() for step in state.steps):
        return
    cut = {"max_tokens": ", and then max_tokens was reached", "context": ", and then the context was full"}
    came = f"{aside or 'nothing'}{cut.get(stop or '', '')}"
    raise EmptyReply(
        f"{state.plan.info.name!r} gave no answer. What came: {came}.",
        hint="Give it more room: --max-tokens N" if stop == "max_tokens" else None,
    )


def tell_progress(state: State) -> Loop[None]:
    """Announce the steps so far, before a call that could be cut."""
    if state.steps:
        yield Progress(state.chain(None))
