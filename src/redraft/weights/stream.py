"""Reads ahead: produces the next items of an iterator in a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T], depth: int = 2) -> Iterator[T]:
    """Yield the same items in the same order, while a thread produces up to `depth` items in advance.

    Errors of the iterator are raised here. The thread stops when the consumer does.
    """
    made: queue.Queue[T | _End] = queue.Queue(maxsize=depth)
    stopped = threading.Event()
    thread = threading.Thread(target=_make, args=(items, made, stopped), daemon=True)
    thread.start()
    try:
        while not isinstance(item := made.get(), _End):
            yield item
        if item.error:
            raise item.error
    finally:
        stopped.set()
        while thread.is_alive():
            _drain(made)
            thread.join(timeout=0.01)


class _End:
    """Marks the end of the items, with the error that ended them, if any."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def _make(items: Iterator[T], made: queue.Queue[T | _End], stopped: threading.Event) -> None:
    end = _End()
    try:
        for item in items:
            if stopped.is_set():
                return
            made.put(item)
    except BaseException as error:  # noqa: BLE001 - raised again in the consumer
        end = _End(error)
    made.put(end)


def _drain(made: queue.Queue[T | _End]) -> None:
    try:
        while True:
            made.get_nowait()
    except queue.Empty:
        pass
