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
from typing import Any, cast, get_args

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
from redraft.engines.wrapped import Ask, WrappedEngine

ROLES: tuple[EngineRole, ...] = get_args(EngineRole)
_BOUND = re.compile(r"\+([^+]*?)@(answer|revise)(?=\+|$)")


def references_by_role(ref: str) -> dict[EngineRole, str]:
    """Return the reference of each role; nothing if no adapter is bound to one."""

    def of(role: EngineRole) -> str:
        return _BOUND.sub(lambda found: f"+{found[1]}" if found[2] == role else "", ref)

    return {role: of(role) for role in ROLES} if _BOUND.search(ref) else {}


class RoleEngine(WrappedEngine):
    """One engine for each role, opened when it is first asked. Create it with `start`."""

    def __init__(
        self, opens: Mapping[EngineRole, Callable[[], Awaitable[Engine]]], base: Engine, certain: float = 0.0
    ) -> None:
        super().__init__(base)
        self._opens, self._certain = opens, certain
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
        return replace(self._engine.info, native=True, roles=True, embeds=False, certain=self._certain)

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

    def resume(
        self, asked: PromptText | Sequence[Message], sampling: Sampling, stop: Sequence[str], said: Tokens
    ) -> Replies:
        """Go on with the engine of `Sampling.role`."""
        return self._of_role(
            sampling.role, lambda engine: cast("Resumer", engine).resume(asked, sampling, stop, said)
        )

    def _reply(self, request: dict[str, Any], ask: Ask) -> Replies:  # noqa: ARG002  (asks the base)
        asked, sampling, stop = request["asked"], request["sampling"], request["stop"]
        return self._of_role(
            sampling.role, lambda engine: getattr(engine, request["way"])(asked, sampling, stop)
        )

    async def _of_role(
        self, role: EngineRole, ask: Callable[[Engine], Replies]
    ) -> AsyncGenerator[Delta, None]:
        async with self._opening:
            if role not in self._engines:
                self._engines[role] = await self._opens[role]()
        async with aclosing(ask(self._engines[role])) as deltas:
            async for delta in deltas:
                yield delta

    async def aclose(self) -> None:
        """Close the engines."""
        async with self._opening:
            await asyncio.gather(*(engine.aclose() for engine in self._engines.values()))
