from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from redraft.errors import UsageError
from redraft.formats.encoder import Encoder
from redraft.train.batches import one_a_row, pack
from redraft.train.prepare import prepare

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
    assert rows.lengths.tolist() == [3, 1, 2]
    assert rows.efficiency == 0.5


@pytest.mark.parametrize("put", [pack, one_a_row])
def test_an_example_that_is_longer_than_a_row_is_refused(put: object) -> None:
    with pytest.raises(
        UsageError, match="an example has 1,200 tokens, and a row has room for 1,000"
    ) as caught:
        put(np.array([10, 1200]), 1000)  # type: ignore[operator]
    assert "--model_max_length 1200" in str(caught.value.hint)


@pytest.mark.model
def test_the_released_chains_fill_their_rows(
    default_tokenizer: PreTrainedTokenizerBase, shared_data: Path, tmp_path: Path
) -> None:
    encoder = Encoder(default_tokenizer)
    prepared = prepare([shared_data / "selfee" / "chains" / "mbpp.jsonl"], encoder, tmp_path)
    assert prepared.report.records == 969
    assert prepared.report.longest <= encoder.max_length
    assert pack(prepared.lengths, encoder.max_length).efficiency > 0.98
