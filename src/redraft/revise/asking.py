"""Stream one text of the writer or the critic: as events to watch, and whole for the loop."""

from __future__ import annotations

from dataclasses import dataclass

from redraft.chain import Finish, Stop, Usage
from redraft.engines.base import Delta
from redraft.errors import ContextError, EmptyReply
from redraft.revise.meter import Meter
from redraft.revise.ops import Ask, Kind, Loop, More, Progress, Text, receive
from redraft.revise.state import State


@dataclass(frozen=True)
class Generated:
    """A generated text, why it ended, its usage, and what came beside it (`Delta.aside`)."""

    text: str
    finish: Finish
    usage: Usage
    aside: str = ""


def ask_model(state: State, ask: Ask, kind: Kind, index: int) -> Loop[Generated]:
    """Ask, yield each piece as an event, and book the usage.

    If the stream of an answer fails, the text so far is kept as a step and the error raised. Once there is an
    answer, a full context is a way to finish, not an error.
    """
    yield from announce_progress(state)
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
    return Generated("".join(pieces).strip(), delta.finish or "stop", usage, delta.aside)


def insist_on_answer(state: State, stop: Stop | None, aside: str = "") -> None:
    """Refuse a chain without any answer: it would count as done.

    Args:
        state: The chain.
        stop: Why it ends. A budget or a cancel may end it without an answer.
        aside: What came instead of a text (`Delta.aside`).

    Raises:
        EmptyReply: No answer has any text.
    """
    if stop in ("budget", "cancelled") or any(step.answer.strip() for step in state.steps):
        return
    cut = {"max_tokens": ", and then max_tokens was reached", "context": ", and then the context was full"}
    received = f"{aside or 'nothing'}{cut.get(stop or '', '')}"
    raise EmptyReply(
        f"{state.plan.info.name!r} gave no answer. What came: {received}.",
        hint="Give it more room: --max-tokens N" if stop == "max_tokens" else None,
    )


def announce_progress(state: State) -> Loop[None]:
    """Yield the steps so far, before a call that could be cut."""
    if state.steps:
        yield Progress(state.chain(None))
