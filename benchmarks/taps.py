"""An engine that writes down what passes through it: what was asked, when, and what came back.

With that, the requests of a chain can be made again without the loop, and moments inside of a chain can
be timed. Made again among other streams a request may come out otherwise, because an engine does not
compute the same in every batch; the next one then goes on from what really came, as it does in a chain.
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
    # When it was made, on the clock of `time.perf_counter`.
    started: float = field(default_factory=time.perf_counter)
    ended: float | None = None  # when its last delta came; None if it was closed before
    deltas: int = 0  # how many were taken
    text: str = ""  # what came
    tokens: Tokens = ()  # the ids of what came
    last: Delta = field(default_factory=Delta)  # the last delta that was taken

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
    """An engine in front of another one; `requests` has all that passed."""

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
        """Leaves the other engine open: who started it closes it."""

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
    """Makes the requests of a chain again, one after the other. Returns the tokens that were generated."""
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
    """A request of a chain, going on from what was made last in place of what came before it then."""
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
    """What was made last, with as much of its end cut off and then forced as when the prompt was recorded."""
    assert isinstance(before.prompt, tuple)
    assert isinstance(made.prompt, tuple)
    known = before.prompt + before.tokens
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(known, prompt, strict=False)))
    kept = max(len(made.tokens) - (len(known) - shared), 0)
    return made.prompt + made.tokens[:kept] + prompt[shared:]
