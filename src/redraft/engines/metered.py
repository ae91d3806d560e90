"""An engine that counts its usage: a judge is called inside checks, but its tokens count for the budget."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from redraft.chain import Usage
from redraft.engines.base import Delta, Engine, EngineInfo, Message, PromptText, Sampling, Tokens


class MeteredEngine:
    """Wraps an engine and adds up the usage of its calls. Closing it does not close the engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._usage = Usage()

    def take(self) -> Usage:
        """Return the usage since the last call of this method."""
        usage, self._usage = self._usage, Usage()
        return usage

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

    def stream(
        self, prompt: PromptText, sampling: Sampling, stop: Sequence[str] = ()
    ) -> AsyncGenerator[Delta, None]:
        """Continue raw text, and count it."""
        return self._count(self._engine.stream(prompt, sampling, stop))

    def chat(
        self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str] = ()
    ) -> AsyncGenerator[Delta, None]:
        """Answer messages, and count it."""
        return self._count(self._engine.chat(messages, sampling, stop))

    async def aclose(self) -> None:
        """Do nothing: the engine belongs to the caller."""

    async def _count(self, deltas: AsyncGenerator[Delta, None]) -> AsyncGenerator[Delta, None]:
        seen, last = 0, Delta()
        try:
            async with aclosing(deltas):
                async for last in deltas:
                    seen += len(last.tokens) or bool(last.text)
                    yield last
        finally:  # a reply that is cancelled counts too
            self._usage += Usage(
                prompt_tokens=last.prompt_tokens or 0,
                cached_tokens=last.cached_tokens or 0,
                completion_tokens=seen if last.completion_tokens is None else last.completion_tokens,
            )
