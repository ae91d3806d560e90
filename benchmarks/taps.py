"""An engine that records the requests, replies and times of another engine.

With the record, the requests of a chain can be repeated without the loop, and parts of a chain can be timed.
A repeated request may get another reply, because results depend on the batch. The next request then continues
from that reply, as in a chain.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import takewhile

from redraft.engines.base import Delta, Engine, EngineInfo, Message, PromptText, Sampling, Tokens


@dataclass
class Request:
    prompt: PromptText | None  # raw text or token ids; None for a chat
    messages: tuple[Message, ...]  # of a chat
    sampling: Sampling  # with the request's own seed and limit
    stop: tuple[str, ...]
    # The time of the request, on the clock of `time.perf_counter`.
    started: float = field(default_factory=time.perf_counter)
    ended: float | None = None  # the time of its last delta; None if it was closed before
    deltas: int = 0  # the number of received deltas
    text: str = ""  # the received text
    tokens: Tokens = ()  # the received token ids
    last: Delta = field(default_factory=Delta)  # the last received delta

    @property
    def generated(self) -> int:
        counted = self.last.completion_tokens
        return len(self.tokens) if counted is None else counted

    def note(self, delta: Delta) -> None:
        self.deltas += 1
        self.text += delta.text
        self.tokens += delta.tokens
        self.last = delta
        if delta.finish:
            self.ended = time.perf_counter()


@dataclass
class Tap:
    engine: Engine
    requests: list[Request] = field(default_factory=list)  # in the order in which they were made

    @property
    def info(self) -> EngineInfo:
        return self.engine.info

    async def score(self, texts: Sequence[PromptText]) -> list[tuple[float, ...]]:
        return await self.engine.score(texts)

    async def encode(self, text: str, *, special: bool = False) -> Tokens:
        return await self.engine.encode(text, special=special)

    async def decode(self, tokens: Sequence[int]) -> str:
        return await self.engine.decode(tokens)

    def stream(
        self, prompt: PromptText, sampling: Sampling, stop: Sequence[str] = ()
    ) -> AsyncGenerator[Delta, None]:
        return self._watched(Request(prompt, (), sampling, tuple(stop)))

    def chat(
        self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str] = ()
    ) -> AsyncGenerator[Delta, None]:
        return self._watched(Request(None, tuple(messages), sampling, tuple(stop)))

    async def aclose(self) -> None:
        """Leave the other engine open, because its owner closes it."""

    async def _watched(self, request: Request) -> AsyncGenerator[Delta, None]:
        self.requests.append(request)
        async with aclosing(ask(self.engine, request)) as deltas:
            async for delta in deltas:
                request.note(delta)
                yield delta


def ask(engine: Engine, request: Request) -> AsyncGenerator[Delta, None]:
    if request.prompt is not None:
        return engine.stream(request.prompt, request.sampling, request.stop)
    return engine.chat(request.messages, request.sampling, request.stop)


async def replay(engine: Engine, requests: Sequence[Request]) -> int:
    made: list[Request] = []
    for request, before in zip(requests, (None, *requests), strict=False):
        made.append(await replay_one(engine, following(request, before, made)))
    return sum(request.generated for request in made)


async def replay_one(engine: Engine, request: Request) -> Request:
    made = Request(request.prompt, request.messages, request.sampling, request.stop)
    async with aclosing(ask(engine, made)) as stream:
        async for delta in stream:
            made.note(delta)
            if request.ended is None and made.deltas == request.deltas:
                break
    return made


def following(request: Request, before: Request | None, made: Sequence[Request]) -> Request:
    if before is None:
        return request
    if isinstance(request.prompt, tuple):
        return replace(request, prompt=_spliced(request.prompt, before, made[-1]))
    old, new = before.text.strip(), made[-1].text.strip()
    messages: list[Message] = [
        {"role": said["role"], "content": new if said["content"] == old else said["content"]}
        for said in request.messages
    ]
    return replace(request, messages=tuple(messages))


def _spliced(prompt: Tokens, before: Request, made: Request) -> Tokens:
    assert isinstance(before.prompt, tuple)
    assert isinstance(made.prompt, tuple)
    known = before.prompt + before.tokens
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(known, prompt, strict=False)))
    kept = max(len(made.tokens) - (len(known) - shared), 0)
    return made.prompt + made.tokens[:kept] + prompt[shared:]
