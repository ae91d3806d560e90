from __future__ import annotations

import tempfile
from functools import partial
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
    Loader,
    Order,
    Rows,
    RowsOf,
    check_enough_rows,
    joined,
    one_a_row,
    pack,
    padded,
)
from tests.train.stored import stored

lengths_of_rows = st.lists(st.integers(1, 60), min_size=1, max_size=70).map(lambda n: np.array(n, np.int64))
seeds, sizes, many = st.integers(0, 9), st.integers(1, 5), st.integers(1, 4)


def orders(lengths: np.ndarray, size: int, ranks: int, **more: Any) -> list[Order]:
    return [Order(lengths, size, rank=rank, ranks=ranks, **more) for rank in range(ranks)]


# Order.


@given(lengths_of_rows, sizes, many, seeds, st.integers(0, 3), st.booleans())
def test_every_row_is_read_once_an_epoch_by_one_rank(
    lengths: np.ndarray, size: int, ranks: int, seed: int, epoch: int, grouped: bool
) -> None:
    read = []
    for order in orders(lengths, size, ranks, seed=seed, grouped=grouped):
        order.begin(epoch)
        batches = list(order)
        assert len(batches) == len(order) == -(-len(lengths) // (size * ranks))
        assert all(len(batch) <= size for batch in batches)
        read += [row for batch in batches for row in batch]
    assert sorted(read) == list(range(len(lengths)))


@given(lengths_of_rows, sizes, many, seeds, st.booleans())
def test_the_last_batch_is_shared_evenly_and_all_others_are_full(
    lengths: np.ndarray, size: int, ranks: int, seed: int, grouped: bool
) -> None:
    shares = list(zip(*orders(lengths, size, ranks, seed=seed, grouped=grouped), strict=True))
    assert all(len(batch) == size for share in shares[:-1] for batch in share)
    last = [len(batch) for batch in shares[-1]]
    assert max(last) - min(last) <= 1


@given(lengths_of_rows, sizes, many, seeds, st.integers(0, 3), st.booleans())
def test_any_batch_is_known_without_those_before_it(
    lengths: np.ndarray, size: int, ranks: int, seed: int, epoch: int, grouped: bool
) -> None:
    for order in orders(lengths, size, ranks, seed=seed, grouped=grouped):
        order.begin(epoch)
        assert [order.batch(epoch, number) for number in range(len(order))] == list(order)


@given(lengths_of_rows, st.integers(1, 3), many, many, seeds, st.booleans())
def test_a_step_takes_the_same_rows_however_it_is_shared(
    lengths: np.ndarray, size: int, ranks: int, times: int, seed: int, grouped: bool
) -> None:
    together = list(Order(lengths, size * ranks * times, seed=seed, grouped=grouped))
    parts = orders(lengths, size, ranks, seed=seed, times=times, grouped=grouped)
    batches = [list(chain.from_iterable(share)) for share in zip(*parts, strict=True)]
    steps = [list(chain.from_iterable(batches[i : i + times])) for i in range(0, len(batches), times)]
    assert list(map(sorted, steps)) == list(map(sorted, together))


def test_epochs_and_seeds_differ() -> None:
    lengths = np.ones(50, np.int64)
    epochs = [Order(lengths, 4, seed=seed).rows(epoch).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(each) for each in epochs}) == 4


def test_rows_of_one_length_meet_where_they_are_grouped() -> None:
    lengths = np.random.default_rng(0).integers(1, 2000, 4000)

    def padding(*, grouped: bool) -> float:
        batches = list(Order(lengths, 8, seed=0, grouped=grouped))
        return sum(lengths[batch].max() * len(batch) for batch in batches) / lengths.sum()

    assert padding(grouped=True) < 1.02
    assert padding(grouped=False) > 1.6
    assert lengths[Order(lengths, 8, seed=0, grouped=True).batch(0, 0)].max() == lengths.max()


# Tensors.


