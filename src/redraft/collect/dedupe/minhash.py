"""Find near duplicates among millions of texts: MinHash with banding, then the exact Jaccard similarity.

A text is the set of its word 3-shingles, each a 48-bit number. Under a random order, two sets have the same
smallest number with a probability equal to their Jaccard similarity *s* (MinHash, Broder 1997). A band's key
is made of `rows` such numbers. The probability that two sets share the key of at least one of `bands` bands
is 1 - (1 - s^rows)^bands (Leskovec, Rajaraman, Ullman, ch. 3). The usual threshold 0.8 gives 4 rows and 11
bands: a recall of 0.997 at 0.8 exactly, and more above. Pairs with a common key are compared exactly.

If more than 33 texts share a key, as thousands that begin with one template do, a second sieve selects pairs
without losing any: two sets of similarity t share one of the rarest (1 - t)·n + 1 shingles of either (prefix
filtering, Chaudhuri, Ganti, Kaushik 2006). If more than 33 share such a shingle, each is compared with the
next 8 only, so that time stays linear. Some pairs may be missed there, but most of these texts are alike.

Memory: about 30 bytes per shingle and 100 per text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from redraft.collect.words import Hashes, digest, normalised, window_hashes, word_hashes, words

SHINGLE = 3  # words per shingle
THRESHOLD = 0.8
MISSED = 0.005  # largest share of missed pairs exactly at the threshold
HASHES = 64  # most hashes per text. More rows per band leave fewer dissimilar pairs to compare.
WINDOW = 32  # following sets to compare a set with, in a group of at most one more
CROWDED = 8  # following sets to compare a set with, in larger groups that the second sieve leaves

_VALUE_BITS = 48
_VALUE = np.uint64((1 << _VALUE_BITS) - 1)
_PAIRS = 1 << (64 - _VALUE_BITS)  # pairs to compare at once: the remaining bits hold a pair's number
_ROWS = 1 << 22  # shingles to process at once, in temporary arrays of 32 MB
_TABLE_BITS = 22  # first bits of a number, by which its frequency is counted in a table of 32 MB
_GOLDEN, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0x94D049BB133111EB)  # of SplitMix64

Ints = NDArray[np.int64]


class Sets(NamedTuple):
    """Many sets of numbers in two arrays.

    Attributes:
        values: All numbers, set after set, ascending in each set. Shape: (numbers,).
        starts: The start of each set, and the end of the last. Shape: (sets + 1,).
    """

    values: Hashes
    starts: Ints

    @property
    def sizes(self) -> Ints:
        """The number of values of each set. Shape: (sets,)."""
        return np.diff(self.starts)

    def __len__(self) -> int:
        return len(self.starts) - 1


def shingles(text: str) -> Hashes:
    """Return the set of a text's shingles, ascending. Shape: (shingles,).

    A text of fewer than three words, or without words such as an emoji, is one shingle, so it is similar only
    to equal texts. White space alone has no shingles, and is similar to nothing.
    """
    parts = words(text)
    if len(parts) >= SHINGLE:
        found = window_hashes(word_hashes(parts), SHINGLE)
    else:
        whole = " ".join(parts) or normalised(text)
        found = np.frombuffer(digest(whole)[:8] if whole else b"", np.uint64)
    return np.unique(found & _VALUE)


def sets_of(packed: Sequence[bytes]) -> Sets:
    """Unpack sets from the bytes of `shingles` for each text."""
    sizes = np.fromiter((len(each) // 8 for each in packed), np.int64, len(packed))
    return Sets(np.frombuffer(b"".join(packed), np.uint64), np.concatenate([[0], np.cumsum(sizes)]))


def plan(threshold: float) -> tuple[int, int]:
    """Choose rows and bands: the most rows that miss at most `MISSED` of the pairs at the threshold."""

    def bands(meet: float) -> int:
        return 1 if meet >= 1 else math.ceil(math.log(MISSED) / math.log1p(-meet))

    possible = ((rows, bands(threshold**rows)) for rows in range(1, HASHES + 1))
    return max(((rows, bands) for rows, bands in possible if rows * bands <= HASHES), default=(1, HASHES))


def clusters(sets: Sets, threshold: float = THRESHOLD) -> Ints:
    """Return the first set of each set's cluster. Similar pairs connect sets to clusters.

    Args:
        sets: The sets. An empty one is similar to nothing.
        threshold: Least Jaccard similarity of a similar pair, above 0 and up to 1.

    Returns:
        An index per set: its own if it is the first of its cluster. Shape: (sets,).
    """
    labels = _equals(sets)
    first = np.flatnonzero((labels == np.arange(len(sets))) & (sets.sizes > 0))
    few = _chosen(sets, first)
    linked = np.arange(len(few))
    for left, right in _meeting(few, threshold):
        linked = _linked(few, linked, left, right, threshold)
    labels[first] = first[linked]
    return labels[labels]


def jaccard(sets: Sets, left: Ints, right: Ints) -> NDArray[np.float64]:
    """Return the exact similarity of pairs of set indices. Shape: (pairs,)."""
    sizes = sets.sizes
    result = np.zeros(len(left))
    for part in _parts(sizes[left] + sizes[right], _PAIRS):
        one, other = left[part], right[part]
        shared = _shared(sets, one, other)
        result[part] = shared / np.maximum(sizes[one] + sizes[other] - shared, 1)
    return result


def _equals(sets: Sets) -> Ints:
    """Return the first equal set of each set; for an empty one, itself."""
    full = np.flatnonzero(sets.sizes)
    labels = np.arange(len(sets))
    if len(full):
        # The sum of the mixed numbers identifies a set, because its numbers are hashes.
        sums = np.add.reduceat(_ordered(sets.values, 0), sets.starts[:-1][full])
        both = np.stack([sums, sets.sizes[full].astype(np.uint64)])
        order = np.lexsort(both)
        same = (both[:, order][:, 1:] == both[:, order][:, :-1]).all(axis=0)
        run = np.concatenate([[0], np.cumsum(~same)])
        heads = order[np.flatnonzero(np.concatenate([[True], ~same]))]
        labels[full[order]] = full[heads[run]]
    return labels


def _band_keys(sets: Sets, first: int, rows: int) -> Hashes:
    """Return each set's key in a band, made of its smallest numbers in `rows` orders. Shape: (sets,)."""
    keys = np.zeros(len(sets), np.uint64)
    for part in _parts(sets.sizes, len(sets)):
        values = sets.values[sets.starts[part.start] : sets.starts[part.stop]]
        starts = sets.starts[part] - sets.starts[part.start]
        for row in range(first, first + rows):
            keys[part] = _combined(keys[part], np.minimum.reduceat(_ordered(values, row), starts))
    return keys


