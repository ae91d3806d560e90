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
from redraft.jobs.files import open_plain, replacing
from redraft.jobs.lines import LineFile, parse_line
from redraft.jobs.provenance import Provenance

TIDIED_AT = 4 << 20
"""Size in bytes at which finished items are removed; afterwards each time the file has doubled."""

LONGEST = 64 << 20  # longest line in bytes that is read
SYNCED_EVERY = 1.0  # seconds between two syncs. All streams wait during a sync.


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
        # The settings that decide results, without the input, which may grow.
        settings = json.dumps([provenance.command, provenance.config], sort_keys=True)
        self._settings = hashlib.sha256(settings.encode()).hexdigest()[:16]
        self._done = done
        self._kept: dict[str, bytes] = {}  # the last line of each item
        self._lines: LineFile | None = None
        self._usable = True
        self._synced, self._tidy_at = 0.0, TIDIED_AT
        with contextlib.suppress(OSError):
            self._kept = dict(self._read())
        if forget and self._kept:
            self._kept = {}
            with contextlib.suppress(OSError):
                self.path.unlink()

    def get(self, item_id: str) -> Any:
        """Return the JSON value kept last for an item, or None."""
        return json.loads(self._kept[item_id])["work"] if item_id in self._kept else None

    def keep(self, item_id: str, work: str) -> None:
        """Keep the work on an item: one JSON value, which replaces the one before."""
        if not self._usable:
            return
        head = json.dumps({"id": item_id, "settings": self._settings})[:-1]
        line = f'{head}, "work": {work}}}'
        try:
            if self._lines is None or self._lines.size >= self._tidy_at:
                self._lines = self._tidied()
            self._lines.append(line)
            self._kept[item_id] = line.encode() + b"\n"
            now = time.monotonic()
            if now - self._synced >= SYNCED_EVERY:
                self._synced = now
                self._lines.sync()
        except (OSError, OutputError):
            self._usable = False

    def close(self) -> None:
        """Remove finished items from the file, or the file if none is left."""
        with contextlib.suppress(OSError, OutputError):
            if self._kept:
                self._lines = self._tidied()
                if not self._kept:
                    self.path.unlink()
        if self._lines is not None:
            self._lines.close()
            self._lines = None

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> Iterator[tuple[str, bytes]]:
        """Yield the items of the file with their lines. It is a plain file, and never a link.

        Raises:
            OSError: It does not exist, or is something else.
        """
        with os.fdopen(open_plain(self.path, os.O_RDONLY), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return
            while line := file.readline(LONGEST):
                record = parse_line(line)
                if record is None or record.get("settings") != self._settings or "work" not in record:
                    continue
                if isinstance(name := record.get("id"), str) and name not in self._done:
                    yield name, line

    def _tidied(self) -> LineFile:
        self._kept = {name: line for name, line in self._kept.items() if name not in self._done}
        if self._lines is not None:
            self._lines.close()
            self._lines = None
        with replacing(self.path) as file:
            file.writelines(self._kept.values())
        lines = LineFile(self.path)
        self._tidy_at = max(TIDIED_AT, 2 * lines.size)
        return lines
