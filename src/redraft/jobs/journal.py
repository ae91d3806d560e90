"""Paid replies on disk, each under a key made of everything that determines it.

A journal is one SQLite file in WAL mode. A reply is committed and synced before the caller uses it, so that
neither a killed process nor a power cut makes anybody pay for it twice. Several processes may use one file.
A sync takes milliseconds, so replies that arrive meanwhile are committed together, in a thread.

The journal stores JSON and knows nothing of models: `redraft.engines.journaled` stores replies in it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from redraft.errors import OutputError

VERSION = 1
"""The layout, in SQLite's `user_version`. A journal of another version is refused."""

APPLICATION = 0x52656466
"""SQLite's `application_id` of a journal: `Redf` in ASCII."""

_BUSY_SECONDS = 30.0
"""How long to wait for another process that is writing."""


def key_of(asked: Any) -> str:
    """Return the key of a request: the SHA-256 of its canonical JSON.

    Args:
        asked: JSON values. Whatever may change the reply belongs in it.
    """
    text = json.dumps(asked, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _text(reply: Any) -> str:
    return json.dumps(reply, ensure_ascii=True, separators=(",", ":"))


class Journal(AbstractContextManager["Journal"]):
    """An open journal.

    Attributes:
        path: The file.
        replayed: How many replies it has given.
    """

    replayed = 0

    def __init__(self, path: Path) -> None:
        """Open the file, or create it.

        Raises:
            OutputError: It cannot be written, is not a journal, or has another version.
        """
        self.path = path
        self._waiting: dict[str, str] = {}
        self._next: asyncio.Future[None] | None = None
        self._closed = False
        self._one_by_one, self._writing = asyncio.Lock(), threading.Lock()
        with self._usable():
            self._db = self._connected()
            try:
                self._prepare()
                self._writer = self._connected()  # so that reading does not wait for a sync
                self._writer.execute("PRAGMA synchronous = FULL")
            except BaseException:
                self._db.close()
                raise

    def get(self, key: str) -> Any:
        """Return the reply stored under a key, or None.

        Raises:
            OutputError: The file cannot be read, or the reply is damaged.
        """
        with self._usable():
            found = self._db.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        if found is None:
            return None
        self.replayed += 1
        try:
            return json.loads(found[0])
        except (TypeError, ValueError, RecursionError):
            raise self.unusable("a reply in it is damaged") from None

    def put(self, key: str, reply: Any) -> None:
        """Store a reply. The first one under a key is kept, because it may have been used.

        Raises:
            OutputError: The file cannot be written.
        """
        self.put_all([(key, reply)])

    def put_all(self, replies: Iterable[tuple[str, Any]]) -> None:
        """Store replies under their keys, with one sync for all of them. Either all are stored or none.

        Raises:
            OutputError: The file cannot be written.
        """
        self._commit({key: _text(reply) for key, reply in replies})

    async def store(self, key: str, reply: Any) -> None:
        """Store a reply as `put` does, together with those of other tasks. When it returns, it is on disk."""
        self._waiting.setdefault(key, _text(reply))
        if self._next is None:
            self._next = asyncio.ensure_future(self._commit_waiting())
        await asyncio.shield(self._next)  # a task that is cancelled has paid for its reply all the same

    def close(self) -> None:
        """Store the replies that are on their way, and close the file. Closing twice does no harm.

        Raises:
            OutputError: They cannot be stored.
        """
        try:
            self._commit(self._waiting)
        finally:
            with self._writing:
                self._closed = True
                self._writer.close()
                self._db.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _commit_waiting(self) -> None:
        async with self._one_by_one:
            replies, self._next = dict(self._waiting), None
            try:
                await asyncio.to_thread(self._commit, replies)
            finally:
                for key in replies:  # until here, closing would store them
                    self._waiting.pop(key, None)

    def _commit(self, replies: Mapping[str, str]) -> None:
        with self._writing, self._usable():
            if self._closed or not replies:
                return
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                insert = "INSERT OR IGNORE INTO replies (key, reply) VALUES (?, ?)"
                self._writer.executemany(insert, replies.items())
                self._writer.execute("COMMIT")
            finally:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")

    def _connected(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )

    def _prepare(self) -> None:
        application, version = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        empty = not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not empty and application != APPLICATION:
            raise self.unusable("it is a database of another program")
        if not empty and version != VERSION:
            raise self.unusable(f"its version is {version}, and this redraft reads version {VERSION}")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(f"PRAGMA application_id = {APPLICATION}")
        self._db.execute(f"PRAGMA user_version = {VERSION}")
        # The table comes last: a process that sees it sees what the file is.
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID"
        )

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:  # the disk's fault, not the file's
            raise self.unusable(str(error), "Its folder must exist, be writable and have room.") from None
        except sqlite3.Error as error:
            raise self.unusable(str(error)) from None

    def unusable(
        self,
        reason: str,
        hint: str = "Name another file, or move this one away. Its replies are then paid for again.",
    ) -> OutputError:
        """Return the error for a file that cannot be used."""
        return OutputError(f"the replies in {self.path} cannot be used: {reason}.", hint=hint)
