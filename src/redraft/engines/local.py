"""What engines have in common whose model is on this machine: prompts are token ids, within a context.

A text, or messages in the model's own template, become ids; that they leave room for an answer is seen here.
How ids are made and continued is the engine's own.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import NamedTuple

from redraft.chain import Finish, content_of
from redraft.engines.base import Delta, EngineInfo, Message, PromptText, Sampling, Tokens
from redraft.engines.messages import plain
from redraft.errors import ContextError, UsageError

DEFAULT_CONTEXT = 4096
"""Tokens a chain may fill unless told: SelFee's chains were made with 4,096 (reference/selfee.md)."""


class Room(NamedTuple):
    """How many tokens may come, and why the stream ends when so many have."""

    tokens: int
    limit: Finish


class LocalEngine(ABC):
    """An engine that is given token ids.

    Args:
        info: What it is and can do.
        context: Tokens that one chain may fill.
        trained: Tokens that the model was trained for; None where it does not say.
    """

    def __init__(self, info: EngineInfo, context: int, trained: int | None = None) -> None:
        self._info, self._context, self._trained = info, context, trained

    @property
    def info(self) -> EngineInfo:
        """What this engine is and can do."""
        return self._info

    @abstractmethod
    async def encode(self, text: str, *, special: bool = False) -> Tokens:
        """Token ids of a text. Control tokens that are written out in it stay text."""

    @abstractmethod
    async def _chat_tokens(self, messages: Sequence[Message]) -> Tokens:
        """The prompt of messages, which are plain text, as the model's template writes it."""

    @abstractmethod
    def _continue(
        self, prompt: Tokens, sampling: Sampling, stop: Sequence[str], room: Room
    ) -> AsyncGenerator[Delta, None]:
        """Continues token ids that leave room."""

    async def stream(
        self, prompt: PromptText, sampling: Sampling, stop: Sequence[str] = ()
    ) -> AsyncGenerator[Delta, None]:
        """Continues a text or token ids. Closing the generator frees what it holds of the engine.

        Raises:
            UsageError: The prompt is empty.
            ContextError: The prompt leaves no room for an answer.
            EngineError: The engine was closed, its process died, or the model failed.
        """
        tokens = await self.encode(prompt, special=True) if isinstance(prompt, str) else prompt
        async with aclosing(self._continue(tokens, sampling, stop, self._room(tokens, sampling))) as deltas:
            async for delta in deltas:
                yield delta

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str] = ()
    ) -> AsyncGenerator[Delta, None]:
        """Answers messages with the model's own template. Same deltas as `stream`.

        Raises:
            UsageError: The model has no template, or a message is more than text.
            ModelError: The template does not take these messages.
            ContextError: They leave no room for an answer.
        """
        if not self._info.chats:
            raise no_template(self._info.name)
        tokens = await self._chat_tokens(plain(messages, self._info))
        async with aclosing(self.stream(tokens, sampling, stop)) as deltas:
            async for delta in deltas:
                yield delta

    def _room(self, prompt: Tokens, sampling: Sampling) -> Room:
        left = self._context - len(prompt)
        if left <= 0:
            raise ContextError(len(prompt), self._context, trained=self._trained)
        if not prompt:
            raise empty_prompt()
        return Room(
            min(sampling.max_tokens, left), "max_tokens" if sampling.max_tokens <= left else "context"
        )


def empty_prompt() -> UsageError:
    """The error for a prompt without a token."""
    return UsageError("the prompt is empty.", hint="Give the model something to continue.")


def no_template(name: str) -> UsageError:
    """The error for messages to a model that only continues text."""
    return UsageError(
        f"{name} has no chat template.",
        hint="Let it continue text (--mode native), or use a model that was made for chat.",
    )


class Marked:
    """Messages with marks for their contents, so that what a template writes can be told from what they say.

    Attributes:
        messages: What to render.
    """

    def __init__(self, messages: Sequence[Message]) -> None:
        self._said = [content_of(message) for message in messages]
        self._mark = secrets.token_hex(8)
        self.messages: list[Message] = [
            {"role": message["role"], "content": f"{self._mark}{number}."}
            for number, message in enumerate(messages)
        ]

    def pieces(self, rendered: str) -> Iterator[tuple[str, bool]]:
        """The pieces of what was rendered: a text, and whether the template wrote it. It wrote the first."""
        first, *rest = rendered.split(self._mark)
        yield first, True
        for piece in rest:
            number, _, after = piece.partition(".")
            yield self._said[int(number)], False
            yield after, True
