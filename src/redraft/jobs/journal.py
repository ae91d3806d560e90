"""Store paid replies on disk, each under a key made from everything that determines the reply.

A journal is one SQLite file in WAL mode. A reply is written at once, so that a killed process loses no
received reply. The reply is synced before the caller gets it, so that nobody pays twice after a power cut. A
sync takes milliseconds, so one sync in a thread covers all replies that arrived during the previous sync.
Several processes may use the same file.

SQLite's sync would delay every reply. So SQLite syncs only when it moves the log into the database
(`synchronous = NORMAL`), and this module syncs the log `-wal`.

The journal stores JSON and does not depend on models. `redraft.engines.wrapped` stores replies in a journal.
Replies are compressed, because most of a reply is the same few field names, repeated for each token.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sqlite3
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from redraft.errors import OutputError
from redraft.jobs.files import sync, sync_folder

_VERSION = 2  # the version of the layout, in SQLite's `user_version`. Files with another version are refused.
APPLICATION = 0x52656466  # SQLite's `application_id` of a journal: `Redf` in ASCII
_MOVE = "Name another file, or move this one away. Replies in it have to be paid for again."
_BUSY_SECONDS = 30.0  # maximum wait for another process that is writing
_FIND = "SELECT reply FROM {} WHERE key = ?"
_PAGE = 8192  # bytes of a page: rows of 1 to 4 kB would waste much of SQLite's usual 4,096


def key_of(asked: Any) -> str:
    """Return the key of a request, a SHA-256 in hex.

    Args:
        asked: The request as JSON values and sets, with everything that may change the reply.
    """
    text = json.dumps(asked, ensure_ascii=True, sort_keys=True, separators=(",", ":"), default=sorted)
    return hashlib.sha256(text.encode()).hexdigest()


def raw_key(key: str) -> str:
    """Return the key of a batch's raw reply, which is deleted when the parsed reply is stored under `key`."""
    return key_of(["batch", key])


class Journal(AbstractContextManager["Journal"]):
    """An open journal: a file of paid replies, each stored under a key."""

    replayed = 0  # replies taken from the journal instead of being paid for; callers count them

    def __init__(self, path: Path, *, base: Path | None = None) -> None:
        """Open or create the file. `get` also searches the journal `base`, which must not change.

        Raises:
            OutputError: A file cannot be written, is not a journal, or has another version.
        """
        self.path, self._tables = path, ["packed"]
        self._next: asyncio.Future[None] | None = None
        self._one_by_one = asyncio.Lock()
        with self._usable():
            self._db = sqlite3.connect(
                path.absolute().as_uri(),
                uri=True,
                timeout=_BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                self._prepare()
                if base is not None and base.exists():
                    log = base.with_name(f"{base.name}-wal")
                    if log.exists() and log.stat().st_size:
                        with Journal(base):  # opening it moves the log of a killed process into the database
                            pass
                    self._db.execute("ATTACH ? AS base", (f"{base.absolute().as_uri()}?immutable=1",))
                    self._tables.append("base.packed")
            except BaseException:
                self._db.close()
                raise
        sync_folder(path.parent)

    def get(self, key: str) -> Any:
        """Return the reply stored under a key, or None. Raise `OutputError` if the reply cannot be read."""
        found, named = None, (bytes.fromhex(key),)
        with self._usable():
            for table in self._tables:
                found = found or self._db.execute(_FIND.format(table), named).fetchone()
        if found is None:
            return None
        try:
            return json.loads(zlib.decompress(found[0]))
        except (zlib.error, TypeError, ValueError, RecursionError):
            raise self.unusable("one is damaged") from None

    def put(self, replies: Mapping[str, Any]) -> None:
        """Store replies by key, all or none. Existing replies are not replaced."""
        self._write(replies)
        self._sync()

    async def store(self, key: str, reply: Any) -> None:
        """Store one reply, as `put` does. Concurrent calls share one sync."""
        self._write({key: reply})
        if self._next is None:
            self._next = asyncio.ensure_future(self._sync_all())
        await asyncio.shield(self._next)

    def add_all(self, other: Path) -> None:
        """Add the replies of another journal. Existing replies are not replaced."""
        with Journal(other):  # opening it moves the log of a killed process into the database
            pass
        with self._usable():
            self._db.execute("ATTACH ? AS other", (other.absolute().as_uri(),))
            with self._transaction():
                self._db.execute("INSERT OR IGNORE INTO packed SELECT key, reply FROM other.packed")
            self._db.execute("DETACH other")

    def __exit__(self, *_: object) -> None:
        self._db.close()

    async def _sync_all(self) -> None:
        async with self._one_by_one:
            self._next = None  # later replies wait for the next sync
            await asyncio.to_thread(self._sync)

    def _sync(self) -> None:
        with self._usable(), suppress(FileNotFoundError):
            sync(Path(f"{os.path.realpath(self.path)}-wal"))

    def _write(self, replies: Mapping[str, Any]) -> None:
        texts = [json.dumps(each, ensure_ascii=False, separators=(",", ":")) for each in replies.values()]
        packed = [zlib.compress(text.encode("utf-8", "surrogatepass")) for text in texts]
        rows = [(bytes.fromhex(key), each) for key, each in zip(replies, packed, strict=True)]
        raw = [(bytes.fromhex(raw_key(key)),) for key in replies]
        with self._usable(), self._transaction():
            self._db.executemany("INSERT OR IGNORE INTO packed (key, reply) VALUES (?, ?)", rows)
            self._db.executemany("DELETE FROM packed WHERE key = ?", raw)

    def _prepare(self) -> None:
        # Read first, because another process may be creating the file. It creates the table last.
        empty = not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not empty and self._pragma("application_id") != APPLICATION:
            raise self.unusable("the file is a database of another program")
        version = self._pragma("user_version")
        if not empty and version != _VERSION:
            raise self.unusable(f"the file has version {version}, but this redraft reads version {_VERSION}")
        self._db.execute(f"PRAGMA page_size = {_PAGE}")  # for a new file
        until = time.monotonic() + _BUSY_SECONDS
        while True:  # SQLite's timeout does not wait here for a process that switches the same file to WAL
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(0.01)
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute(f"PRAGMA application_id = {APPLICATION}")
        with self._transaction():
            # The table has row ids, so that a long reply fills its pages.
            self._db.execute("CREATE TABLE IF NOT EXISTS packed (key BLOB PRIMARY KEY, reply BLOB NOT NULL)")
            self._db.execute(f"PRAGMA user_version = {_VERSION}")

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.OperationalError, OSError) as error:  # the disk's fault, not the file's
            raise self.unusable(str(error), "The folder must exist, be writable and have room.") from None
        except sqlite3.Error as error:
            raise self.unusable(str(error)) from None

    def unusable(self, reason: str, hint: str = _MOVE) -> OutputError:
        """Return the error for a file that cannot be used."""
        return OutputError(f"the replies in {self.path} cannot be used: {reason}.", hint=hint)
