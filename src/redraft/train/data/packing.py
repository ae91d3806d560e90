"""Pack examples into rows of a fixed number of tokens.

Best-fit decreasing: the longest example first, each into the fullest row that has room for it. This needs at
most 2/9 more rows than the optimum (D. S. Johnson et al., "Worst-case performance bounds for simple
one-dimensional packing algorithms", SIAM J. Comput. 3(4), 1974). No example is split. The seed decides which
examples of equal length share a row; the number of rows and their lengths do not depend on it.

Examples of a row must not see each other: position ids restart with each (`data.batches`), and attention
follows them (`model.attention`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redraft.errors import UsageError

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rows:
    """The examples of each row.

    Attributes:
        members: int64 [examples]: the numbers of the examples, row after row.
        starts: int64 [rows + 1]: where each row starts in `members`, then the end.
        lengths: int64 [rows]: tokens in each row.
        capacity: Tokens that fit into a row.
    """

    members: Ints
    starts: Ints
    lengths: Ints
    capacity: int

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> Ints:
        """Return the numbers of the examples in a row."""
        return self.members[self.starts[row] : self.starts[row + 1]]

    @property
    def efficiency(self) -> float:
        """The share of the capacity that is filled, 0 to 1."""
        return float(self.lengths.sum()) / (len(self) * self.capacity) if len(self) else 1.0


def pack(lengths: Ints, capacity: int, seed: int = 0) -> Rows:
    """Pack examples into rows of at most `capacity` tokens.

    Args:
        lengths: int64 [examples]: tokens of each example.
        capacity: Tokens that fit into a row.
        seed: Decides which examples of equal length share a row.

    Raises:
        UsageError: An example is longer than a row.
    """
    _check_lengths(lengths, capacity)
    ties = np.random.default_rng(seed).permutation(len(lengths))
    order = ties[np.argsort(-lengths[ties], kind="stable")]
    rows: list[list[int]] = []
    having: list[list[int]] = [[] for _ in range(capacity + 1)]  # rows by the room left in them
    rooms = 0  # bit n is set if some row has room for n
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
    members = np.fromiter((example for row in rows for example in row), np.int64, len(lengths))
    starts = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, rows), np.int64, len(rows)), out=starts[1:])
    summed = np.add.reduceat(lengths[members], starts[:-1]) if rows else np.zeros(0, np.int64)
    return Rows(members, starts, summed, capacity)


def one_a_row(lengths: Ints, capacity: int) -> Rows:
    """Put each example into a row of its own, in order.

    Raises:
        UsageError: An example is longer than a row.
    """
    _check_lengths(lengths, capacity)
    count = len(lengths)
    return Rows(np.arange(count, dtype=np.int64), np.arange(count + 1, dtype=np.int64), lengths, capacity)


def two_a_row(lengths: Ints, capacity: int) -> Rows:
    """Put each two examples, a pair, into a row of their own, in order.

    Raises:
        UsageError: An example is longer than `capacity`.
    """
    single = one_a_row(lengths, capacity)
    starts = np.arange(0, len(single) + 1, 2)
    return Rows(single.members, starts, lengths.reshape(-1, 2).sum(1), 2 * capacity)


def _check_lengths(lengths: Ints, capacity: int) -> None:
    longest = int(lengths.max(initial=0))
    if longest > capacity:
        raise UsageError(
            f"an example has {longest:,} tokens, and a row has room for {capacity:,}.",
            hint=f"--model_max_length {longest} for longer rows, or a smaller one when the data is prepared.",
        )
