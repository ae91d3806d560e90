"""Make batches of examples: assign examples to rows, order the rows, and build tensors.

Examples in the same row must not attend to each other: `attention` separates examples where position ids
restart. Each batch is divided among the ranks, so a step of 32 rows reads the same rows with one process as
with eight. The last step of an epoch reads the remaining rows, and a rank without rows gets a token without
loss. The code that computes the loss shifts the labels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from redraft.errors import UsageError
from redraft.jobs.counting import counted
from redraft.train.prepare import Ints, Prepared, Stored
from redraft.train.processes import gathered


@dataclass(frozen=True, eq=False)
class Rows:
    """The assignment of examples to rows."""

    members: Ints  # int64 [examples]: the numbers of the examples, row after row
    starts: Ints  # int64 [rows + 1]: where each row starts in `members`, then the end
    lengths: Ints  # int64 [rows]: tokens in each row
    capacity: int
    kind: Literal["packed", "single", "pair"] = "single"  # a row has as many examples as fit, one, or two

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> Ints:
        return self.members[self.starts[row] : self.starts[row + 1]]

    @property
    def efficiency(self) -> float:
        """The fraction of the rows' capacity that is filled, from 0 to 1."""
        return float(self.lengths.sum()) / (len(self) * self.capacity) if len(self) else 1.0


def pack(lengths: Ints, capacity: int, seed: int = 0) -> Rows:
    """Pack examples into rows of at most `capacity` tokens, by best-fit decreasing.

    Examples are placed from longest to shortest, each into the fullest row with enough room. This makes at
    most 11/9 of the optimal number of rows, plus 4 (D. S. Johnson et al., "Worst-case performance bounds for
    simple one-dimensional packing algorithms", SIAM J. Comput. 3(4), 1974).

    Args:
        lengths: The number of tokens of each example, int64 [examples].
        seed: Decides which examples of equal length share a row.
    """
    _check_lengths(lengths, capacity)
    ties = np.random.default_rng(seed).permutation(len(lengths))
    order = ties[np.argsort(-lengths[ties], kind="stable")]
    rows: list[list[int]] = []
    having: list[list[int]] = [[] for _ in range(capacity + 1)]  # rows by the room left in them
    rooms = 0  # bit n is set if some row has n tokens of room
    for example, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        if enough := rooms >> length:
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
    return Rows(members, starts, summed, capacity, "packed")


def one_a_row(lengths: Ints, capacity: int) -> Rows:
    """Put one example into each row, in order."""
    _check_lengths(lengths, capacity)
    count = len(lengths)
    return Rows(np.arange(count, dtype=np.int64), np.arange(count + 1, dtype=np.int64), lengths, capacity)


def two_a_row(lengths: Ints, capacity: int) -> Rows:
    """Put two consecutive examples into each row, in order."""
    single = one_a_row(lengths, capacity)
    starts = np.arange(0, len(single) + 1, 2)
    return Rows(single.members, starts, lengths.reshape(-1, 2).sum(1), 2 * capacity, "pair")


def _check_lengths(lengths: Ints, capacity: int) -> None:
    longest = int(lengths.max(initial=0))
    if longest > capacity:
        message = f"an example has {longest:,} tokens, but may have at most {capacity:,}."
        hint = f"Set --model_max_length {longest}, or cut the examples to {capacity} tokens."
        raise UsageError(message, hint=hint)


IGNORED = -100  # the label of a token without loss, in PyTorch and transformers

Batch = dict[str, torch.Tensor]
Row = Sequence[Stored]  # the examples of one row

_NOTHING = Stored(np.zeros(1, np.int64), np.zeros(1, np.bool_))


