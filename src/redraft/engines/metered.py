"""An engine that counts what its calls cost: for work whose tokens belong in somebody else's books.

A judge's calls are made inside checks, where the loop does not see them, and yet the budget of a chain
holds for them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from redraft.chain import Usage
from redraft.engines.base import Delta, Engine, EngineInfo, Message, PromptText, Sampling, Tokens


class MeteredEngine:
    """Another engine, with the usage of its calls added up. Closing it does not close the other."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._usage = Usage()

    def take(self) -> Usage:
        """What was used since the last time that this was asked."""
        usage, self._usage = self._usage, Usage()
        return usage

    @property
    def info(self) -> EngineInfo:
        """What the other engine is."""
        return self._engine.info

    async def encode(self, text: str, *, special: bool = False) -> Tokens:
        """As the other engine does."""
        return await self._engine.encode(text, special=special)

    async def decode(self, tokens: Sequence[int]) -> str:
        """As the other engine does."""
        return await self._engine.decode(tokens)

    def stream(
        self, prompt: PromptText, sampling: Sampling, stop: Sequence[str] = ()
    ) -> AsyncGenerator[Delta, None]:
        """As the other engine does, and counted."""
        return self._count(self._engine.stream(prompt, sampling, stop))

    def chat(
        self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str] = ()
    ) -> AsyncGenerator[Delta, None]:
        """As the other engine does, and counted."""
        return self._count(self._engine.chat(messages, sampling, stop))

    async def aclose(self) -> None:
        """Nothing: whoever opened the other engine closes it."""

    async def _count(self, deltas: AsyncGenerator[Delta, None]) -> AsyncGenerator[Delta, None]:
        seen, last = 0, Delta()
        try:
            async with aclosing(deltas):
                async for last in deltas:
                    seen += len(last.tokens) or bool(last.text)
                    yield last
        finally:  # also when the time is over in the middle of a reply
            self._usage += Usage(
                prompt_tokens=last.prompt_tokens or 0,
                cached_tokens=last.cached_tokens or 0,
                completion_tokens=seen if last.completion_tokens is None else last.completion_tokens,
            )
