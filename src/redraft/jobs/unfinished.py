"""Work that was cut, kept in `OUT.unfinished.jsonl`, so that the next run resumes it instead of paying twice.

Each line is one item's work so far, and the last line of an item counts. This file never breaks a run: lines
that are torn, damaged or of other settings are skipped, and if it cannot be written, nothing is kept. The
ledger alone decides what is done, and its lock guards this file too.

Lines are written at once and synced once a second, so a power cut costs the last second's work.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Container, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from redraft.errors import OutputError
from redraft.files import replacing
from redraft.jobs.lines import LineFile, parse_line
from redraft.jobs.provenance import Provenance

TIDIED_AT = 4 << 20
"""Size in bytes at which finished items are removed; afterwards each time the file has doubled."""

LONGEST = 64 << 20
"""Longest line in bytes that is read."""

SYNCED_EVERY = 1.0
"""Seconds between two syncs. All streams wait during a sync."""


class Unfinished(AbstractContextManager["Unfinished"]):
    """The unfinished items of an output.

    Args:
        output: The output file, locked by this process.
        provenance: How the output is made. Work that was made in another way is not used.
        done: Ids of finished items, kept up to date by the caller.
        forget: Remove the file's content, because its output is gone.
    """

    def __init__(
        self, output: Path, provenance: Provenance, done: Container[str], *, forget: bool = False
    ) -> None:
        self.path = output.with_name(output.name + ".unfinished.jsonl")
        self._settings = _digest(provenance)
        self._done = done
        self._places: dict[str, tuple[int, int]] = {}
        self._lines: LineFile | None = None
        self._usable = True
        self._synced, self._tidy_at = 0.0, TIDIED_AT
        self._read()
        if forget and self._places:
            self._places = {}
            with contextlib.suppress(OSError):
                self.path.unlink()

    def get(self, item_id: str) -> Any:
        """Return the JSON value kept last for an item, or None."""
        if item_id not in self._places:
            return None
        start, length = self._places[item_id]
        with contextlib.suppress(OSError), _opened(self.path) as fd:
            record = _record(os.pread(fd, length, start))
            return record and record["work"]
        return None

    def keep(self, item_id: str, work: str) -> None:
        """Keep the work on an item: one JSON value, which replaces the one before."""
        if not self._usable:
            return
        head = json.dumps({"id": item_id, "settings": self._settings})[:-1]
        line = f'{head}, "work": {work}}}'
        try:
            if self._lines is None or self._lines.size >= self._tidy_at:
                self._tidy()
            assert self._lines is not None  # noqa: S101  (tidying opens it)
            start = self._lines.size
            self._lines.append(line)
            self._places[item_id] = (start, self._lines.size - start)
            self._sync()
        except (OSError, OutputError):
            self._usable = False

    def close(self) -> None:
        """Remove finished items from the file, or the file if none is left."""
        with contextlib.suppress(OSError, OutputError):
            if self._left():
                self._tidy()
            elif self._places:
                self.path.unlink(missing_ok=True)
        self._close_lines()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        with contextlib.suppress(OSError), _opened(self.path) as fd, os.fdopen(os.dup(fd), "rb") as file:
            start = 0
            while line := file.readline(LONGEST):
                record = _record(line)
                if record is not None and record["settings"] == self._settings:
                    self._places[record["id"]] = (start, len(line))
                start += len(line)

    def _left(self) -> list[str]:
        return [item_id for item_id in self._places if item_id not in self._done]

    def _tidy(self) -> None:
        """Write a new file without finished items, and open it."""
        places: dict[str, tuple[int, int]] = {}
        with replacing(self.path) as file:
            for item_id, line in self._kept():
                places[item_id] = (file.tell(), len(line))
                file.write(line)
        self._close_lines()
        self._places, self._lines = places, LineFile(self.path)
        self._tidy_at = max(TIDIED_AT, 2 * self._lines.size)

    def _kept(self) -> Iterator[tuple[str, bytes]]:
        left = self._left()
        if left:
            with _opened(self.path) as fd:
                for item_id in left:
                    start, length = self._places[item_id]
                    yield item_id, os.pread(fd, length, start)

    def _sync(self) -> None:
        now = time.monotonic()
        if now - self._synced >= SYNCED_EVERY and self._lines is not None:
            self._synced = now
            self._lines.sync()

    def _close_lines(self) -> None:
        if self._lines is not None:
            self._lines.close()
            self._lines = None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open a plain file for reading, and never a link.

    Raises:
        OSError: It does not exist, or is not a plain file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(f"{path} is not a plain file")
        yield fd
    finally:
        os.close(fd)


def _record(line: bytes) -> dict[str, Any] | None:
    """Return the object of a whole line that this module wrote, or None."""
    record = parse_line(line)
    if record is None or not {"settings", "work"} <= record.keys():
        return None
    return record if isinstance(record.get("id"), str) else None


def _digest(provenance: Provenance) -> str:
    """Return a digest of the settings that decide results, without the input, which may grow."""
    settings = json.dumps([provenance.command, provenance.config], sort_keys=True)
    return hashlib.sha256(settings.encode()).hexdigest()[:16]