class Order:
    """The batches of row indices that one rank reads. Only seed and epoch determine the order."""

    def __init__(self, rows: int, size: int, *, seed: int, rank: int = 0, ranks: int = 1) -> None:
        self._rows, self._size = rows, size * ranks
        self._seed, self._rank, self._ranks = seed, rank, ranks

    def __len__(self) -> int:
        return -(-self._rows // self._size)

    def rows(self, epoch: int) -> Ints:
        """Return the indices of all rows, in the order of an epoch."""
        return np.random.default_rng((self._seed, epoch)).permutation(self._rows)

    def batches(self, epoch: int, first: int = 0) -> Iterator[list[int]]:
        """Yield the row indices of each batch in an epoch, starting with batch `first` (0-based)."""
        order = self.rows(epoch)
        for start in range(first * self._size, self._rows, self._size):
            yield order[start : start + self._size][self._rank :: self._ranks].tolist()


def counted_in(batch: Batch) -> int:
    """Return the number of pairs in a batch or, without pairs, the number of tokens with loss."""
    return int(batch["pairs"]) if "pairs" in batch else int((batch["labels"][..., 1:] != IGNORED).sum())


class SharedMeans:
    """Means over steps and processes, for the log. Each mean is a sum divided by the sum named `count`."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, value: Tensor | float) -> None:
        """Add a value to the sum called `name`."""
        value = torch.as_tensor(value)  # float(value) would wait for the GPU
        self._sums[name] = self._sums.get(name, torch.zeros((), device=value.device)) + value.detach()

    def take(self) -> dict[str, float]:
        """Return the means over all processes, and reset the sums."""
        parts = gathered({name: float(each) for name, each in self._sums.items()})
        self._sums = {}
        whole = {name: sum(part.get(name, 0.0) for part in parts) for part in parts for name in part}
        count = whole.pop("count", 0.0)
        return {name: each / count for name, each in whole.items()} if count else {}


class Source(ABC):
    """The data that a loop trains on: epochs of batches. Every rank has the same number of batches."""

    note: Callable[[str], object] = staticmethod(lambda _: None)  # shows what the source is doing

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batches(self, epoch: int, first: int = 0, stops: Callable[[], bool] = ...) -> Iterator[Batch]:
        """Yield this rank's batches of an epoch, starting with batch `first` (0-based).

        A slow source should call `stops` now and then, and stop yielding when `stops()` returns True.
        """

    @abstractmethod
    def names(self, epoch: int, number: int) -> list[str]:
        """Return the ids of the records in batch `number` of an epoch."""

    @abstractmethod
    def tokens(self, batch: Batch) -> int:
        """Return the number of tokens in a batch, without padding."""

    @abstractmethod
    def counted(self, batch: Batch) -> int:
        """Return the number by which a batch's loss is divided, such as the number of trained tokens."""

    def metrics(self) -> dict[str, float]:
        """Return the source's own metrics since the last call, for the log. By default, there are none."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return the state to save in a checkpoint; empty if step and seed determine the batches."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027  (most have no state)
        """Restore what `state_dict` returned."""


@dataclass(frozen=True)
class Data(Source):
    """A source of batches made from rows of prepared examples."""

    prepared: Prepared
    rows: Rows
    order: Order
    collate: Callable[[Sequence[Row]], Batch]

    def __len__(self) -> int:
        return len(self.order)

    def batches(self, epoch: int, first: int = 0, stops: object = None) -> Iterator[Batch]:  # noqa: ARG002
        """Yield the batches of an epoch, starting with batch `first` (0-based)."""
        for rows in self.order.batches(epoch, first):
            yield self.collate([[self.prepared[int(each)] for each in self.rows[row]] for row in rows])

    def counted(self, batch: Batch) -> int:
        """Return the number of pairs in a batch or, without pairs, the number of trained tokens."""
        return counted_in(batch)

    def names(self, epoch: int, number: int) -> list[str]:
        """Return the ids of the records in batch `number` of an epoch."""
        rows = next(self.order.batches(epoch, number))
        names = (self.prepared.name(int(each)) for row in rows for each in self.rows[row])
        return list(dict.fromkeys(names))  # both examples of a pair have the same id

    def tokens(self, batch: Batch) -> int:
        """Return the number of tokens in a batch, without padding."""
        return int(batch["attention_mask"].sum() if "attention_mask" in batch else batch["input_ids"].numel())


def collated(rows: Sequence[Row], *, pad: int | None, pairs: bool = False) -> Batch:
    """Make a batch of rows, padded with the token `pad`, or joined without padding if `pad` is None.

    If `pairs` is true, the batch also contains the number of pairs, a scalar.
    """
    batch = joined(rows) if pad is None else padded(rows, pad=pad)
    if pairs:
        batch["pairs"] = torch.tensor(len(rows))
    return batch


def joined(rows: Sequence[Row]) -> Batch:
    """Concatenate all examples of all rows into one sequence without padding.

    Returns:
        `input_ids`, `labels` and `position_ids`, each int64 [1, tokens]. Positions restart at 0 with each
        example. A label is the token's id, or -100 if the token has no loss. An example's first token has no
        loss. Without rows, the batch is one token without loss.
    """
    examples = [example for row in rows for example in row] or [_NOTHING]
    ids, labels, positions = (np.concatenate(each) for each in zip(*map(_parts, examples), strict=True))
    return _tensors(input_ids=ids[None], labels=labels[None], position_ids=positions[None])


def padded(rows: Sequence[Row], *, pad: int) -> Batch:
    """Put one example into each row, and pad rows on the right to the longest example.

    Returns:
        `input_ids`, `labels`, `position_ids` and `attention_mask`, each int64 [rows, longest].
    """
    examples = [example for row in rows for example in row] or [_NOTHING]
    longest = max(len(example.ids) for example in examples)

    def filled(arrays: Sequence[NDArray[np.int64]], value: int) -> NDArray[np.int64]:
        return np.stack([np.pad(each, (0, longest - len(each)), constant_values=value) for each in arrays])

    ids, labels, positions = zip(*map(_parts, examples), strict=True)
    return _tensors(
        input_ids=filled(ids, pad),
        labels=filled(labels, IGNORED),
        position_ids=filled(positions, 0),
        attention_mask=filled([np.ones(len(each), np.int64) for each in ids], 0),
    )


def _parts(example: Stored) -> tuple[Ints, Ints, Ints]:
    ids = example.ids.astype(np.int64)
    labels = np.where(example.trained, ids, IGNORED)
    labels[0] = IGNORED
    return ids, labels, np.arange(len(ids))


def _tensors(**arrays: Ints) -> Batch:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def check_enough_rows(rows: Rows, size: int, accumulation: int, ranks: int) -> None:
    """Raise `UsageError` if there are fewer rows than one step of the optimizer needs."""
    step = size * accumulation * ranks
    if len(rows) >= step:
        return
    made = f" (packed from {len(rows.members):,} examples)" if len(rows.members) > len(rows) else ""
    processes = f" × {ranks} processes" if ranks > 1 else ""
    raise UsageError(
        f"the data has {counted(len(rows), 'row')}{made}, but one step needs {step:,}: "
        f"batch size {size} × accumulation {accumulation}{processes}.",
        hint=f"--per_device_train_batch_size {len(rows) // ranks} --gradient_accumulation_steps 1"
        if len(rows) >= ranks
        else "Train with fewer processes (each needs a row) or on more data.",
    )
