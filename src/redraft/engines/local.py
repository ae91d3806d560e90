"""The common part of engines on this machine: prompts become token ids, and must leave room for an answer."""

from __future__ import annotations

import asyncio
import logging
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, NamedTuple

from redraft.chain import Finish, Prompt, content_of
from redraft.engines.base import (
    OF_TEMPLATE,
    Delta,
    EngineInfo,
    Message,
    PromptText,
    Sampling,
    Tokens,
    no_scores,
)
from redraft.engines.messages import plain
from redraft.engines.price import Price
from redraft.engines.schemas import SchemaWatch
from redraft.errors import ContextError, UsageError
from redraft.formats.render.templates import ConversationTemplate

_log = logging.getLogger(__name__)

DEFAULT_CONTEXT = 4096
"""Default tokens of a chain: SelFee's chains were made with 4,096 (reference/selfee.md)."""


SPARSE = 8
"""Characters for each token that fits: a longer text is looked at from its beginning first. English has four
to five in a token, code about three; runs of spaces have more."""


Told = Mapping[str, Any] | None
"""What a chat template is told besides the messages, by name: `enable_thinking`, for one."""


class Room(NamedTuple):
    """The number of tokens that may come, and the finish reason after that many."""

    tokens: int
    limit: Finish


class LocalEngine(ABC):
    """An engine that works on token ids.

    Args:
        info: The model and its capabilities.
        context: Tokens that one chain may fill.
        trained: The context that the model was trained for, in tokens; None if unknown.
    """

    _marks: frozenset[str] | None = None
    """Characters of which any control token has one, where they are known."""

    def __init__(self, info: EngineInfo, context: int, trained: int | None = None) -> None:
        self._info, self._context, self._trained = info, context, trained
        self._schemas = SchemaWatch()
        self._template: ConversationTemplate | None = None

    @property
    def info(self) -> EngineInfo:
        """The model and its capabilities."""
        return self._info

    def charge(self, price: Price) -> None:
        """Set what the tokens of this model cost."""
        self._info = replace(self._info, price=price)

    def converse(self, template: ConversationTemplate) -> None:
        """Render messages in this format from now on, and not with the model's own template."""
        self._template = template
        fields = self._info.fields - {OF_TEMPLATE}
        self._info = replace(self._info, chats=True, template=template.name, tools=False, fields=fields)

    @abstractmethod
    async def encode(self, text: str, *, special: bool = False) -> Tokens:
        """Return the token ids of a text. Control tokens that are written out in it stay text."""

    async def score(self, texts: Sequence[PromptText]) -> list[tuple[float, ...]]:  # noqa: ARG002
        """Raise `EngineError`: not every engine has scores."""
        raise no_scores(self._info)

    @abstractmethod
    async def _tokenize(self, text: str, *, start: bool = False, control: bool) -> Tokens:
        """Return the token ids of a text: `start` prepends BOS, `control` reads control tokens in it."""

    @abstractmethod
    async def _render(self, messages: Sequence[Message], told: Told = None) -> str:
        """Render messages of plain text with the model's template, which is told more by name."""

    @abstractmethod
    async def _end(self) -> str:
        """Return the text of the token that ends an answer; empty if there is none."""

    @abstractmethod
    def _continue(
        self, prompt: Tokens, sampling: Sampling, stop: Sequence[str], room: Room
    ) -> AsyncGenerator[Delta, None]:
        """Continue token ids that leave room."""

    async def stream(
        self, prompt: PromptText, sampling: Sampling, stop: Sequence[str] = ()
    ) -> AsyncGenerator[Delta, None]:
        """Continue a text or token ids. Closing the generator frees its slot.

        Raises:
            UsageError: The prompt is empty.
            ContextError: The prompt leaves no room for an answer.
            EngineError: The engine was closed, its process died, or the model failed.
        """
        if isinstance(prompt, str):
            await self._check_length(prompt)
        tokens = await self.encode(prompt, special=True) if isinstance(prompt, str) else prompt
        async with aclosing(self._reply(prompt, tokens, sampling, stop)) as deltas:
            async for delta in deltas:
                yield delta

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str] = ()
    ) -> AsyncGenerator[Delta, None]:
        """Answer messages with the model's template, or that of `converse`. Same deltas as `stream`.

        Raises:
            UsageError: The model has no template.
            RecordError: A message has more than text.
            ModelError: The template refuses the messages.
            ContextError: They leave no room for an answer.
        """
        if not self._info.chats:
            raise no_template(self._info.name)
        told = (sampling.extra_body or {}).get(OF_TEMPLATE)
        tokens = await self._chat_tokens(plain(messages, self._info), told)
        stop = [*stop, *self._template.stops] if self._template else stop
        async with aclosing(self._reply(messages, tokens, sampling, stop)) as deltas:
            async for delta in deltas:
                yield delta

    async def _reply(
        self, asked: object, prompt: Tokens, sampling: Sampling, stop: Sequence[str]
    ) -> AsyncGenerator[Delta, None]:
        """Continue token ids. What was asked and the reply are logged at debug level, a line each."""
        _log.debug("%s is asked, with %r: %r", self._info.name, sampling, asked)
        pieces: list[str] = []
        try:
            room = self._room(prompt, sampling)
            async with aclosing(self._continue(prompt, sampling, stop, room)) as deltas:
                async for delta in deltas:
                    pieces.append(delta.text)
                    if delta.finish and sampling.schema is not None and self._info.schemas:
                        self._schemas.look(self._info.name, "".join(pieces), delta.finish)
                    yield delta
        finally:
            _log.debug("%s answers: %r", self._info.name, "".join(pieces))

    async def _chat_tokens(self, messages: Sequence[Message], told: Told = None) -> Tokens:
        """Render messages as token ids. Only the template's text may become control tokens.

        Contents without any of `_marks` are safe, which saves two calls of the tokenizer.
        """
        contents = "\n".join(map(content_of, messages))
        await self._check_length(contents)
        if self._marks is not None and self._marks.isdisjoint(contents):
            return await self._rendered(messages, told)
        as_text, as_control, tokens = await asyncio.gather(
            self._tokenize(contents, control=False),
            self._tokenize(contents, control=True),
            self._rendered(messages, told),
        )
        return tokens if as_text == as_control else await self._pieced(messages, told)

    async def _check_length(self, text: str) -> None:
        """Refuse a text that cannot fit by its beginning: to read megabytes as tokens takes seconds."""
        size = SPARSE * self._context
        while size < len(text):
            count = len(await self._tokenize(text[:size], control=False))
            if count > self._context:
                about = count * len(text) // size
                raise ContextError(about, self._context, trained=self._trained, about=True)
            size *= 4

    async def _rendered(self, messages: Sequence[Message], told: Told) -> Tokens:
        """Render with the contents in their places, and encode it all alike."""
        return await self._tokenize(await self._written(messages, told), start=True, control=True)

    async def _written(self, messages: Sequence[Message], told: Told = None) -> str:
        if self._template is None:
            return await self._render(messages, told)
        return self._template.text(Prompt(messages=tuple(map(dict, messages))), await self._end())

    async def _pieced(self, messages: Sequence[Message], told: Told = None) -> Tokens:
        """Render with marks in place of the contents, and encode the contents as plain text."""
        mark = secrets.token_hex(8)
        marked: list[Message] = [
            {"role": message["role"], "content": f"{mark}{number}."}
            for number, message in enumerate(messages)
        ]
        first, *rest = (await self._written(marked, told)).split(mark)
        tokens = await self._tokenize(first, start=True, control=True)
        for piece in rest:
            number, _, after = piece.partition(".")
            tokens += await self.encode(content_of(messages[int(number)]))
            tokens += await self._tokenize(after, control=True)
        return tokens

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
    """Return the error for a prompt without a token."""
    return UsageError("the prompt is empty.", hint="Give the model something to continue.")


def no_template(name: str) -> UsageError:
    """Return the error for messages to a model without a chat template."""
    return UsageError(
        f"{name} has no chat template.",
        hint="Continue text with --mode native, or use a chat model.",
    )
