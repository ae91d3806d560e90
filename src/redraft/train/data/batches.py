"""What a step trains on: rows of examples as tensors, in an order that only the seed and the epoch decide.

Trainer's own sampler draws its order from a generator whose state has to survive; here the batch with a
number can be named without those before it, so a run that goes on reads what it would have read, and skipping
costs nothing. Ranks share each batch: with so many rows to a step, a run on one processor and a run on eight
take the same rows at the same step. The last step of an epoch takes what is left, spread evenly; a rank that
gets nothing trains on nothing (`joined` of no rows), so no row is dropped or read twice, and no rank waits
for another. Where losses are summed and divided by all trained tokens of a step, as `train.loss` does, such a
step weighs each of its tokens as any other step does.

Labels stand where the tokens do: whoever computes the loss shifts them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from redraft.errors import UsageError
from redraft.train.data.packing import Ints, Rows
from redraft.train.data.store import Prepared, Stored
from redraft.train.words import counted

IGNORED = -100
"""The label of a token without loss, as PyTorch and transformers have it."""

POOLS = 50
"""Steps' worth of rows that are sorted by length at a time, as LengthGroupedSampler of transformers does."""

Batch = dict[str, torch.Tensor]
Row = Sequence[Stored]
"""The examples of one row."""

_NOTHING = Stored(np.zeros(1, np.int64), np.zeros(1, np.bool_))


class RowsOf(Dataset[Row]):
    """The rows of prepared data, read when they are asked for."""

    def __init__(self, prepared: Prepared, rows: Rows) -> None:
        self.prepared, self.rows = prepared, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Row:
        return [self.prepared[int(example)] for example in self.rows[row]]

    def names(self, rows: Sequence[int]) -> list[str]:
        """The ids of the records in some rows."""
        return [self.prepared.name(int(example)) for row in rows for example in self.rows[row]]


