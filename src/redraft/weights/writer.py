"""Writes and hashes a file in threads, while the caller prepares the next part."""

from __future__ import annotations

import ctypes
import hashlib
import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

from redraft.weights.identity import raw_bytes

if TYPE_CHECKING:
    import torch

_WORTH_STARTING = 1 << 20
_PATIENCE = 0.2  # seconds
_LIBC = ctypes.CDLL(None)


class FileWriter:
    """Writes the parts of a file in order.

    Attributes:
        size: Bytes written so far.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._workers = _Worker(self._put), _Worker(self._hash.update)
        self.size = 0

    def write(self, part: bytes | memoryview | torch.Tensor) -> None:
        """Queue bytes or a tensor, which must not change afterwards.

        Raises:
            OSError: An earlier part could not be written.
        """
        view = memoryview(part if isinstance(part, bytes | memoryview) else raw_bytes(part)).cast("B")
        self.size += len(view)
        for worker in self._workers:
            worker.take(view)

    def finish(self) -> str:
        """Wait until everything is on the disk, and return the SHA-256 of the file.

        Raises:
            OSError: A part could not be written.
        """
        self.stop()
        for worker in self._workers:
            worker.insist()
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._hash.hexdigest()

    def stop(self) -> None:
        """Stop the threads."""
        for worker in self._workers:
            worker.stop()

    def _put(self, part: memoryview) -> None:
        self._file.write(part)
        if len(part) > _WORTH_STARTING:
            _start_writing(self._file.fileno(), self.size)


class _Worker:
    """Applies a function to each part, in order, in a thread. After an error it drops the parts."""

    def __init__(self, do: Callable[[memoryview], object]) -> None:
        self._do = do
        self._parts: queue.Queue[memoryview | None] = queue.Queue(maxsize=2)
        self._error: BaseException | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def take(self, part: memoryview) -> None:
        self.insist()
        self._parts.put(part)

    def insist(self) -> None:
        if self._error:
            raise self._error

    def stop(self) -> None:
        self._stopped.set()
        with suppress(queue.Full):
            self._parts.put_nowait(None)  # wakes the thread if it waits
        self._thread.join()

    def _work(self) -> None:
        while (part := self._next()) is not None:
            try:
                if not self._error:
                    self._do(part)
            except BaseException as error:  # noqa: BLE001 - raised again by `insist`
                self._error = error

    def _next(self) -> memoryview | None:
        """Return the next part, or None at the end. The timeout covers a wake-up lost to an interrupt."""
        while True:
            try:
                return self._parts.get(timeout=_PATIENCE)
            except queue.Empty:
                if self._stopped.is_set():
                    return None


def _start_writing(file: int, size: int) -> None:
    """Start writing cached pages to the disk, without waiting (Linux: SYNC_FILE_RANGE_WRITE, 2).

    By default Linux starts late, and `fsync` then waits for most of the file.
    """
    if start := getattr(_LIBC, "sync_file_range", None):
        start(file, ctypes.c_int64(0), ctypes.c_int64(size), 2)
