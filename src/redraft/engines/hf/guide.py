"""Forms over a batch: llguidance says which tokens each text may go on with, and no others are drawn."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

from redraft.engines.text import Tokenizer

_log = logging.getLogger(__name__)


def installed() -> bool:
    """Return whether texts can be kept to a form."""
    return importlib.util.find_spec("llguidance") is not None


class Guide:
    """What one text may go on with, as far as its grammar holds: llguidance gives up on some."""

    def __init__(self, grammar: str, tokenizer: Tokenizer, ends: frozenset[int]) -> None:
        """Guide a text by a grammar in Lark's syntax. `ends` are the tokens that may end it."""
        from llguidance import LLMatcher

        self._name = tokenizer.name
        self.lost = False
        try:
            known = tokenizer.for_grammars(ends)
        except ValueError as error:  # one that does not spell bytes
            self._lose(str(error))
        else:
            self._matcher = LLMatcher(known, grammar, log_level=0)

    def take(self, token: int) -> None:
        """Go on with a token that was allowed."""
        if not self.lost:
            self._matcher.consume_token(token)

    def allowed(self, size: int) -> torch.Tensor:
        """Return for each token of the vocabulary whether it may come next. Shape: (size,)."""
        mask = b"" if self.lost else self._matcher.compute_bitmask()
        if not self.lost and (error := self._matcher.get_error()):
            self._lose(error)
        if self.lost:
            return torch.ones(size, dtype=torch.bool)
        bits = np.unpackbits(np.frombuffer(mask, dtype=np.uint8), bitorder="little")
        return torch.from_numpy(bits[:size]).bool()

    def _lose(self, error: str) -> None:
        self.lost = True
        _tell(self._name, error)


@lru_cache
def _tell(name: str, error: str) -> None:
    """Log once in this process that a model writes without a form."""
    _log.warning("%s writes without a form, and checks only check: %.200s", name, error)


def guided(logits: torch.Tensor, guides: Sequence[Guide | None]) -> torch.Tensor:
    """Return logits of the shape (sequences, vocabulary) without the tokens that guides do not allow."""
    if not any(guides):
        return logits
    size = logits.shape[-1]
    every = torch.ones(size, dtype=torch.bool)
    allowed = torch.stack([guide.allowed(size) if guide else every for guide in guides])
    return logits.masked_fill(~allowed.to(logits.device), -torch.inf)
