"""Two engines of one base model as one: one answers, the other criticises and revises.

Adapters bound to a role, as in `default+answers.gguf@answer+critic.gguf@revise`, cost the first answer
nothing: what teaches a model to criticise does not touch the weights that answer. An adapter without a role
belongs to both. The loop says by `Sampling.role` which one writes; the prompt is computed again once, where
the roles change.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from redraft.engines.base import (
    Engine,
    EngineInfo,
    EngineRole,
    Health,
    Message,
    PromptText,
    Replies,
    Sampling,
    Tokens,
    Watched,
)

_BOUND = re.compile(r"\+([^+]*?)@(answer|revise)(?=\+|$)")


def references_by_role(ref: str) -> tuple[str, str] | None:
    """Return the reference that answers and the one that revises; None if no adapter is bound to a role."""
    if not _BOUND.search(ref):
        return None

    def of(role: str) -> str:
        return _BOUND.sub(lambda found: f"+{found[1]}" if found[2] == role else "", ref)

    return of("answer"), of("revise")


class RoleEngine(Engine):
    """Passes each call to the engine of its role. Closing it closes both."""

    def __init__(self, answer: Engine, revise: Engine) -> None:
        self._engines: dict[EngineRole, Engine] = {"answer": answer, "revise": revise}

    @property
    def info(self) -> EngineInfo:
        """That of the engine that answers, for a model that writes chains."""
        return replace(self._engines["answer"].info, native=True, roles=True, embeds=False)

    @property
    def health(self) -> Health:
        """What troubles either of both."""
        both = [each.health for each in self._engines.values() if isinstance(each, Watched)]
        return Health(
            sum(each.restarts for each in both),
            next((each.trouble for each in both if each.trouble), ""),
            any(each.down for each in both),
            any(each.stalled for each in both),
        )

    def chat(self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str] = ()) -> Replies:
        """Answer messages with the engine of `Sampling.role`."""
        return self._engines[sampling.role].chat(messages, sampling, stop)

    def stream(self, prompt: PromptText, sampling: Sampling, stop: Sequence[str] = ()) -> Replies:
        """Continue raw text with the engine of `Sampling.role`."""
        return self._engines[sampling.role].stream(prompt, sampling, stop)

    async def encode(self, text: str, *, special: bool = False) -> Tokens:
        """Return token ids. Both engines have one vocabulary."""
        return await self._engines["answer"].encode(text, special=special)

    async def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of token ids."""
        return await self._engines["answer"].decode(tokens)

    async def score(self, texts: Sequence[PromptText]) -> list[tuple[float, ...]]:
        """Score texts as the engine that answers does."""
        return await self._engines["answer"].score(texts)

    async def aclose(self) -> None:
        """Close both engines."""
        try:
            await self._engines["answer"].aclose()
        finally:
            await self._engines["revise"].aclose()
