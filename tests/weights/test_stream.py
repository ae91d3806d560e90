"""Reading ahead keeps the order and the errors of items, and stops with the consumer."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.weights.stream import ahead


@given(items=st.lists(st.integers()))
def test_the_same_items_in_the_same_order(items: list[int]) -> None:
    assert list(ahead(iter(items))) == items


def test_an_error_comes_after_the_items_before_it() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    items = ahead(failing())
    assert next(items) == 1
    with pytest.raises(ValueError, match="no more"):
        next(items)


def test_whoever_stops_early_stops_the_thread() -> None:
    made: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            made.append(1)
            yield 1

    before = threading.active_count()
    items = ahead(endless())
    assert next(items) == 1
    items.close()  # type: ignore[attr-defined]
    count = len(made)
    assert threading.active_count() == before
    assert len(made) == count <= 5
