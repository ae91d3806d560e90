"""An engine whose replies are stored in a journal: interrupted work is replayed without paying again.

A reply is stored when it is complete, before its end is passed on. The key holds everything that determines
it: the model and its settings, the wording, the sampling, the item, and how often that item has asked the
very same thing before (a second sample is another reply). A reply that the caller closes early, as native
revision does to force a revision, is not stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from redraft.engines.base import Delta, Engine, EngineInfo, Message, PromptText, Sampling, Tokens
from redraft.jobs.journal import Journal, key_of


class JournaledEngine:
    """Another engine, with its replies taken from a journal where they are there. Closing it closes neither.

    Args:
        engine: The engine that is asked for what the journal lacks.
        journal: Where replies are stored.
        identity: JSON values that tell this model from every other: reference, files, server, adapters.
        scope: What the calls are for, such as an item's id. Equal calls in two scopes get separate replies.
    """

    def __init__(self, engine: Engine, journal: Journal, *, identity: Any, scope: str) -> None:
        self._engine = engine
        self._journal = journal
        self._about = {"identity": identity, "model": engine.info.name, "scope": scope}
        self._asked: Counter[str] = Counter()

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
        """As the other engine does, unless the reply is in the journal."""
        key = self._key("stream", prompt, sampling, stop)
        return self._reply(key, lambda: self._engine.stream(prompt, sampling, stop))

    def chat(
        self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str] = ()
    ) -> AsyncGenerator[Delta, None]:
        """As the other engine does, unless the reply is in the journal."""
        key = self._key("chat", list(messages), sampling, stop)
        return self._reply(key, lambda: self._engine.chat(messages, sampling, stop))

    async def aclose(self) -> None:
        """Nothing: whoever opened the engine and the journal closes them."""

    def _key(self, way: str, asked: Any, sampling: Sampling, stop: Sequence[str]) -> str:
        request = {
            **self._about,
            "way": way,
            "asked": asked,
            "sampling": asdict(sampling),
            "stop": list(stop),
        }
        key = key_of(request)
        number = self._asked[key]
        self._asked[key] += 1
        return key_of([key, number])

    async def _reply(
        self, key: str, ask: Callable[[], AsyncGenerator[Delta, None]]
    ) -> AsyncGenerator[Delta, None]:
        stored = self._journal.get(key)
        if stored is not None:
            for fields in stored:
                yield Delta(**{**fields, "tokens": tuple(fields.get("tokens", ()))})
            return
        deltas: list[Delta] = []
        async with aclosing(ask()) as stream:
            async for delta in stream:
                deltas.append(delta)
                if delta.finish:
                    self._journal.put(key, [_set_fields(each) for each in deltas])
                yield delta


def _set_fields(delta: Delta) -> dict[str, Any]:
    """The fields of a delta that are not at their default."""
    return {name: value for name, value in asdict(delta).items() if value not in (None, "", ())}
