"""Puts examples into rows of a fixed number of tokens, so that hardly a place stays empty.

Best fit, the longest first: an example goes into the row that has the least room which is enough, or begins a
row. That wastes at most 2/9 more than the best packing can, and next to nothing on data of many lengths (D.
S. Johnson et al., "Worst-case performance bounds for simple one-dimensional packing algorithms", SIAM J.
Comput. 3(4), 1974). No example is split. Examples of one length are interchangeable, so a seed decides which
of them meet, and any seed gives as many rows of the same lengths.

That examples of one row do not see each other is not done here, but by position ids that begin anew
(`train.batches`) and by attention that heeds them (`train.attention`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redraft.errors import UsageError

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rows:
    """Which examples stand in which row.

    Attributes:
        members: int64 [examples]: the numbers of the examples, one row after the other.
        starts: int64 [rows + 1]: where each row begins in `members`, and its end.
        lengths: int64 [rows]: tokens in each row.
        capacity: Tokens that a row has room for.
    """

    members: Ints
    starts: Ints
    lengths: Ints
    capacity: int

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> Ints:
        """The numbers of the examples in a row."""
        return self.members[self.starts[row] : self.starts[row + 1]]

    @property
    def efficiency(self) -> float:
        """The share of all places that hold a token, 0 to 1."""
        return float(self.lengths.sum()) / (len(self) * self.capacity) if len(self) else 1.0


def pack(lengths: Ints, capacity: int, seed: int = 0) -> Rows:
    """Rows of at most `capacity` tokens, each example in one of them.

    Args:
        lengths: int64 [examples]: tokens of each example.
        capacity: Tokens that a row has room for.
        seed: Decides which of the examples of one length meet.

    Raises:
        UsageError: An example is longer than a row.
    """
    _insist_that_they_fit(lengths, capacity)
    ties = np.random.default_rng(seed).permutation(len(lengths))
    order = ties[np.argsort(-lengths[ties], kind="stable")]
    rows: list[list[int]] = []
    having: list[list[int]] = [[] for _ in range(capacity + 1)]  # rows by the room they have
    rooms = 0  # bit n is set where some row has room for n
    for example, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        enough = rooms >> length
        if enough:
            room = length + (enough & -enough).bit_length() - 1
            row = having[room].pop()
            rooms ^= 0 if having[room] else 1 << room
            rows[row].append(example)
        else:
            room, row = capacity, len(rows)
            rows.append([example])
        having[room - length].append(row)
        rooms |= 1 << (room - length)
    return _rows(rows, lengths, capacity)


def one_a_row(lengths: Ints, capacity: int) -> Rows:
    """Each example in a row of its own, in their order.

    Raises:
        UsageError: An example is longer than a row.
    """
    _insist_that_they_fit(lengths, capacity)
    count = len(lengths)
    return Rows(np.arange(count, dtype=np.int64), np.arange(count + 1, dtype=np.int64), lengths, capacity)


def _insist_that_they_fit(lengths: Ints, capacity: int) -> None:
    longest = int(lengths.max(initial=0))
    if longest > capacity:
        raise UsageError(
            f"an example has {longest:,} tokens, and a row has room for {capacity:,}.",
            hint=f"--model_max_length {longest} for longer rows, or a smaller one when the data is prepared.",
        )


def _rows(rows: list[list[int]], lengths: Ints, capacity: int) -> Rows:
    members = np.fromiter((example for row in rows for example in row), np.int64, len(lengths))
    starts = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, rows), np.int64, len(rows)), out=starts[1:])
    summed = np.add.reduceat(lengths[members], starts[:-1]) if rows else np.zeros(0, np.int64)
    return Rows(members, starts, summed, capacity)
