"""Drives the pure loop by hand: canned streams and checks, no engine, no event loop, a clock of our own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import log

from redraft.chain import Chain, CheckResult, Prompt
from redraft.engines.base import Delta, EngineInfo
from redraft.errors import RedraftError
from redraft.revision.driver import loop
from redraft.revision.ops import (
    Ask,
    Checked,
    Continue,
    Encode,
    Event,
    Finished,
    More,
    Op,
    Progress,
    Reply,
    RunChecks,
    StepDone,
    Text,
)
from redraft.revision.options import RevisionOptions
from redraft.revision.state import Plan

NATIVE = EngineInfo(name="toy", engine="scripted", token_ids=True, native=True)


@dataclass(frozen=True)
class Stream:
    text: str
    finish: str = "stop"
    chunk: int = 5
    seconds: float = 0.0
    cached: int = 0
    doubted: str = ""  # characters that the model finds half as likely as not


@dataclass
class Played:
    chain: Chain
    ops: list[Op] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    progress: list[tuple[int, Chain]] = field(default_factory=list)
    """What could be resumed, with the number of streams that were used until then."""

    def take(self, event: Event, used: int) -> None:
        if isinstance(event, Progress):
            self.progress.append((used, event.chain))
            return
        self.events.append(event)
        self.chain = event.chain if isinstance(event, Finished) else self.chain

    @property
    def asked(self) -> list[Continue | Ask]:
        return [op for op in self.ops if isinstance(op, Continue | Ask)]

    @property
    def steps_done(self) -> list[int]:
        return [event.index for event in self.events if isinstance(event, StepDone)]

    def shown(self, kind: str, index: int) -> str:
        texts = (e.text for e in self.events if isinstance(e, Text) and (e.kind, e.index) == (kind, index))
        return "".join(texts)


def plan(**changes: object) -> Plan:
    known = RevisionOptions.model_fields.keys() - {"mode", "checks", "critic", "judge"}
    options = RevisionOptions.read({name: changes.pop(name) for name in known & changes.keys()})
    given: dict[str, object] = {"prompt": Prompt(instruction="Say something."), "info": NATIVE, **changes}
    return Plan(**given, options=options)  # type: ignore[arg-type]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def deltas(stream: Stream, op: Continue | Ask) -> Iterator[Delta]:
    text, stop_text, finish = stream.text, None, stream.finish
    stops = op.stop if isinstance(op, Continue) else ()
    found = min(((text.find(s), -len(s), s) for s in stops if s in text), default=None)
    if found is not None and found[0] - found[1] <= op.max_tokens:
        text, stop_text, finish = text[: found[0]], found[2], "stop"
    if len(text) > op.max_tokens:
        text, stop_text, finish = text[: op.max_tokens], None, "max_tokens"
    for start in range(0, len(text), stream.chunk):
        piece = text[start : start + stream.chunk]
        logprobs = tuple(log(0.5) if each in stream.doubted else 0.0 for each in piece)
        yield Delta(text=piece, tokens=tuple(map(ord, piece)), logprobs=logprobs)
    extra = tuple(map(ord, stop_text or ""))
    length = len(op.prompt) if isinstance(op, Continue) else sum(len(m["content"]) for m in op.messages)
    yield Delta(
        tokens=extra,
        finish=finish,  # type: ignore[arg-type]
        stop_text=stop_text,
        prompt_tokens=length,
        cached_tokens=stream.cached,
        completion_tokens=len(text) + len(extra),
    )


def play(
    a_plan: Plan,
    streams: Sequence[Stream | str | RedraftError],
    check: Callable[[str], bool | None] | None = None,
    clock: Clock | None = None,
) -> Played:
    clock = clock or Clock()
    steps = loop(a_plan, clock)
    played = Played(chain=Chain())
    source: Iterator[Delta] = iter(())
    used = 0
    reply: Reply = None
    error: RedraftError | None = None
    while True:
        try:
            said = steps.throw(error) if error is not None else steps.send(reply)
        except StopIteration:
            return played
        reply, error = None, None
        if isinstance(said, Event):
            played.take(said, used)
            continue
        if not isinstance(said, More):
            played.ops.append(said)
        if isinstance(said, Continue | Ask):
            stream = streams[min(used, len(streams) - 1)]
            used += 1
            if isinstance(stream, RedraftError):
                error = stream
                continue
            stream = Stream(stream) if isinstance(stream, str) else stream
            clock.now += stream.seconds
            source = deltas(stream, said)
        if isinstance(said, Continue | Ask | More):
            reply = next(source)
        elif isinstance(said, Encode):
            reply = tuple(map(ord, said.text))
        elif isinstance(said, RunChecks):
            assert check is not None
            good = check(said.answer)
            result = CheckResult(
                name="toy", passed=bool(good), score=float(bool(good)), message="It is not good."
            )
            reply = Checked(() if good is None else (result,), given_up=good is None)
