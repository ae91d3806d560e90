"""An engine that counts its usage: a judge is called inside checks, but its tokens count for the budget."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

from redraft.chain import Usage
from redraft.engines.base import Delta, Engine
from redraft.engines.remote.wire import estimated_counts
from redraft.engines.wrapped import Ask, Replies, WrappedEngine


class MeteredEngine(WrappedEngine):
    """Add up the usage of an engine's calls.

    Args:
        engine: The engine.
        ended: Called when a call ended, whose usage is added.
    """

    def __init__(self, engine: Engine, ended: Callable[[], None] = lambda: None) -> None:
        super().__init__(engine)
        self._usage, self._ended = Usage(), ended

    def take(self) -> Usage:
        """Return the usage since the last call of this method."""
        usage, self._usage = self._usage, Usage()
        return usage

    async def _reply(self, request: dict[str, Any], ask: Ask) -> Replies:
        seen, size, last = 0, 0, Delta()
        try:
            async with aclosing(ask(request["sampling"])) as deltas:
                async for last in deltas:
                    seen += len(last.tokens) or bool(last.text)
                    size += len(last.text.encode("utf-8", "surrogatepass"))
                    yield last
        except (GeneratorExit, asyncio.CancelledError):
            if last.completion_tokens is None and self.info.engine == "remote":
                last = _cut(request["asked"], size, seen)
            raise
        finally:  # a reply that is cancelled counts too
            self._usage += Usage(
                prompt_tokens=last.prompt_tokens or 0,
                cached_tokens=last.cached_tokens or 0,
                completion_tokens=seen if last.completion_tokens is None else last.completion_tokens,
                estimated=last.estimated,
            )
            self._ended()


def _cut(asked: Any, size: int, seen: int) -> Delta:
    """Return estimated counts of a call that the caller left: its server sends none, and may be paid.

    Whether it had read the prompt is known only if `seen` tokens of `size` bytes had come.
    """
    body = {"messages": asked} if isinstance(asked, list) else {"prompt": asked}
    counts = estimated_counts(body, size, seen)
    return Delta(
        prompt_tokens=counts.prompt if seen else 0, completion_tokens=counts.completion, estimated=True
    )
