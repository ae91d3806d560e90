"""Reads ahead: produces the next items of an iterator in a thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

AHEAD = 2
"""Items that are produced in advance."""


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield the same items in the same order, while a thread produces the next ones.

    Errors of the iterator are raised here. The thread stops when the consumer does.
    """
    end: Any = object()
    thread = ThreadPoolExecutor(1)
    try:
        coming = deque(thread.submit(next, items, end) for _ in range(AHEAD))
        while (item := coming.popleft().result()) is not end:
            coming.append(thread.submit(next, items, end))
            yield item
    finally:
        thread.shutdown(cancel_futures=True)