def _ordered(values: Hashes, row: int) -> Hashes:
    """Permute values pseudo-randomly; a row number always gives the same order."""
    seed = int.from_bytes(blake2b(b"minhash %d" % row, digest_size=16).digest(), "little")
    mixed = (values ^ np.uint64(seed >> 64)) * np.uint64(seed & (2**64 - 1) | 1)
    mixed ^= mixed >> np.uint64(29)
    return mixed * _MIX


def _combined(one: Hashes, other: Hashes) -> Hashes:
    return (one ^ (one >> np.uint64(31))) * _GOLDEN + other


def _meeting(sets: Sets, threshold: float) -> Iterator[tuple[Ints, Ints]]:
    """Give candidate pairs: first of each band, then of the second sieve."""
    crowd = np.zeros(len(sets), np.bool_)
    rows, bands = plan(threshold)
    for band in range(bands):
        keys = _band_keys(sets, band * rows, rows)
        order = np.argsort(keys, kind="stable")
        crowded = _runs(keys[order]) > WINDOW + 1
        crowd[order[crowded]] = True
        yield from _windows(keys[order][~crowded], order[~crowded], WINDOW)
    if crowd.any():
        owners, rare = _prefixes(sets, np.flatnonzero(crowd), threshold)
        order = np.argsort(rare, kind="stable")
        keys, members = rare[order], owners[order]
        crowded = _runs(keys) > WINDOW + 1
        yield from _windows(keys[~crowded], members[~crowded], WINDOW)
        yield from _windows(keys[crowded], members[crowded], CROWDED)


def _windows(keys: Hashes, members: Ints, most: int) -> Iterator[tuple[Ints, Ints]]:
    """Yield pairs of members with equal keys, up to `most` places apart. Keys are ascending."""
    for distance in range(1, most + 1):
        at = np.flatnonzero(keys[distance:] == keys[:-distance])
        if not len(at):
            return
        yield members[at], members[at + distance]