def parts(batch: Batch) -> list[tuple[list[int], list[int]]]:
    """The ids and labels of each example of a joined batch, found by where positions start at 0."""
    ids, labels, positions = (batch[name][0] for name in ("input_ids", "labels", "position_ids"))
    starts = (positions == 0).nonzero().flatten().tolist()
    ends = [*starts[1:], len(ids)]
    assert positions.tolist() == [n for a, b in zip(starts, ends, strict=True) for n in range(b - a)]
    return [(ids[a:b].tolist(), labels[a:b].tolist()) for a, b in zip(starts, ends, strict=True)]


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
            for batch in Loader(RowsOf(prepared, rows), order, joined):
                assert {name: each.dtype for name, each in batch.items()} == dict.fromkeys(batch, torch.int64)
                found += [part for part in parts(batch) if part != ([0], [-100])]
    expected = []
    for number, length in enumerate(lengths):
        ids = [1000 * number + n for n in range(length)]
        labels = [id_ if n >= max(length // 2, 1) else -100 for n, id_ in enumerate(ids)]
        expected.append((ids, labels))
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
    rows = RowsOf(prepared, one_a_row(prepared.lengths, 4))
    batch = padded([rows[0], rows[1]], pad=9)
    assert {name: each.tolist() for name, each in batch.items()} == {
        "input_ids": [[0, 1, 2, 3], [1000, 1001, 9, 9]],
        "labels": [[-100, -100, 2, 3], [-100, 1001, -100, -100]],
        "position_ids": [[0, 1, 2, 3], [0, 1, 0, 0]],
        "attention_mask": [[1, 1, 1, 1], [1, 1, 0, 0]],
    }


# Going on.


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> RowsOf:
    lengths = np.random.default_rng(0).integers(2, 30, 90).tolist()
    prepared = stored(tmp_path_factory.mktemp("batches") / "data", lengths)
    return RowsOf(prepared, pack(prepared.lengths, 64))


def epoch_of(loader: Any, epoch: int) -> list[list[int]]:
    loader.batch_sampler.begin(epoch)
    return [batch["input_ids"].tolist() for batch in loader]


@pytest.mark.parametrize("grouped", [False, True])
def test_a_run_that_goes_on_at_any_batch_reads_what_it_would_have_read(data: RowsOf, grouped: bool) -> None:
    def loader() -> Loader:
        order = Order(data.rows.lengths, 2, seed=3, rank=1, ranks=2, grouped=grouped)
        return Loader(data, order, partial(padded, pad=0) if grouped else joined)

    whole = epoch_of(loader(), 2)
    for done in range(len(whole) + 1):
        rest: Any = loader()
        rest.batch_sampler.begin(2, first=done)
        assert [batch["input_ids"].tolist() for batch in rest] == whole[done:]


def test_skipping_reads_no_data(data: RowsOf, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    get = RowsOf.__getitem__
    monkeypatch.setattr(RowsOf, "__getitem__", lambda self, row: read.append(row) or get(self, row))
    order = Order(data.rows.lengths, 2, seed=3)
    order.begin(0, first=len(order) - 1)
    assert len(list(Loader(data, order, joined))) == 1
    assert len(read) <= 2


def test_an_epoch_draws_nothing_from_the_generator_of_dropout(data: RowsOf) -> None:
    before = torch.get_rng_state()
    epoch_of(Loader(data, Order(data.rows.lengths, 2, seed=3), joined), 1)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine with one core
def test_worker_processes_read_the_same(data: RowsOf) -> None:
    order = Order(data.rows.lengths, 4, seed=3)
    assert epoch_of(Loader(data, order, joined, workers=2), 1) == epoch_of(Loader(data, order, joined), 1)


def test_the_records_of_a_batch_have_names(data: RowsOf) -> None:
    rows = Order(data.rows.lengths, 2, seed=3).batch(0, 5)
    ids = [int(example.ids[0]) // 1000 for row in rows for example in data[row]]
    assert data.names(rows) == [f"data/{number}" for number in ids]


# Less than a step.


def rows_of(count: int, examples: int) -> Rows:
    return pack(np.full(examples, 100 * count // examples), 100)


def test_data_smaller_than_a_step_is_refused_with_the_flags_that_fit() -> None:
    check_enough_rows(rows_of(8, 8), size=2, accumulation=2, ranks=2)
    with pytest.raises(UsageError) as caught:
        check_enough_rows(rows_of(7, 35), size=2, accumulation=2, ranks=2)
    assert "7 rows (packed from 35 examples), and one step takes 8: 2 a device × 2 acc" in str(caught.value)
    assert caught.value.hint == "--per_device_train_batch_size 3 --gradient_accumulation_steps 1"
    with pytest.raises(UsageError, match=r"the data has 1 row, .* 2: 2 a device × 1 accumulated\.\n"):
        check_enough_rows(rows_of(1, 1), size=2, accumulation=1, ranks=1)


def test_data_smaller_than_the_ranks_is_refused() -> None:
    with pytest.raises(UsageError, match="no more processes than rows"):
        check_enough_rows(rows_of(3, 3), size=1, accumulation=1, ranks=4)
