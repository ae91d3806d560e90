"""Engines around an engine: they see each call, and pass on everything else unchanged."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

from redraft.chain import Usage
from redraft.chain.thoughts import Splitter
from redraft.engines.base import (
    Delta,
    Engine,
    EngineInfo,
    Message,
    PromptText,
    Replies,
    Sampling,
    Tokens,
    thoughts_apart,
)
from redraft.engines.remote.wire import estimated_counts
from redraft.errors import EngineError, RedraftError, crash_of, shown

Ask = Callable[[Sampling], Replies]


class WrappedEngine(ABC):
    """An engine around another one. Closing it does not close the other: whoever opened that closes it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def wrapped(self) -> Engine:
        """The engine around which it is."""
        return self._engine

    @property
    def info(self) -> EngineInfo:
        """The wrapped engine's info."""
        return self._engine.info

    async def encode(self, text: str, *, special: bool = False) -> Tokens:
        """Encode with the wrapped engine."""
        return await self._engine.encode(text, special=special)

    async def decode(self, tokens: Sequence[int]) -> str:
        """Decode with the wrapped engine."""
        return await self._engine.decode(tokens)

    async def score(self, texts: Sequence[PromptText]) -> list[tuple[float, ...]]:
        """Score with the wrapped engine."""
        return await self._engine.score(texts)

    def stream(self, prompt: PromptText, sampling: Sampling, stop: Sequence[str] = ()) -> Replies:
        """Continue raw text."""
        request = {"way": "stream", "asked": prompt, "sampling": sampling, "stop": list(stop)}
        return self._reply(request, lambda changed: self._engine.stream(prompt, changed, stop))

    def chat(self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str] = ()) -> Replies:
        """Answer messages."""
        request = {"way": "chat", "asked": list(messages), "sampling": sampling, "stop": list(stop)}
        return self._reply(request, lambda changed: self._engine.chat(messages, changed, stop))

    async def aclose(self) -> None:  # noqa: B027
        """Do nothing: the wrapped engine belongs to the caller."""

    @abstractmethod
    def _reply(self, request: dict[str, Any], ask: Ask) -> Replies:
        """Reply to what determines it. `ask` asks the wrapped engine, with this sampling or a changed one."""


class GuardedEngine(WrappedEngine):
    """The engine of another package: what it raises becomes an `EngineError`, and so does a wrong delta."""

    def __getattr__(self, name: str) -> Any:
        """Return what the engine has beside the methods of every engine."""
        return getattr(self._engine, name)

    def chat(self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str] = ()) -> Replies:
        """Answer messages, with thoughts in tags apart from the answer."""
        return thoughts_apart(super().chat(messages, sampling, stop), Splitter())

    async def aclose(self) -> None:
        """Close the engine, which nobody else can."""
        await self._engine.aclose()

    async def _reply(self, request: dict[str, Any], ask: Ask) -> Replies:
        name, finish, fault = self.info.name, None, "ended a reply without saying why"
        try:
            async with aclosing(ask(request["sampling"])) as deltas:
                async for delta in deltas:
                    if not _is_delta(delta):
                        fault = f"gave {shown(delta)}, and no Delta"
                        break
                    finish = delta.finish or finish
                    yield delta
        except RedraftError:
            raise
        except (Exception, SystemExit) as error:
            logging.getLogger(__name__).debug("%s crashed.", name, exc_info=error)
            hint = "This is a fault of the engine. Its traceback: redraft --debug …"
            raise EngineError(f"the engine {name!r} crashed: {crash_of(error)}.", hint=hint) from error
        if finish is None:
            raise EngineError(f"the engine {name!r} {fault}.", hint=_DELTAS)


_DELTAS = "Yield Delta('text') for each piece, and Delta(finish='stop', completion_tokens=9) as the last."


def _is_delta(value: object) -> bool:
    return isinstance(value, Delta)


class MeteredEngine(WrappedEngine):
    """Add up the usage of an engine's calls.

    `ended` is called when the usage of a call was added. `writing` gets the number of new tokens of each
    piece, and at the end of the call, with a minus, of all pieces.
    """

    def __init__(
        self,
        engine: Engine,
        ended: Callable[[], None] = lambda: None,
        writing: Callable[[int], None] = lambda _: None,
    ) -> None:
        super().__init__(engine)
        self._usage, self._ended, self._writing = Usage(), ended, writing

    def take(self) -> Usage:
        """Return the usage since the last call of this method."""
        usage, self._usage = self._usage, Usage()
        return usage

    async def _reply(self, request: dict[str, Any], ask: Ask) -> Replies:
        seen, size, last = 0, 0, Delta()
        try:
            async with aclosing(ask(request["sampling"])) as deltas:
                async for last in deltas:
                    new = len(last.tokens) or bool(last.text)
                    seen += new
                    self._writing(new)
                    size += len(last.text.encode("utf-8", "surrogatepass"))
                    yield last
        except (GeneratorExit, asyncio.CancelledError):
            if last.completion_tokens is None and self.info.engine == "remote":
                # Its server sends no counts, and may be paid. Only a piece shows that it read the prompt.
                asked = request["asked"]
                body = {"messages": asked} if isinstance(asked, list) else {"prompt": asked}
                counts = estimated_counts(body, size, seen)
                last = Delta(
                    prompt_tokens=counts.prompt if seen else 0,
                    completion_tokens=counts.completion,
                    estimated=True,
                )
            raise
        finally:  # a reply that is cancelled counts too
            self._writing(-seen)
            self._usage += Usage(
                prompt_tokens=last.prompt_tokens or 0,
                cached_tokens=last.cached_tokens or 0,
                completion_tokens=seen if last.completion_tokens is None else last.completion_tokens,
                estimated=last.estimated,
            )
            self._ended()