class Order(Sampler[list[int]]):
    """The rows of each batch of one rank, in order.

    Args:
        lengths: int64 [rows]: tokens in each row.
        size: Rows that a rank takes at a time.
        seed: With the epoch it decides the order.
        rank: Which rank this is, from 0.
        ranks: How many there are.
        times: Batches of all ranks that make a step.
        grouped: Puts rows of about one length into a step, and so into its batches, for those that are
            padded. Not by batches: a run may go on with a step that is shared in another way.
    """

    def __init__(
        self,
        lengths: Ints,
        size: int,
        *,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
        times: int = 1,
        grouped: bool = False,
    ) -> None:
        self._lengths, self._size, self._step = lengths, size * ranks, size * ranks * times
        self._seed, self._rank, self._ranks, self._grouped = seed, rank, ranks, grouped
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch is read next; transformers' Trainer does."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches of an epoch, on every rank as many."""
        return -(-len(self._lengths) // self._size)

    def __iter__(self) -> Iterator[list[int]]:
        order = self.rows(self.epoch)
        for number in range(len(self)):
            yield self._share(order, number)

    def batch(self, epoch: int, number: int) -> list[int]:
        """The rows of this rank's batch of that number, from 0, in an epoch."""
        return self._share(self.rows(epoch), number)

    def rows(self, epoch: int) -> Ints:
        """All rows, in the order of an epoch."""
        random = np.random.default_rng((self._seed, epoch))
        order = random.permutation(len(self._lengths))
        return self._in_groups(order, random) if self._grouped else order

    def _share(self, order: Ints, number: int) -> list[int]:
        whole = order[number * self._size : (number + 1) * self._size]
        share: list[int] = whole[self._rank :: self._ranks].tolist()
        return share

    def _in_groups(self, order: Ints, random: np.random.Generator) -> Ints:
        """Steps of rows of similar lengths; what fills no step stays the last.

        The step with the longest row is the first, so that memory runs out at once if it does.
        """
        pool, size = POOLS * self._step, self._step
        pools = [order[start : start + pool] for start in range(0, len(order), pool)]
        whole = np.concatenate([each[np.argsort(-self._lengths[each], kind="stable")] for each in pools])
        full = len(whole) // size * size
        steps = random.permutation(whole[:full].reshape(-1, size))
        if full:
            longest = int(self._lengths[steps].max(axis=1).argmax())
            steps[[0, longest]] = steps[[longest, 0]]
        return np.concatenate([steps.reshape(-1), whole[full:]])


class Loader(DataLoader[Row]):
    """Batches of one rank, for transformers' Trainer: it tells it the epoch, and skips by `accelerate`.

    Not for `accelerator.prepare`, which would share the batches among the ranks once more.
    """

    def __init__(
        self, rows: RowsOf, order: Order, collate: Callable[[Sequence[Row]], Batch], workers: int = 0
    ) -> None:
        # With a generator of its own, beginning an epoch draws nothing from the one that dropout uses.
        own = torch.Generator()
        super().__init__(rows, batch_sampler=order, collate_fn=collate, num_workers=workers, generator=own)
        self._order = order

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch is read next."""
        self._order.set_epoch(epoch)


def joined(rows: Sequence[Row]) -> Batch:
    """One sequence without padding: all examples of all rows, one behind the other.

    Returns:
        `input_ids`, `labels` and `position_ids`, each int64 [1, tokens]. Positions begin anew with each
        example. A label is that of its own token, or -100 where there is no loss: also at the first token of
        each example, which the example before would have to predict. Of no rows, one token without loss.
    """
    examples = [example for row in rows for example in row] or [_NOTHING]
    ids, labels, positions = (np.concatenate(each) for each in zip(*map(_parts, examples), strict=True))
    return _tensors(input_ids=ids[None], labels=labels[None], position_ids=positions[None])


def padded(rows: Sequence[Row], *, pad: int) -> Batch:
    """One example a row, padded on the right to the longest: what any model takes.

    Args:
        rows: Each of one example.
        pad: The id to pad with.

    Returns:
        As `joined`, and `attention_mask`; each int64 [rows, longest].
    """
    examples = [example for row in rows for example in row] or [_NOTHING]
    longest = max(len(example.ids) for example in examples)

    def filled(arrays: Sequence[NDArray[np.int64]], value: int) -> NDArray[np.int64]:
        return np.stack([np.pad(each, (0, longest - len(each)), constant_values=value) for each in arrays])

    ids, labels, positions = zip(*map(_parts, examples), strict=True)
    masks = [np.ones(len(each), np.int64) for each in ids]
    return _tensors(
        input_ids=filled(ids, pad),
        labels=filled(labels, IGNORED),
        position_ids=filled(positions, 0),
        attention_mask=filled(masks, 0),
    )


def _parts(example: Stored) -> tuple[Ints, Ints, Ints]:
    ids = example.ids.astype(np.int64)
    labels = np.where(example.trained, ids, IGNORED)
    labels[0] = IGNORED
    return ids, labels, np.arange(len(ids))


def _tensors(**arrays: Ints) -> Batch:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def insist_on_a_step(rows: Rows, *, size: int, accumulation: int, ranks: int) -> None:
    """Sees that there are as many rows as one step of the optimizer takes.

    Raises:
        UsageError: There are fewer.
    """
    step = size * accumulation * ranks
    if len(rows) >= step:
        return
    made = f" (packed from {len(rows.members):,} examples)" if len(rows.members) > len(rows) else ""
    processes = f" × {ranks} processes" if ranks > 1 else ""
    raise UsageError(
        f"the data has {counted(len(rows), 'row')}{made}, and one step takes {step:,}: "
        f"{size} a device × {accumulation} accumulated{processes}.",
        hint=_smaller(len(rows), ranks),
    )


def _smaller(rows: int, ranks: int) -> str:
    """Flags with which a step takes at most so many rows."""
    if rows < ranks:
        return "Train with no more processes than rows, or on more data."
    return f"--per_device_train_batch_size {rows // ranks} --gradient_accumulation_steps 1"
