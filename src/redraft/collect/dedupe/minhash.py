"""Texts that are nearly the same among millions: MinHash with banding, then the exact Jaccard similarity.

A text is the set of its word 3-shingles, each a 48-bit number. MinHash (Broder 1997) gives two sets the same
smallest number under a random order with a probability equal to their Jaccard similarity *s*. With `bands`
keys of `rows` such numbers each, two sets meet in at least one with probability 1 - (1 - s^rows)^bands
(Leskovec, Rajaraman, Ullman, ch. 3): for the usual threshold 0.8 that is 4 rows and 11 bands, hence a recall
of 0.997 at 0.8 exactly and more above. Pairs that meet are compared exactly: no duplicate is a guess.

Where over 33 meet, as thousands that begin with one template do, they are told apart by a second sieve that
loses nothing: two sets of similarity t share one of the rarest (1 - t)·n + 1 shingles of either (prefix
filtering, Chaudhuri, Ganti, Kaushik 2006). If over 33 still stand together, each is compared with the 8 that
follow, so that time stays linear: only there more may be lost, and what stands there is mostly all alike.

Memory: about 30 bytes a shingle and 100 a text while it works.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from redraft.collect.view.shingles import Hashes, digest, normalised, window_hashes, word_hashes, words

SHINGLE = 3
"""Words per shingle."""
THRESHOLD = 0.8
MISSED = 0.005
"""Largest share of missed pairs exactly at the threshold."""
HASHES = 64
"""Most hashes per text: more rows per band mean fewer pairs to compare in vain."""
WINDOW = 32
"""How many that follow it a set is compared with: all, where no more stand together."""
CROWDED = 8
"""With how many where more stand together and nothing tells them apart."""

_VALUE_BITS = 48
_VALUE = np.uint64((1 << _VALUE_BITS) - 1)
_PAIRS = 1 << (64 - _VALUE_BITS)  # that are compared at once: the other bits hold a pair's number
_ROWS = 1 << 22  # shingles that are worked on at once: 32 MB a temporary array
_TABLE_BITS = 22  # of a number, by which its rarity is counted: a table of 32 MB
_GOLDEN, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0x94D049BB133111EB)  # of SplitMix64

Ints = NDArray[np.int64]


class Sets(NamedTuple):
    """Many sets of numbers in two arrays.

    Attributes:
        values: All numbers, set after set, each set in rising order. Shape: (numbers,).
        starts: Where each set begins, and the end of the last. Shape: (sets + 1,).
    """

    values: Hashes
    starts: Ints

    @property
    def sizes(self) -> Ints:
        """How many numbers each set has. Shape: (sets,)."""
        return np.diff(self.starts)

    def __len__(self) -> int:
        return len(self.starts) - 1


def shingles(text: str) -> Hashes:
    """The set of a text's shingles, in rising order. Shape: (shingles,).

    A text of fewer than three words is one shingle, and so is one without words, such as an emoji: they are
    like their equals alone. A text of white space has none, and is like nothing.
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
    possible = ((rows, _bands(threshold**rows)) for rows in range(1, HASHES + 1))
    return max(((rows, bands) for rows, bands in possible if rows * bands <= HASHES), default=(1, HASHES))


def _bands(meet: float) -> int:
    return 1 if meet >= 1 else math.ceil(math.log(MISSED) / math.log1p(-meet))


