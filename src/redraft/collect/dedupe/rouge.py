"""Compare a text with a growing pool by ROUGE-L: the filter of Self-Instruct and Alpaca, but fast.

F = 2·P·R / (P + R), where P and R are the length of the longest common subsequence divided by the words of
either text. The filter drops a text if its F with a kept one is above 0.7. F is computed in the same steps as
in `rouge_score`, so every decision is the same.

A common subsequence cannot be longer than the number of words that both texts have. So an index from words to
texts first rules out nearly all of the pool, and only the rest is compared word by word. The pool takes about
30 bytes per word. Words are not stemmed, as in both filters.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import LCSseq
from rapidfuzz.process import cdist

from redraft.collect.words import words

ALPACA = 0.7  # threshold of Self-Instruct and Alpaca, in their released code
LONGEST = 100_000  # most words to compare: two texts of megabytes would take minutes

_ROUNDING = 1e-9

Floats = NDArray[np.float64]


class Near(NamedTuple):
    """A similar text of the pool: its place and F."""

    place: int
    score: float


class Pool:
    """Texts to compare new ones with.

    Args:
        threshold: Texts with a larger F are similar.
        tokenize: Cuts a text into words; `ascii_words` does it as `rouge_score`.
    """

    def __init__(self, threshold: float = ALPACA, tokenize: Callable[[str], list[str]] = words) -> None:
        self.threshold = threshold
        self._tokenize = tokenize
        self._ids: dict[str, int] = {}
        self._texts: list[array[int]] = []
        self._lengths = array("q")
        self._having: defaultdict[tuple[int, int], array[int]] = defaultdict(lambda: array("i"))

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, text: str) -> None:
        """Add a text without comparing it."""
        coded = array("I", [self._ids.setdefault(word, len(self._ids)) for word in self._words(text)])
        for key in _counted(coded):
            self._having[key].append(len(self._texts))
        self._texts.append(coded)
        self._lengths.append(len(coded))

    def grow(self, text: str) -> Near | None:
        """Add a text, or return the similar one in the pool."""
        near = self.nearest(text)
        if near is None:
            self.add(text)
        return near

    def nearest(self, text: str) -> Near | None:
        """Return the most similar text, the first among equals, or None."""
        return max(self.near(text), key=lambda near: (near.score, -near.place), default=None)

    def near(self, text: str) -> list[Near]:
        """Return all similar texts of the pool, in order."""
        unknown = len(self._ids)  # no text of the pool has it
        coded = array("I", [self._ids.get(word, unknown) for word in self._words(text)])
        indices, lengths = self._possible(coded)
        if not len(indices):
            return []
        cutoff = int(self.threshold * (len(coded) + int(lengths.min())) / 2)
        others = [self._texts[index] for index in indices.tolist()]
        common = cdist([coded], others, scorer=LCSseq.similarity, score_cutoff=cutoff, dtype=np.float64)[0]
        scores = f_measure(common, len(coded), lengths)
        chosen = np.flatnonzero(scores > self.threshold)
        return [Near(int(indices[i]), float(scores[i])) for i in chosen]

    def _words(self, text: str) -> list[str]:
        return self._tokenize(text)[:LONGEST]

    def _possible(self, coded: Sequence[int]) -> tuple[NDArray[np.int64], Floats]:
        """Return places and lengths of the texts with enough common words."""
        lists = [self._having[key] for key in _counted(coded) if key in self._having]
        if not lists:
            return np.empty(0, np.int64), np.empty(0)
        shared = np.bincount(np.concatenate([np.frombuffer(each, np.intc) for each in lists]))
        lengths = np.frombuffer(self._lengths, np.int64)[: len(shared)]
        enough = self.threshold * (1 - _ROUNDING) * (lengths + len(coded))
        found = np.flatnonzero((2 * shared >= enough) & (shared > 0))
        return found, lengths[found].astype(np.float64)


def f_measure(common: Floats, length: int, lengths: Floats) -> Floats:
    """Return ROUGE-L's F, in the order of operations of `rouge_score`, so that ties round alike.

    Args:
        common: Words of the longest common subsequences. Shape: (texts,).
        length: Words of one text, at least 1.
        lengths: Words of the others, each at least 1. Shape: (texts,).
    """
    precision, recall = common / length, common / lengths
    both = precision + recall
    return np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)


def _counted(coded: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Number the repeats of each word, so that texts share a word as often as both have it."""
    seen: defaultdict[int, int] = defaultdict(int)
    for word in coded:
        yield word, seen[word]
        seen[word] += 1
