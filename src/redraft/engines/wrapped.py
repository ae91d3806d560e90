"""What wrappers of engines share: they see each call, and pass on everything else unchanged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from redraft.engines.base import Delta, Engine, EngineInfo, Message, PromptText, Sampling, Tokens

Replies = AsyncGenerator[Delta, None]
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
        """Give a reply.

        Args:
            request: What determines it.
            ask: Asks the wrapped engine, with the request's sampling or a changed one.
        """
