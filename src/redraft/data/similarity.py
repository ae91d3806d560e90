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
texts. So time stays linear, but pairs may be missed. Memory: about 15 bytes per shingle and 60 per text.
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
_ROWS = 1 << 17  # shingles or bytes to process at once, in temporary arrays of 1 MB
_TABLE_BITS = 22  # leading bits of a number: frequencies are counted by these, in a table of 16 MB
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
    lengths = np.fromiter((each.count(b" ") + bool(each) for each in texts), np.int32, len(texts))
    values, starts = np.empty(lengths.sum(), np.uint64), np.zeros(len(texts) + 1, np.int64)
    for part in _parts(np.fromiter(map(len, texts), np.int32, len(texts)), _PAIRS):
        few, counts = [texts[place] for place in range(part.start, part.stop)], lengths[part]
        owners, places = np.repeat(np.arange(len(few)), counts), np.arange(counts.sum())
        last, after = np.cumsum(counts)[owners] - 1, places + SHINGLE - 1
        begins = (after <= last) | (places == last + 1 - counts[owners])
        hashes = run_hashes(b" ".join(filter(None, few)), places[begins], np.minimum(after, last)[begins])
        found = np.sort(hashes & _VALUE | owners[begins].astype(np.uint64) << np.uint64(_VALUE_BITS))
        found = found[_begins(found)]  # `np.unique` takes twenty times as long
        sizes = np.bincount((found >> np.uint64(_VALUE_BITS)).astype(np.int64), minlength=len(few))
        start = starts[part.start]
        starts[part.start + 1 : part.stop + 1] = start + np.cumsum(sizes)
        values[start : start + len(found)] = found & _VALUE
    return Sets(values[: starts[-1]], starts)


def _begins(values: NDArray[Any]) -> NDArray[np.bool_]:
    return np.append(True, values[1:] != values[:-1])[: len(values)]


def clusters(sets: Sets, threshold: float = THRESHOLD) -> _Ints:
    """Return, for each set, the index of the first set in the same cluster. Shape: (sets,).

    Clusters are the connected components of the graph of pairs with a Jaccard similarity of at least
    `threshold` (above 0). An empty set is similar to no set.
    """
    sizes = sets.sizes
    labels = equals(sizes > 0, _sums(sets))
    first = np.flatnonzero((labels == np.arange(len(sets))) & (sizes > 0))
    for left, right in _meeting(sets, first, threshold):
        small, large = np.minimum(sizes[left], sizes[right]), np.maximum(sizes[left], sizes[right])
        unsure = (labels[left] != labels[right]) & (small >= threshold * large - 1e-9)
        pairs = np.sort(left[unsure] * len(sets) + right[unsure])
        one, other = np.divmod(pairs[_begins(pairs)], len(sets))
        similar = jaccard(sets, one, other) >= threshold - 1e-12
        labels = _joined(labels, one[similar], other[similar])
    return labels


def _sums(sets: Sets) -> Hashes:
    """Return the sum of the hashed numbers of each set that is not empty. The sum identifies the set."""
    sums = [np.empty(0, np.uint64)]
    full = np.flatnonzero(sets.sizes)
    for part in _parts(sets.sizes[full], _PAIRS):
        some = _chosen(sets, full[part])
        mixed = some.values * _MIX
        mixed ^= mixed >> np.uint64(29)
        sums.append(np.add.reduceat(mixed, some.starts[:-1]))
    return np.concatenate(sums)


def equals(full: NDArray[np.bool_], *columns: Hashes) -> _Ints:
    """Return, for each item, the index of the first item with the same value in each column. Shape: (items,).

    The mask `full` marks the items to compare. Each column has the values of the marked items. Other items
    equal only themselves.
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


def _meeting(sets: Sets, places: _Ints, threshold: float) -> Iterator[tuple[_Ints, _Ints]]:
    owners, rare = _prefixes(sets, places, threshold)
    order = np.argsort(rare, kind="stable")
    rare.sort()  # in place
    begins = _begins(rare)
    shared = ~begins | ~np.append(begins[1:], True)[: len(begins)]
    keys, members = rare[shared], owners[order[shared]]
    del owners, rare, order, begins, shared
    at = np.arange(len(keys))
    counts = np.diff(np.flatnonzero(_begins(keys)), append=len(keys))
    most = np.repeat(np.where(counts > WINDOW + 1, CROWDED, WINDOW).astype(np.uint8), counts)
    for distance in range(1, WINDOW + 1):
        at = at[(at < len(keys) - distance) & (most[at] >= distance)]
        at = at[keys[at] == keys[at + distance]]
        yield members[at].astype(np.int64), members[at + distance].astype(np.int64)


def _prefixes(sets: Sets, places: _Ints, threshold: float) -> tuple[NDArray[np.int32], Hashes]:
    sizes = sets.sizes[places]
    counts, parts = sizes - np.ceil(threshold * sizes - 1e-9).astype(np.int64) + 1, [*_parts(sizes, _PAIRS)]
    # Frequencies may be approximate, as long as they order the numbers of all sets alike.
    frequency = np.zeros(1 << _TABLE_BITS, np.int32)
    for part in parts:
        np.add.at(frequency, _slots(_chosen(sets, places[part]).values), 1)
    np.minimum(frequency, (1 << _COMMON_BITS) - 1, out=frequency)
    owners = np.repeat(places.astype(np.int32), counts)
    rare, end = np.empty(len(owners), np.uint64), 0
    for part in parts:
        some = _chosen(sets, places[part])
        values, sizes = some.values, some.sizes
        place = np.repeat(np.arange(len(sizes)), sizes)
        first = (place << _COMMON_BITS | frequency[_slots(values)]) << _VALUE_BITS - _COMMON_BITS
        ordered = np.sort(first.astype(np.uint64) | values >> np.uint64(_COMMON_BITS))
        within = np.arange(len(place)) - some.starts[place]
        start, end = end, end + counts[part].sum()
        rare[start:end] = ordered[within < counts[part][place]] & _VALUE
    return owners, rare


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
