"""Adapters by role: in one chain, one adapter answers, and another criticises and revises.

`default+answers.gguf@answer+critic.gguf@revise` binds two adapters. What teaches a model to criticise does
not touch the weights that answer, so it costs the first answer nothing. A bound adapter writes chains alone:
messages are answered without it. An adapter without a role belongs to everything. llama.cpp switches by
itself (`engines.llamacpp`); for the other engines `RoleEngine` opens the model once a role.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import cast, get_args

from redraft.engines.base import (
    Delta,
    Engine,
    EngineInfo,
    EngineRole,
    Health,
    Message,
    PromptText,
    Replies,
    Resumer,
    Sampling,
    Tokens,
    Watched,
)

ROLES: tuple[EngineRole, ...] = get_args(EngineRole)
_BOUND = re.compile(r"\+([^+]*?)@(answer|revise)(?=\+|$)")


def references_by_role(ref: str) -> dict[EngineRole, str]:
    """Return the reference of each role; nothing if no adapter is bound to one."""

    def of(role: EngineRole) -> str:
        return _BOUND.sub(lambda found: f"+{found[1]}" if found[2] == role else "", ref)

    return {role: of(role) for role in ROLES} if _BOUND.search(ref) else {}


class RoleEngine(Engine):
    """One engine for each role, opened when it is first asked. Create it with `start`."""

    def __init__(
        self, opens: Mapping[EngineRole, Callable[[], Awaitable[Engine]]], base: Engine, certain: float = 0.0
    ) -> None:
        self._opens, self._base, self._certain = opens, base, certain
        self._engines: dict[EngineRole, Engine] = {"": base}
        self._opening = asyncio.Lock()

    @classmethod
    async def start(
        cls, opens: Mapping[EngineRole, Callable[[], Awaitable[Engine]]], certain: float = 0.0
    ) -> RoleEngine:
        """Open the engine that answers messages. `certain`: as in `EngineInfo`, of the one that revises."""
        return cls(opens, await opens[""](), certain)

    @property
    def info(self) -> EngineInfo:
        """That of the engine that answers messages, for a model that writes chains."""
        return replace(self._base.info, native=True, roles=True, embeds=False, certain=self._certain)

    @property
    def health(self) -> Health:
        """What troubles any of them."""
        found = [each.health for each in self._engines.values() if isinstance(each, Watched)]
        return Health(
            sum(each.restarts for each in found),
            next((each.trouble for each in found if each.trouble), ""),
            any(each.down for each in found),
            any(each.stalled for each in found),
        )

    def chat(self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str] = ()) -> Replies:
        """Answer messages with the engine of `Sampling.role`."""
        return self._reply(sampling.role, lambda engine: engine.chat(messages, sampling, stop))

    def stream(self, prompt: PromptText, sampling: Sampling, stop: Sequence[str] = ()) -> Replies:
        """Continue raw text with the engine of `Sampling.role`."""
        return self._reply(sampling.role, lambda engine: engine.stream(prompt, sampling, stop))

    def resume(
        self, asked: PromptText | Sequence[Message], sampling: Sampling, stop: Sequence[str], said: Tokens
    ) -> Replies:
        """Go on with the engine of `Sampling.role`."""
        return self._reply(
            sampling.role, lambda engine: cast("Resumer", engine).resume(asked, sampling, stop, said)
        )

    async def _reply(self, role: EngineRole, ask: Callable[[Engine], Replies]) -> AsyncGenerator[Delta, None]:
        async with self._opening:
            if role not in self._engines:
                self._engines[role] = await self._opens[role]()
        async with aclosing(ask(self._engines[role])) as deltas:
            async for delta in deltas:
                yield delta

    async def encode(self, text: str, *, special: bool = False) -> Tokens:
        """Return token ids. All engines have one vocabulary."""
        return await self._base.encode(text, special=special)

    async def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of token ids."""
        return await self._base.decode(tokens)

    async def score(self, texts: Sequence[PromptText]) -> list[tuple[float, ...]]:
        """Score texts as the engine that answers messages does."""
        return await self._base.score(texts)

    async def aclose(self) -> None:
        """Close the engines."""
        async with self._opening:
            await asyncio.gather(*(engine.aclose() for engine in self._engines.values()))
