"""Holds a server to `max_tokens`: some ignore it, and a reply without an end would be paid for without end.

Token ids are counted where the server gives them. Elsewhere the count is an estimate. It is never above the
truth for a server that sends at most a token at a time, so that no honest reply is cut:

- a piece is one token; a single ASCII character is a fifth, since some servers send letter by letter
- a piece of more than 16 characters is a token for each 16 of them

A server that ignores the limit and sends several words at a time is cut after about three times as much.
"""

from __future__ import annotations

from dataclasses import dataclass

from redraft.engines.remote.wire import Chunk

LETTER = 0.2
"""Tokens that a single ASCII character stands for at least: English has four to five letters a token."""

LONGEST = 16
"""Characters that a token has at most, but for runs of white space and the like."""


@dataclass
class Allowance:
    """What a reply may still have.

    Attributes:
        tokens: Most tokens of the reply.
        used: Tokens so far: counted, or estimated.
    """

    tokens: int
    used: float = 0.0

    def covers(self, chunk: Chunk) -> bool:
        """Count a piece. Return whether it still fits; one that does not is not counted."""
        used = self.used + tokens_in(chunk)
        if used > self.tokens + 1e-6:
            return False
        self.used = used
        return True


def tokens_in(chunk: Chunk) -> float:
    """Return the least number of tokens that a piece can have."""
    if chunk.tokens or not chunk.generated:
        return len(chunk.tokens)
    if len(chunk.text) == 1 and chunk.text.isascii():
        return LETTER
    return max(1, len(chunk.text) // LONGEST)
