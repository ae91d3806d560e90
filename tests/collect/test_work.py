"""Work spread over processes: the same results in the same order, and no more read ahead than is bounded."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from redraft.collect import work
from redraft.collect.reading import Line
from redraft.collect.work import BATCH, BATCH_BYTES, WAITING, spread


def square(number: int) -> int:
    return number * number


def refuse_300(number: int) -> int:
    if number == 300:
        raise ValueError("300 is refused")
    return number


def process(_: int) -> int:
    return os.getpid()


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    items = range(5 * BATCH + 1)
    assert list(spread(square, items, workers)) == [number**2 for number in items]


def test_one_worker_is_this_process_and_several_are_others() -> None:
    assert set(spread(process, range(3))) == {os.getpid()}
    assert os.getpid() not in set(spread(process, range(3), 2))


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_raised_comes_at_its_place(workers: int) -> None:
    seen: list[int] = []
    with pytest.raises(ValueError, match="300 is refused"):
        seen.extend(spread(refuse_300, range(1000), workers))
    assert seen[: 4 * BATCH] == list(range(4 * BATCH))
    assert len(seen) <= 300


def test_no_more_is_read_ahead_than_waits() -> None:
    read = 0

    def items() -> Iterator[int]:
        nonlocal read
        for number in range(100 * BATCH):
            read += 1
            yield number

    results = spread(square, items(), 2)
    next(results)
    assert read <= WAITING * 2 * BATCH
    results.close()  # type: ignore[attr-defined]


def test_a_batch_of_large_records_is_short() -> None:
    line = Line("a:1", "a", 0, b"x" * (BATCH_BYTES // 4))
    for item in (line, (line, line)):
        sizes = [len(batch) for batch in work._batches([item] * 8)]
        assert sum(sizes) == 8
        assert max(sizes) == (4 if item is line else 2)
    assert [len(batch) for batch in work._batches(range(BATCH + 1))] == [BATCH, 1]
