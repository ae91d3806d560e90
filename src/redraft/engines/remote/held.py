"""Enforce `max_tokens` on servers that ignore it, because an endless reply costs endless money.

Token ids are counted where the server sends them. Elsewhere the count is a low estimate, so that a server
that keeps to the limit and sends at most one token at a time is never cut:

- a piece is one token; a single ASCII character is a fifth, because some servers send letter by letter
- a piece of 32 characters or more is one token for each 16

A server that ignores the limit and sends several words at a time is cut at about three times the limit.
"""

from __future__ import annotations

from dataclasses import dataclass

from redraft.engines.remote.wire import Chunk

LETTER = 0.2
"""Tokens in a single ASCII character: English has four to five letters a token."""

LONGEST = 16
"""Characters of a long token. Few tokens are longer, apart from runs of white space."""


@dataclass
class Allowance:
    """The tokens that a reply may have.

    Attributes:
        tokens: The limit.
        used: Tokens so far, counted or estimated.
    """

    tokens: int
    used: float = 0.0

    def covers(self, chunk: Chunk) -> bool:
        """Count a piece if it fits. Return whether it does."""
        used = self.used + tokens_in(chunk)
        if used > self.tokens + 1e-6:
            return False
        self.used = used
        return True


def tokens_in(chunk: Chunk) -> float:
    """Estimate the tokens of a piece, rather too few than too many."""
    if chunk.tokens or not chunk.generated:
        return len(chunk.tokens)
    if len(chunk.text) == 1 and chunk.text.isascii():
        return LETTER
    return max(1, len(chunk.text) // LONGEST)
