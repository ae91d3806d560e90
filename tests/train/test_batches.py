from __future__ import annotations

import tempfile
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft.errors import UsageError
from redraft.train.batches import (
    Batch,
    Data,
    Order,
    Rows,
    SharedMeans,
    check_enough_rows,
    joined,
    one_a_row,
    pack,
    padded,
)
from redraft.train.prepare import DataReport, Prepared, Writer, open_prepared

lengths_of_rows = st.lists(st.integers(1, 60), min_size=1, max_size=70).map(lambda n: np.array(n, np.int64))
seeds, sizes, many = st.integers(0, 9), st.integers(1, 5), st.integers(1, 4)


def stored(folder: Path, lengths: Sequence[int]) -> Prepared:
    """Examples of these lengths. Example n has the ids 1000 n, 1000 n + 1…

    The second half of each is trained on.
    """
    folder.mkdir()
    writer = Writer(folder)
    for number, length in enumerate(lengths):
        writer.add(f"data/{number}", 1000 * number + np.arange(length), np.arange(length) >= length // 2)
    writer.finish("key", DataReport(records=len(lengths), examples=len(lengths)))
    found = open_prepared(folder, "key")
    assert found
    return found


def orders(lengths: np.ndarray, size: int, ranks: int, **more: Any) -> list[Order]:
    return [Order(len(lengths), size, rank=rank, ranks=ranks, **more) for rank in range(ranks)]


@given(lengths_of_rows, sizes, many, seeds, st.integers(0, 3))
def test_every_row_is_read_once_an_epoch_by_one_rank(
    lengths: np.ndarray, size: int, ranks: int, seed: int, epoch: int
) -> None:
    read = []
    for order in orders(lengths, size, ranks, seed=seed):
        batches = list(order.batches(epoch))
        assert len(batches) == len(order) == -(-len(lengths) // (size * ranks))
        assert all(len(batch) <= size for batch in batches)
        read += [row for batch in batches for row in batch]
    assert sorted(read) == list(range(len(lengths)))


@given(lengths_of_rows, sizes, many, seeds)
def test_the_last_batch_is_shared_evenly_and_all_others_are_full(
    lengths: np.ndarray, size: int, ranks: int, seed: int
) -> None:
    shares = list(zip(*(each.batches(0) for each in orders(lengths, size, ranks, seed=seed)), strict=True))
    assert all(len(batch) == size for share in shares[:-1] for batch in share)
    last = [len(batch) for batch in shares[-1]]
    assert max(last) - min(last) <= 1


@given(lengths_of_rows, sizes, many, seeds, st.integers(0, 3))
def test_any_batch_is_known_without_those_before_it(
    lengths: np.ndarray, size: int, ranks: int, seed: int, epoch: int
) -> None:
    for order in orders(lengths, size, ranks, seed=seed):
        whole = list(order.batches(epoch))
        assert [next(order.batches(epoch, number)) for number in range(len(order))] == whole


@given(lengths_of_rows, st.integers(1, 3), many, many, seeds)
def test_a_step_takes_the_same_rows_however_it_is_shared(
    lengths: np.ndarray, size: int, ranks: int, times: int, seed: int
) -> None:
    together = list(Order(len(lengths), size * ranks * times, seed=seed).batches(0))
    parts = [each.batches(0) for each in orders(lengths, size, ranks, seed=seed)]
    batches = [list(chain.from_iterable(share)) for share in zip(*parts, strict=True)]
    steps = [list(chain.from_iterable(batches[i : i + times])) for i in range(0, len(batches), times)]
    assert list(map(sorted, steps)) == list(map(sorted, together))


def test_epochs_and_seeds_differ() -> None:
    lengths = np.ones(50, np.int64)
    epochs = [Order(len(lengths), 4, seed=seed).rows(epoch).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(each) for each in epochs}) == 4


def parts(batch: Batch) -> list[tuple[list[int], list[int]]]:
    ids, labels, positions = (batch[name][0] for name in ("input_ids", "labels", "position_ids"))
    starts = (positions == 0).nonzero().flatten().tolist()
    ends = [*starts[1:], len(ids)]
    assert positions.tolist() == [n for a, b in zip(starts, ends, strict=True) for n in range(b - a)]
    return [(ids[a:b].tolist(), labels[a:b].tolist()) for a, b in zip(starts, ends, strict=True)]


@pytest.mark.slow
@settings(max_examples=30)  # each writes to the disk
@given(st.lists(st.integers(1, 30), min_size=1, max_size=30), st.integers(0, 3), sizes, many)
def test_every_example_is_in_the_tensors_of_an_epoch_once_and_whole(
    lengths: list[int], seed: int, size: int, ranks: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        prepared = stored(Path(folder) / "data", lengths)
        rows = pack(prepared.lengths, 40, seed)
        found = []
        for order in orders(rows.lengths, size, ranks, seed=seed):
            for batch in Data(prepared, rows, order, joined).batches(0):
                assert {name: each.dtype for name, each in batch.items()} == dict.fromkeys(batch, torch.int64)
                found += [part for part in parts(batch) if part != ([0], [-100])]
    expected = []
    for number, length in enumerate(lengths):
        ids = [1000 * number + n for n in range(length)]
        expected.append((ids, [id_ if n >= max(length // 2, 1) else -100 for n, id_ in enumerate(ids)]))
    # A single token that is 0 cannot be told from a rank's empty batch.
    assert sorted(found) == sorted(each for each in expected if each != ([0], [-100]))


def test_no_rows_are_one_token_without_loss() -> None:
    assert {name: each.tolist() for name, each in joined([]).items()} == {
        "input_ids": [[0]],
        "labels": [[-100]],
        "position_ids": [[0]],
    }


def test_padding_stands_on_the_right_and_carries_nothing(tmp_path: Path) -> None:
    prepared = stored(tmp_path / "data", [4, 2])
    assert {name: each.tolist() for name, each in padded([[prepared[0]], [prepared[1]]], pad=9).items()} == {
        "input_ids": [[0, 1, 2, 3], [1000, 1001, 9, 9]],
        "labels": [[-100, -100, 2, 3], [-100, 1001, -100, -100]],
        "position_ids": [[0, 1, 2, 3], [0, 1, 0, 0]],
        "attention_mask": [[1, 1, 1, 1], [1, 1, 0, 0]],
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    lengths = np.random.default_rng(0).integers(2, 30, 90).tolist()
    prepared = stored(tmp_path_factory.mktemp("batches") / "data", lengths)
    rows = pack(prepared.lengths, 64)
    return Data(prepared, rows, Order(len(rows), 2, seed=3), joined)


def test_the_records_of_a_batch_have_names(data: Data) -> None:
    (batch,) = list(data.batches(0, 5))[:1]
    firsts = batch["input_ids"][batch["position_ids"] == 0]
    assert data.names(0, 5) == [f"data/{int(first) // 1000}" for first in firsts]


def rows_of(count: int, examples: int) -> Rows:
    return pack(np.full(examples, 100 * count // examples), 100)


def test_data_smaller_than_a_step_is_refused_with_the_flags_that_fit() -> None:
    check_enough_rows(rows_of(8, 8), size=2, accumulation=2, ranks=2)
    with pytest.raises(UsageError) as caught:
        check_enough_rows(rows_of(7, 35), size=2, accumulation=2, ranks=2)
    assert "7 rows (packed from 35 examples), but one step needs 8: batch size 2 × accu" in str(caught.value)
    fits = "--per_device_train_batch_size 3 --gradient_accumulation_steps 1"
    assert caught.value.hint == fits
    with pytest.raises(UsageError, match=r"the data has 1 row, .* 2: batch size 2 × accumulation 1\.\n"):
        check_enough_rows(rows_of(1, 1), size=2, accumulation=1, ranks=1)
    with pytest.raises(UsageError, match="fewer processes"):
        check_enough_rows(rows_of(3, 3), size=1, accumulation=1, ranks=4)


lengths_of_examples = st.lists(st.integers(1, 50), max_size=80).map(lambda found: np.array(found, np.int64))


@given(lengths_of_examples, st.integers(50, 90), st.integers(0, 5))
def test_every_example_stands_in_one_row_that_it_fits(lengths: np.ndarray, capacity: int, seed: int) -> None:
    rows = pack(lengths, capacity, seed)
    assert sorted(rows.members.tolist()) == list(range(len(lengths)))
    assert [lengths[rows[n]].sum() for n in range(len(rows))] == rows.lengths.tolist()
    assert rows.lengths.max(initial=0) <= capacity


@given(lengths_of_examples, st.integers(50, 90))
def test_an_example_begins_a_row_only_where_it_fits_in_none(lengths: np.ndarray, capacity: int) -> None:
    rows = pack(lengths, capacity)
    room = capacity - rows.lengths
    for later in range(1, len(rows)):
        assert lengths[rows[later]].max() > room[:later].max()


def test_the_fullest_row_with_room_is_taken() -> None:
    rows = pack(np.array([6, 8, 2, 4]), 10)
    assert [sorted(rows[n].tolist()) for n in range(len(rows))] == [[1, 2], [0, 3]]
    assert rows.efficiency == 1.0


def test_a_seed_decides_who_meets_and_nothing_else() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 500)
    one, again, other = (pack(lengths, 256, seed) for seed in (1, 1, 2))
    assert one.members.tolist() == again.members.tolist()
    assert one.members.tolist() != other.members.tolist()
    assert one.lengths.tolist() == other.lengths.tolist()


def test_data_of_many_lengths_wastes_next_to_nothing() -> None:
    lengths = np.clip(np.random.default_rng(0).lognormal(5.8, 0.7, 20_000).astype(np.int64), 20, 2048)
    assert pack(lengths, 2048).efficiency > 0.99


def test_one_a_row_keeps_the_order() -> None:
    rows = one_a_row(np.array([3, 1, 2]), 4)
    assert [rows[n].tolist() for n in range(3)] == [[0], [1], [2]]
    assert (rows.lengths.tolist(), rows.efficiency) == ([3, 1, 2], 0.5)


@pytest.mark.parametrize("put", [pack, one_a_row])
def test_an_example_that_is_longer_than_a_row_is_refused(put: object) -> None:
    with pytest.raises(UsageError, match=r"(?s)1,200 tokens, but may have at most 1,000.*_max_length 1200"):
        put(np.array([10, 1200]), 1000)  # type: ignore[operator]


def test_sums_are_means_over_their_count_and_begin_again() -> None:
    sums = SharedMeans()
    for loss in (1.0, torch.tensor(2.0, requires_grad=True)):
        sums.add("loss", loss)
        sums.add("count", 1)
    assert (sums.take(), sums.take()) == ({"loss": 1.5}, {})
