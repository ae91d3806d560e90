"""Keeps a disk busy: makes the next items of a stream in a thread while the last ones are worked on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T], depth: int = 2) -> Iterator[T]:
    """The same items in the same order, of which up to `depth` are made before they are asked for.

    What the stream raises is raised here. A consumer that stops early stops the thread.
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
    """The last item, and why there are no more."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def _make(items: Iterator[T], made: queue.Queue[T | _End], stopped: threading.Event) -> None:
    end = _End()
    try:
        for item in items:
            if stopped.is_set():
                return
            made.put(item)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised where the items are used
        end = _End(error)
    made.put(end)


def _drain(made: queue.Queue[T | _End]) -> None:
    try:
        while True:
            made.get_nowait()
    except queue.Empty:
        pass
