"""A record of requests in SQLite: a row a request, and its chains if that was asked for.

Rows wait in a bounded queue for a thread of their own, so that a slow or full disk holds up no request: rows
are lost instead, with a warning. Others may read the file meanwhile (write-ahead log).
"""

from __future__ import annotations

import logging
import os
import queue
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import fields
from datetime import date, timedelta
from pathlib import Path

from redraft.chain import Chain
from redraft.errors import OutputError
from redraft.serve.keys import utc_now
from redraft.serve.log import Entry

_log = logging.getLogger(__name__)

QUEUE = 1000  # rows that may wait. More are dropped: their chains would fill the memory.
AT_ONCE = 200  # rows of one transaction
CLOSING = 5.0  # Seconds: the longest that the end of the server waits for the last rows

_VERSION = 1
_COLUMNS = tuple(field.name for field in fields(Entry))
_INSERT = f"INSERT INTO requests (time, {', '.join(_COLUMNS)}) VALUES (?{', ?' * len(_COLUMNS)})"  # noqa: S608
_SCHEMA = """
CREATE TABLE requests (
  number INTEGER PRIMARY KEY, time TEXT NOT NULL, id TEXT NOT NULL, key TEXT, method TEXT NOT NULL,
  path TEXT NOT NULL, status INTEGER, model TEXT, stop TEXT, revisions INTEGER, prompt_tokens INTEGER,
  completion_tokens INTEGER, usd REAL, error TEXT, seconds REAL NOT NULL
);
CREATE INDEX requests_by_time ON requests (time);
CREATE TABLE chains (request INTEGER NOT NULL REFERENCES requests (number), chain TEXT NOT NULL);
"""

_USED = """
SELECT key, count(*), sum(coalesce(prompt_tokens, 0) + coalesce(completion_tokens, 0)), sum(coalesce(usd, 0))
FROM requests WHERE key IS NOT NULL AND model IS NOT NULL AND time >= ? AND time < ?
AND coalesce(error, '') NOT IN ('rate_limit_exceeded', 'insufficient_quota') GROUP BY key
"""
"""What counts for a key: requests that were right, and within its limits."""

_Row = tuple[str, Entry, Sequence[Chain]]


class RequestLog:
    """Writes rows until it is closed."""

    def __init__(self, path: Path, *, with_text: bool = False) -> None:
        self._path, self._with_text = path, with_text
        self._file = _opened(path)
        self._rows: queue.Queue[_Row | None] = queue.Queue(QUEUE)
        self._failing = False
        self._thread = threading.Thread(target=self._work, name="redraft-request-log", daemon=True)
        self._thread.start()

    def used(self, day: date) -> dict[str, dict[str, float]]:
        """Return what was used on a day of UTC, by the names of keys: requests, tokens and usd."""
        with closing(sqlite3.connect(self._path)) as file:
            rows = file.execute(_USED, (day.isoformat(), (day + timedelta(1)).isoformat())).fetchall()
        return {key: dict(zip(("requests", "tokens", "usd"), sums, strict=True)) for key, *sums in rows}

    def note(self, entry: Entry, chains: Sequence[Chain]) -> None:
        """Add a row. Returns at once."""
        row = (utc_now().isoformat(timespec="milliseconds"), entry, chains if self._with_text else ())
        try:
            self._rows.put_nowait(row)
        except queue.Full:
            self._warn("its disk is too slow")

    def close(self) -> None:
        """Write the rows that wait, within `CLOSING` seconds."""
        with suppress(queue.Full):
            self._rows.put(None, timeout=CLOSING)
        self._thread.join(CLOSING)

    def _work(self) -> None:
        with closing(self._file):
            while (row := self._rows.get()) is not None:
                rows: list[_Row | None] = [row]
                with suppress(queue.Empty):
                    while rows[-1] is not None and len(rows) < AT_ONCE:
                        rows.append(self._rows.get_nowait())
                self._write([row for row in rows if row is not None])
                if rows[-1] is None:
                    return

    def _write(self, rows: Sequence[_Row]) -> None:
        try:
            with self._file:
                for when, entry, chains in rows:
                    values = (when, *(getattr(entry, name) for name in _COLUMNS))
                    try:
                        number = self._file.execute(_INSERT, values).lastrowid
                        lines = [(number, chain.to_json()) for chain in chains]
                        self._file.executemany("INSERT INTO chains VALUES (?, ?)", lines)
                    except (OverflowError, ValueError) as error:  # a server may report any number of tokens
                        self._warn(str(error))
        except sqlite3.Error as error:
            self._warn(str(error))
        else:
            self._failing = False

    def _warn(self, why: str) -> None:
        if not self._failing:
            self._failing = True
            _log.warning("requests are not written to %s: %s. They are answered.", self._path, why)


def _opened(path: Path) -> sqlite3.Connection:
    """Open the file, which only its owner can read: it may have prompts."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        file = sqlite3.connect(path, check_same_thread=False)
        file.execute("PRAGMA journal_mode=WAL")
        file.execute("PRAGMA synchronous=NORMAL")
        (version,) = file.execute("PRAGMA user_version").fetchone()
        (tables,) = file.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if not (version or tables):
            file.executescript(f"{_SCHEMA} PRAGMA user_version = {_VERSION};")
        elif version != _VERSION:
            raise OutputError(f"{path} is no request log of this redraft.", hint="Name another file.")
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise OutputError(f"the request log {path} cannot be written: {reason}.") from None
    return file
