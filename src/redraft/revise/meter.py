"""Count the tokens and seconds of one call, by step of the chain."""

from __future__ import annotations

from collections.abc import Callable

from redraft.chain import Usage
from redraft.engines.base import Delta


class Meter:
    """Tokens and seconds of one call, by index of the step they belong to."""

    def __init__(self, clock: Callable[[], float], index: int) -> None:
        self._clock = clock
        self._last = clock()
        self._tokens = {index: 0}
        self._seconds = {index: 0.0}

    def count(self, delta: Delta, index: int) -> None:
        """Count a delta for a step. A delta with text but no token ids counts as one token."""
        now = self._clock()
        self._seconds[index] = self._seconds.get(index, 0.0) + now - self._last
        self._tokens[index] = self._tokens.get(index, 0) + (len(delta.tokens) or bool(delta.text))
        self._last = now

    def usages(self, last: Delta) -> dict[int, Usage]:
        """Return each step's usage. The counts of the last delta, where it has any, override ours.

        The prompt counts for the step in which the call began.
        """
        first, *_ = self._tokens
        *_, final = self._tokens
        if last.completion_tokens is not None:
            self._tokens[final] += last.completion_tokens - sum(self._tokens.values())
        used = {
            index: Usage(completion_tokens=max(tokens, 0), seconds=round(self._seconds[index], 4))
            for index, tokens in self._tokens.items()
        }
        prompt = Usage(prompt_tokens=last.prompt_tokens or 0, cached_tokens=last.cached_tokens or 0)
        used[first] += prompt
        return used