def clusters(sets: Sets, threshold: float = THRESHOLD) -> Ints:
    """For each set the first set that it hangs together with, over any number of similar pairs.

    Args:
        sets: What to compare. An empty set is like nothing.
        threshold: Jaccard similarity from which two are similar, over 0 and up to 1.

    Returns:
        An index a set, its own if no earlier one hangs together with it. Shape: (sets,).
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
    """For each set the first one that is equal to it; an empty one's is itself."""
    full = np.flatnonzero(sets.sizes)
    labels = np.arange(len(sets))
    if len(full):
        # The sum of spread numbers stands for the set, whose numbers are hashes themselves.
        sums = np.add.reduceat(_ordered(sets.values, 0), sets.starts[:-1][full])
        both = np.stack([sums, sets.sizes[full].astype(np.uint64)])
        order = np.lexsort(both)
        same = (both[:, order][:, 1:] == both[:, order][:, :-1]).all(axis=0)
        run = np.concatenate([[0], np.cumsum(~same)])
        heads = order[np.flatnonzero(np.concatenate([[True], ~same]))]
        labels[full[order]] = full[heads[run]]
    return labels


def _band_keys(sets: Sets, first: int, rows: int) -> Hashes:
    """A number for each set in one band, made of its smallest numbers in `rows` orders. Shape: (sets,)."""
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
    """Give candidate pairs: those of each band, then those of the second sieve."""
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
    """Pairs of members whose keys are equal, up to `most` apart. Keys are in rising order."""
    for distance in range(1, most + 1):
        at = np.flatnonzero(keys[distance:] == keys[:-distance])
        if not len(at):
            return
        yield members[at], members[at + distance]


def _runs(keys: Hashes) -> Ints:
    """For each place in an ordered array how often its value is there."""
    if not len(keys):
        return np.empty(0, np.int64)
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    lengths = np.diff(np.append(starts, len(keys)))
    return np.repeat(lengths, lengths)


def _prefixes(sets: Sets, members: Ints, threshold: float) -> tuple[Ints, Hashes]:
    """The rarest numbers of each member, one of which similar sets share: the member, and the number."""
    parts = [members[part] for part in _parts(sets.sizes[members], len(members))]
    # Rarity may be rough, as long as it orders the numbers of all sets alike.
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
    """The labels after joining what is similar among pairs of sets."""
    sizes = sets.sizes
    small, large = np.minimum(sizes[left], sizes[right]), np.maximum(sizes[left], sizes[right])
    unsure = (labels[left] != labels[right]) & (small >= threshold * large - 1e-9)
    left, right = np.divmod(np.unique(left[unsure] * len(sets) + right[unsure]), len(sets))
    similar = jaccard(sets, left, right) >= threshold - 1e-12
    return _joined(labels, left[similar], right[similar])


def _joined(labels: Ints, left: Ints, right: Ints) -> Ints:
    """Labels after joining pairs: the smallest index of all that hang together."""
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
    """How many numbers the sets of each pair have in common: those that are there twice under a pair."""
    pairs = np.arange(len(left))
    rows = [_rows(sets, each, pairs) for each in (left, right)]
    ordered = np.sort(np.concatenate(rows))
    twice = ordered[:-1][ordered[1:] == ordered[:-1]]
    return np.bincount((twice >> np.uint64(_VALUE_BITS)).astype(np.int64), minlength=len(left))


def _rows(sets: Sets, chosen: Ints, pairs: Ints) -> Hashes:
    """The numbers of the chosen sets, each below the number of its pair."""
    picked = _chosen(sets, chosen)
    return picked.values | (np.repeat(pairs, picked.sizes).astype(np.uint64) << np.uint64(_VALUE_BITS))


def _chosen(sets: Sets, indices: Ints) -> Sets:
    """Some of the sets, in the order of the indices."""
    sizes = sets.sizes[indices]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    at = np.arange(starts[-1]) + np.repeat(sets.starts[indices] - starts[:-1], sizes)
    return Sets(sets.values[at], starts)


def _parts(weights: Ints, most: int) -> Iterator[slice]:
    """Slices of at most so many items and about `_ROWS` in weight, an item at least."""
    ends, start = np.cumsum(weights), 0
    while start < len(weights):
        before = ends[start - 1] if start else 0
        stop = int(np.searchsorted(ends, before + _ROWS, "right"))
        stop = min(max(stop, start + 1), start + most, len(weights))
        yield slice(start, stop)
        start = stop
