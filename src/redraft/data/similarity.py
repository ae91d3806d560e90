"""Find similar texts: by ROUGE-L in a growing pool, and by Jaccard similarity among millions.

`Pool` is a fast version of the filter of Self-Instruct and Alpaca. F = 2·P·R / (P + R), where P and R are the
length of the longest common subsequence divided by the number of words of each text. The filter drops a text
if F with a kept text is above 0.7. F is computed in the same steps as in `rouge_score`, so every decision is
the same. A common subsequence cannot be longer than the number of shared words. So an index from words to
texts first rules out nearly all of the pool, and only the remaining texts are compared word by word. The pool
needs about 30 bytes per word. As in Self-Instruct and Alpaca, words are not stemmed.

`clusters` finds pairs of texts with a Jaccard similarity of at least *t*. A text is represented by the set of
word 3-shingles, each a 48-bit number. Two sets of similarity t share one of the (1 - t)·n + 1 rarest shingles
of either set, where n is the set's size (prefix filtering, Chaudhuri, Ganti, Kaushik 2006). So only texts
that share a rare shingle are compared. The comparison is exact, whereas MinHash would miss a few pairs. If
over 129 texts share a shingle, such as a template's first words, each text is compared only with the next 32
texts. So time stays linear, but pairs may be missed. Memory: about 30 bytes per shingle and 100 per text.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import LCSseq
from rapidfuzz.process import cdist

from redraft.data.words import Hashes, digest, normalised, run_hashes, words

ALPACA = 0.7  # threshold of Self-Instruct and Alpaca, in their released code
_LONGEST = 100_000  # most words to compare: two texts of megabytes would take minutes

_ROUNDING = 1e-9

Floats = NDArray[np.float64]


class Near(NamedTuple):
    """A similar text in the pool: the index, and the ROUGE-L F as `score`."""

    place: int
    score: float


class Pool:
    """Texts to compare new texts with. Two texts are similar if the ROUGE-L F is above `threshold`."""

    def __init__(self, threshold: float = ALPACA) -> None:
        self.threshold = threshold
        self._ids: dict[str, int] = {}
        self._texts: list[array[int]] = []
        self._lengths = array("q")
        self._having: defaultdict[tuple[int, int], array[int]] = defaultdict(lambda: array("i"))

    def add(self, text: str) -> None:
        """Add a text without a comparison."""
        coded = array("I", [self._ids.setdefault(word, len(self._ids)) for word in words(text)[:_LONGEST]])
        for key in _counted(coded):
            self._having[key].append(len(self._texts))
        self._texts.append(coded)
        self._lengths.append(len(coded))

    def nearest(self, text: str) -> Near | None:
        """Return the most similar text of the pool, or None if no text is similar."""
        return max(self.near(text), key=lambda near: (near.score, -near.place), default=None)

    def near(self, text: str) -> list[Near]:
        """Return all similar texts of the pool, in order."""
        unknown = len(self._ids)  # stands for all words that no text of the pool contains
        coded = array("I", [self._ids.get(word, unknown) for word in words(text)[:_LONGEST]])
        if not (lists := [self._having[key] for key in _counted(coded) if key in self._having]):
            return []
        shared = np.bincount(np.concatenate([np.frombuffer(each, np.intc) for each in lists]))
        sizes = np.frombuffer(self._lengths, np.int64)[: len(shared)]
        enough = self.threshold * (1 - _ROUNDING) * (sizes + len(coded))
        indices = np.flatnonzero((2 * shared >= enough) & (shared > 0))
        if not len(indices):
            return []
        lengths = sizes[indices].astype(np.float64)
        cutoff = int(self.threshold * (len(coded) + int(lengths.min())) / 2)
        others = [self._texts[index] for index in indices.tolist()]
        common = cdist([coded], others, scorer=LCSseq.similarity, score_cutoff=cutoff, dtype=np.float64)[0]
        # Compute F in the order of operations of `rouge_score`, so that ties round alike.
        precision, recall = common / len(coded), common / lengths
        both = precision + recall
        scores = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
        return [Near(int(indices[i]), float(scores[i])) for i in np.flatnonzero(scores > self.threshold)]


def _counted(coded: Sequence[int]) -> Iterator[tuple[int, int]]:
    seen: defaultdict[int, int] = defaultdict(int)
    for word in coded:
        yield word, seen[word]
        seen[word] += 1


SHINGLE = 3  # words per shingle
THRESHOLD = 0.8
WINDOW = 128  # following sets to compare a set with, in a group of at most 1 + WINDOW
CROWDED = 32  # following sets to compare a set with, in larger groups

_VALUE_BITS = 48
_VALUE = np.uint64((1 << _VALUE_BITS) - 1)
_PAIRS = 1 << (64 - _VALUE_BITS)  # sets or pairs to process at once: the remaining bits hold their index
_ROWS = 1 << 20  # shingles or bytes to process at once, in temporary arrays of 8 MB
_TABLE_BITS = 22  # leading bits of a number: frequencies are counted by these, in a table of 32 MB
_COMMON_BITS = 12  # bits of a frequency: more frequent numbers count as equally frequent
_MIX = np.uint64(0x94D049BB133111EB)  # of SplitMix64

_Ints = NDArray[np.int64]


class Sets(NamedTuple):
    """Many sets of numbers in two arrays."""

    values: Hashes  # all numbers, set after set, ascending in each set. Shape: (numbers,).
    starts: _Ints  # the start of each set, and the end of the last. Shape: (sets + 1,).

    @property
    def sizes(self) -> _Ints:
        """The number of values of each set. Shape: (sets,)."""
        return np.diff(self.starts)

    def __len__(self) -> int:
        return len(self.starts) - 1


def coded(text: str) -> bytes:
    """Return a text's words, joined by single spaces, for `sets_of`.

    A text of fewer than three words is similar only to equal texts. A blank text is similar to no text.
    """
    if parts := words(text):
        return " ".join(parts).encode()
    whole = normalised(text)
    return digest(whole).hex().encode() if whole else b""


def sets_of(texts: Sequence[bytes]) -> Sets:
    """Return the sets of shingles of many coded texts."""
    values, sizes = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for part in _parts(np.fromiter(map(len, texts), np.int64, len(texts)), _PAIRS):
        few = [texts[place] for place in range(part.start, part.stop)]
        counts = np.fromiter((each.count(b" ") + bool(each) for each in few), np.int64, len(few))
        owners, places = np.repeat(np.arange(len(few)), counts), np.arange(counts.sum())
        last, after = np.cumsum(counts)[owners] - 1, places + SHINGLE - 1
        begins = (after <= last) | (places == last + 1 - counts[owners])
        hashes = run_hashes(b" ".join(filter(None, few)), places[begins], np.minimum(after, last)[begins])
        found = np.sort(hashes & _VALUE | owners[begins].astype(np.uint64) << np.uint64(_VALUE_BITS))
        found = found[_begins(found)]  # `np.unique` takes twenty times as long
        values.append(found & _VALUE)
        sizes.append(np.bincount((found >> np.uint64(_VALUE_BITS)).astype(np.int64), minlength=len(few)))
    return Sets(np.concatenate(values), np.concatenate([[0], np.cumsum(np.concatenate(sizes))]))


def _begins(values: NDArray[Any]) -> NDArray[np.bool_]:
    return np.append(True, values[1:] != values[:-1])[: len(values)]


def clusters(sets: Sets, threshold: float = THRESHOLD) -> _Ints:
    """Return, for each set, the index of the first set in the same cluster. Shape: (sets,).

    Clusters are the connected components of the graph of pairs with a Jaccard similarity of at least
    `threshold` (above 0). An empty set is similar to no set.
    """
    # The sum of a set's mixed numbers identifies it, because its numbers are hashes.
    mixed, full = sets.values * _MIX, sets.sizes > 0
    mixed ^= mixed >> np.uint64(29)
    labels = equals(full, np.add.reduceat(mixed, sets.starts[:-1][full]) if full.any() else mixed)
    del mixed  # a sixth of the memory
    first = np.flatnonzero((labels == np.arange(len(sets))) & (sets.sizes > 0))
    few = _chosen(sets, first)
    sizes, linked = few.sizes, np.arange(len(few))
    for left, right in _meeting(few, threshold):
        small, large = np.minimum(sizes[left], sizes[right]), np.maximum(sizes[left], sizes[right])
        unsure = (linked[left] != linked[right]) & (small >= threshold * large - 1e-9)
        pairs = np.sort(left[unsure] * len(few) + right[unsure])
        one, other = np.divmod(pairs[_begins(pairs)], len(few))
        similar = jaccard(few, one, other) >= threshold - 1e-12
        linked = _joined(linked, one[similar], other[similar])
    labels[first] = first[linked]
    return labels[labels]


def equals(full: NDArray[np.bool_], *columns: Hashes) -> _Ints:
    """Return, for each item, the index of the first item with the same value in each column. Shape: (items,).

    A column has a value for each item that is True in `full`. Items that are False equal only themselves.
    """
    labels, places = np.arange(len(full)), np.flatnonzero(full)
    order = np.lexsort(columns)
    first = np.any([_begins(column[order]) for column in columns], axis=0)
    labels[places[order]] = places[order[first]][np.cumsum(first) - 1]
    return labels


def jaccard(sets: Sets, left: _Ints, right: _Ints) -> NDArray[np.float64]:
    """Return the exact Jaccard similarity of pairs of sets, given by indices. Shape: (pairs,)."""
    sizes, result = sets.sizes, np.zeros(len(left))
    for part in _parts(sizes[left] + sizes[right], _PAIRS):
        one, other = left[part], right[part]
        rows = []
        for picked in (_chosen(sets, one), _chosen(sets, other)):
            # The index of the pair goes to the leading bits.
            pairs = np.repeat(np.arange(len(one)), picked.sizes).astype(np.uint64)
            rows.append(picked.values | (pairs << np.uint64(_VALUE_BITS)))
        ordered = np.sort(np.concatenate(rows))
        twice = ordered[:-1][ordered[1:] == ordered[:-1]]
        shared = np.bincount((twice >> np.uint64(_VALUE_BITS)).astype(np.int64), minlength=len(one))
        result[part] = shared / np.maximum(sizes[one] + sizes[other] - shared, 1)
    return result


def _meeting(sets: Sets, threshold: float) -> Iterator[tuple[_Ints, _Ints]]:
    owners, rare = _prefixes(sets, threshold)
    order = np.argsort(rare, kind="stable")
    keys, members, at = rare[order], owners[order], np.arange(len(order))
    del owners, rare, order
    group = np.cumsum(_begins(keys)) - 1
    most = np.where(np.bincount(group)[group] > WINDOW + 1, CROWDED, WINDOW).astype(np.uint8)
    del group
    for distance in range(1, WINDOW + 1):
        at = at[(at < len(keys) - distance) & (most[at] >= distance)]
        at = at[keys[at] == keys[at + distance]]
        yield members[at], members[at + distance]


def _prefixes(sets: Sets, threshold: float) -> tuple[_Ints, Hashes]:
    cuts = _parts(sets.sizes, _PAIRS)
    parts = [(part, sets.values[slice(*sets.starts[[part.start, part.stop]])]) for part in cuts]
    # Frequencies may be approximate, as long as they order the numbers of all sets alike.
    frequency = np.zeros(1 << _TABLE_BITS, np.int64)
    for _, values in parts:
        frequency += np.bincount(_slots(values), minlength=len(frequency))
    np.minimum(frequency, (1 << _COMMON_BITS) - 1, out=frequency)
    owners, rare = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
    for part, values in parts:
        sizes = sets.sizes[part]
        place = np.repeat(np.arange(len(sizes)), sizes)
        first = (place << _COMMON_BITS | frequency[_slots(values)]) << _VALUE_BITS - _COMMON_BITS
        ordered = np.sort(first.astype(np.uint64) | values >> np.uint64(_COMMON_BITS))
        within = np.arange(len(place)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        kept = within <= np.repeat(sizes - np.ceil(threshold * sizes - 1e-9), sizes)
        owners.append(part.start + place[kept])
        rare.append(ordered[kept] & _VALUE)
    return np.concatenate(owners), np.concatenate(rare)


def _slots(values: Hashes) -> _Ints:
    return (values >> np.uint64(_VALUE_BITS - _TABLE_BITS)).astype(np.int64)


def _joined(labels: _Ints, left: _Ints, right: _Ints) -> _Ints:
    while len(left):
        one, other = labels[left], labels[right]
        low, high = np.minimum(one, other), np.maximum(one, other)
        np.minimum.at(labels, high, low)
        while not np.array_equal(labels, labels[labels]):
            labels = labels[labels]
        apart = labels[left] != labels[right]
        left, right = left[apart], right[apart]
    return labels


def _chosen(sets: Sets, indices: _Ints) -> Sets:
    sizes = sets.sizes[indices]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    at = np.arange(starts[-1])
    at += np.repeat(sets.starts[indices] - starts[:-1], sizes)
    return Sets(sets.values[at], starts)


def _parts(weights: _Ints, most: int) -> Iterator[slice]:
    ends, start = np.cumsum(weights), 0
    while start < len(weights):
        before = ends[start - 1] if start else 0
        stop = int(np.searchsorted(ends, before + _ROWS, "right"))
        stop = min(max(stop, start + 1), start + most, len(weights))
        yield slice(start, stop)
        start = stop