def _runs(keys: Hashes) -> Ints:
    """Return how often the value at each place of a sorted array occurs."""
    if not len(keys):
        return np.empty(0, np.int64)
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    lengths = np.diff(np.append(starts, len(keys)))
    return np.repeat(lengths, lengths)


def _prefixes(sets: Sets, members: Ints, threshold: float) -> tuple[Ints, Hashes]:
    """Return the rarest numbers of each member. Similar sets share at least one of them."""
    parts = [members[part] for part in _parts(sets.sizes[members], len(members))]
    # Frequencies may be approximate, as long as they order the numbers of all sets alike.
    frequency = np.zeros(1 << _TABLE_BITS, np.int64)
    for part in parts:
        frequency += np.bincount(_slots(_chosen(sets, part).values), minlength=len(frequency))
    owners, rare = [], []
    for part in parts:
        few = _chosen(sets, part)
        place = np.repeat(np.arange(len(few)), few.sizes)
        order = np.lexsort((few.values, frequency[_slots(few.values)], place))
        within = np.arange(len(place)) - np.repeat(few.starts[:-1], few.sizes)
        length = few.sizes - np.ceil(threshold * few.sizes - 1e-9).astype(np.int64) + 1
        kept = within < np.repeat(length, few.sizes)
        owners.append(part[place[kept]])
        rare.append(few.values[order][kept])
    return np.concatenate(owners), np.concatenate(rare)


def _slots(values: Hashes) -> Ints:
    return (values >> np.uint64(_VALUE_BITS - _TABLE_BITS)).astype(np.int64)


def _linked(sets: Sets, labels: Ints, left: Ints, right: Ints, threshold: float) -> Ints:
    """Return the labels after joining the similar ones of some pairs."""
    sizes = sets.sizes
    small, large = np.minimum(sizes[left], sizes[right]), np.maximum(sizes[left], sizes[right])
    unsure = (labels[left] != labels[right]) & (small >= threshold * large - 1e-9)
    left, right = np.divmod(np.unique(left[unsure] * len(sets) + right[unsure]), len(sets))
    similar = jaccard(sets, left, right) >= threshold - 1e-12
    return _joined(labels, left[similar], right[similar])


def _joined(labels: Ints, left: Ints, right: Ints) -> Ints:
    """Return the labels after joining pairs: the smallest index of each cluster."""
    while len(left):
        one, other = labels[left], labels[right]
        low, high = np.minimum(one, other), np.maximum(one, other)
        np.minimum.at(labels, high, low)
        while not np.array_equal(labels, labels[labels]):
            labels = labels[labels]
        apart = labels[left] != labels[right]
        left, right = left[apart], right[apart]
    return labels


def _shared(sets: Sets, left: Ints, right: Ints) -> Ints:
    """Return how many numbers the two sets of each pair share: those that occur twice for a pair."""
    pairs = np.arange(len(left))
    rows = [_rows(sets, each, pairs) for each in (left, right)]
    ordered = np.sort(np.concatenate(rows))
    twice = ordered[:-1][ordered[1:] == ordered[:-1]]
    return np.bincount((twice >> np.uint64(_VALUE_BITS)).astype(np.int64), minlength=len(left))


def _rows(sets: Sets, chosen: Ints, pairs: Ints) -> Hashes:
    """Return the numbers of the chosen sets, with the number of the pair in the first bits."""
    picked = _chosen(sets, chosen)
    return picked.values | (np.repeat(pairs, picked.sizes).astype(np.uint64) << np.uint64(_VALUE_BITS))


def _chosen(sets: Sets, indices: Ints) -> Sets:
    sizes = sets.sizes[indices]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    at = np.arange(starts[-1]) + np.repeat(sets.starts[indices] - starts[:-1], sizes)
    return Sets(sets.values[at], starts)


def _parts(weights: Ints, most: int) -> Iterator[slice]:
    """Yield slices of 1 to `most` items, with a total weight of about `_ROWS`."""
    ends, start = np.cumsum(weights), 0
    while start < len(weights):
        before = ends[start - 1] if start else 0
        stop = int(np.searchsorted(ends, before + _ROWS, "right"))
        stop = min(max(stop, start + 1), start + most, len(weights))
        yield slice(start, stop)
        start = stop
