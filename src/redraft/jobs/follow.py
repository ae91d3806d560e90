"""Follow the output of a run: give each line as it lands, until the run has ended.

The file is opened again each time, so it may be missing at first, be cut short, or be replaced. A line counts
once its line feed is there. `OUT.run.json` says when the run has ended. A file without one is followed until
the reader stops.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from redraft.jobs.provenance import RunFile

PAUSE = 0.2  # seconds between two looks at a file that has nothing new
Line = tuple[int, bytes]  # a line, and its place in the file, from 0


def follow(path: Path, *, last: int | None = None, tell: Callable[[str], None]) -> Iterator[Line]:
    """Yield the lines of a file, then each new one, until the run that writes it has ended.

    Args:
        path: If it does not exist, wait for it.
        last: How many of the lines that are there to begin with, counted from the end; None for all.
        tell: Called with what happened to the file, in words.

    Raises:
        OSError: The file exists and cannot be read.
    """
    run, tail = RunFile(path), Tail(path, tell)
    before = None if path.exists() else run.read()  # the record of an output that is gone
    first: Iterator[Line] | deque[Line] = tail.new() if last is None else deque(tail.new(), last)
    yield from first
    while True:
        record = run.read()
        end = None if record == before else how_it_ended(record)
        yield from tail.new()
        if end:
            tell(end)
            return
        time.sleep(PAUSE)


class Tail:
    """The lines of a file that grows."""

    def __init__(self, path: Path, tell: Callable[[str], None]) -> None:
        self._path, self._tell = path, tell
        self._file: tuple[int, int] | None = None
        self._at = self._number = 0
        self._waits = False

    def new(self) -> Iterator[Line]:
        """Yield the whole lines that were not there before. A file that shrank or was replaced is all new."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            if not self._waits:
                self._tell(f"{self._path} does not exist: waiting for it.")
            self._waits = True
            return
        with file:
            self._check(os.fstat(file.fileno()))
            file.seek(self._at)
            while (line := file.readline()).endswith(b"\n"):
                self._at += len(line)
                self._number += 1
                yield self._number - 1, line

    def _check(self, found: os.stat_result) -> None:
        """Begin again if this is not the file as it was."""
        file = (found.st_dev, found.st_ino)
        if self._waits or self._file != file or found.st_size < self._at:
            if self._at and not self._waits:
                self._tell(f"{self._path} was replaced or cut short: here it is from its beginning.")
            self._at = self._number = 0
        self._file, self._waits = file, False


def how_it_ended(record: dict[str, Any] | None) -> str | None:
    """Return how the last session of an output ended, in words; None if it has not, or nothing tells."""
    session = ((record or {}).get("sessions") or [{}])[-1]
    if "ended" in session:
        failed = f", {session['failed']:,} failed" if session.get("failed") else ""
        done = f"{session['steps']:,} steps" if "steps" in session else f"{session.get('done', 0):,} done"
        return f"the run has ended: {done}{failed}."
    pid = session.get("pid")
    if os.name == "posix" and isinstance(pid, int) and session.get("host") == socket.gethostname():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return f"the run was killed: its process {pid} is gone."
        except OSError:  # another user's
            return None
    return None
