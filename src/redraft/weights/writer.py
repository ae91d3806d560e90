"""Writes and hashes a file in threads, while the caller prepares the next part."""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO

from redraft.weights.checkpoint import raw_bytes

if TYPE_CHECKING:
    import torch

_WORTH_STARTING = 1 << 20
_QUEUED = 6  # three parts for each of the two threads
_LIBC = ctypes.CDLL(None)


class FileWriter:
    """Writes the parts of a file in order. `size` is the bytes written so far."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._threads = (self._put, ThreadPoolExecutor(1)), (self._hash.update, ThreadPoolExecutor(1))
        self._queued: deque[Future[None]] = deque()
        self.size = 0

    def write(self, part: bytes | memoryview | torch.Tensor) -> None:
        """Queue bytes or a tensor, which must not change afterwards."""
        view = memoryview(part if isinstance(part, bytes | memoryview) else raw_bytes(part)).cast("B")
        self.size += len(view)
        self._queued.extend(thread.submit(work, view) for work, thread in self._threads)
        self._wait(_QUEUED)

    def finish(self) -> str:
        """Wait until everything is on the disk, and return the SHA-256 of the file."""
        self._wait(0)
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._hash.hexdigest()

    def stop(self) -> None:
        """Stop the threads, and drop the parts that are still queued."""
        for _, thread in self._threads:
            thread.shutdown(cancel_futures=True)

    def _wait(self, most: int) -> None:
        """Wait until at most so many parts are queued."""
        while len(self._queued) > most:
            self._queued.popleft().result()

    def _put(self, part: memoryview) -> None:
        self._file.write(part)
        if len(part) > _WORTH_STARTING:
            _start_writing(self._file.fileno(), self.size)


def _start_writing(file: int, size: int) -> None:
    """Start writing cached pages to the disk, without waiting (Linux: SYNC_FILE_RANGE_WRITE, 2).

    By default Linux starts late, and `fsync` then waits for most of the file.
    """
    if start := getattr(_LIBC, "sync_file_range", None):
        start(file, ctypes.c_int64(0), ctypes.c_int64(size), 2)
