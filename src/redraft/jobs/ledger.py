"""An output file that is its own ledger: one whole line of JSON a result, and what is in it is done.

Nothing else remembers what was done, so nothing can disagree with the output. A line is appended with one
write; a process that is killed leaves at most one torn line, which the next one cuts off. One process at a
time: the file is locked while it is open. Items that failed are written to `OUT.errors.jsonl` and are tried
again the next time. Results have the order in which they were finished.

Written to survive the death of the process. A power cut may lose the last lines (they are synced on closing).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redraft.errors import OutputError, RecordError, RedraftError
from redraft.files import open_own, replace_file
from redraft.jobs.provenance import Making, RunFile

_HINTS = {
    errno.ENOENT: "Make the folder first: mkdir -p {folder}",
    errno.EISDIR: "Name a file, such as {path}/out.jsonl",
}
_GO_ON = "Everything finished before is safe in it. Make room, and run the same command again to go on."


class LineFile:
    """A file of lines that grows by whole lines only.

    Attributes:
        path: Where it is.
        size: Its length in bytes, up to the end of the last whole line.
    """

    def __init__(self, path: Path, *, made_up: bool = False) -> None:
        """Opens the file, and makes it if it is not there.

        Args:
            path: Where it is.
            made_up: The name is redraft's, not the user's: a link of that name is not followed.

        Raises:
            OutputError: It cannot be written, or something else is there.
        """
        self.path = path
        self._fd = _open(path, open_own if made_up else os.open)
        self.size = os.fstat(self._fd).st_size

    def append(self, line: str) -> None:
        """Appends one line. Either all of it is there afterwards, or nothing of it.

        Raises:
            OutputError: It cannot be written; the file is as it was before.
        """
        data = line.encode() + b"\n"
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError as error:
            os.ftruncate(self._fd, self.size)
            raise OutputError(f"cannot write {self.path}: {error.strerror}.", hint=_GO_ON) from None
        self.size += len(data)

    def lock(self) -> bool:
        """Locks the file for this process; False where another one has it."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self.size = os.fstat(self._fd).st_size
        return True

    def cut(self, size: int) -> None:
        """Cuts everything after `size` bytes off."""
        os.ftruncate(self._fd, size)
        self.size = size

    def sync(self) -> None:
        """Wait until everything is on the disk."""
        os.fdatasync(self._fd) if hasattr(os, "fdatasync") else os.fsync(self._fd)

    def close(self) -> None:
        """Syncs and closes the file, and gives the lock back."""
        with contextlib.suppress(OSError):  # nothing more can be done, and an error may be under way already
            os.fsync(self._fd)
        os.close(self._fd)


def _open(path: Path, opener: Callable[[Path, int], int]) -> int:
    try:
        fd = opener(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
    except OSError as error:
        hint = _HINTS.get(error.errno or 0, "Write to another file with -o.")
        raise OutputError(
            f"cannot write {path}: {error.strerror}.", hint=hint.format(path=path, folder=path.parent)
        ) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OutputError(
            f"{path} is not a plain file, and a job needs one to go on from.", hint="Name one: -o out.jsonl"
        )
    return fd


def record_id(record: dict[str, Any]) -> str:
    """The id of a record that has it in the field `id`."""
    return str(record["id"])


class Ledger:
    """An output file, open for one process to add results to.

    Attributes:
        path: The output file.
        done: Ids of the results in it.
        found: How many were in it when it was opened.
        failed: Ids of the items that failed since then.
        torn: Bytes of a torn last line that were cut off when it was opened.
    """

    def __init__(
        self,
        path: Path,
        making: Making,
        *,
        key: Callable[[dict[str, Any]], str] = record_id,
        on_found: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        """Opens, locks and mends the file, and reads what is done.

        Args:
            path: The output file; it is made if it is not there.
            making: How the results are made; the file must have been made in the same way.
            key: The id of a record, from a line's JSON object.
            on_found: Called with each line that is in the file already, for counting.

        Raises:
            OutputError: It cannot be written, is in use by another process, or was made in another way.
            RecordError: A line in the middle is not a result.
        """
        self.path = path
        self.done: set[str] = set()
        self.failed: set[str] = set()
        self.torn = 0
        self._key = key
        self._run = RunFile(path)
        self._lines = LineFile(path)
        self._errors_path = path.with_name(path.name + ".errors.jsonl")
        self._errors: LineFile | None = None
        try:
            self._lock()
            if self._lines.size:
                self._run.insist(making)
            self._insist_on_own_failures()
            self._recover(on_found)
            self._run.begin(making, resume=bool(self.done))
        except BaseException:
            self._lines.close()
            raise
        self.found = len(self.done)

    def append(self, item_id: str, line: str) -> None:
        """Adds the result of an item: one line of JSON, without its line break.

        Raises:
            OutputError: It cannot be written; nothing of it is in the file then.
        """
        self._lines.append(line)
        self.done.add(item_id)

    def fail(self, item_id: str, error: RedraftError) -> None:
        """Writes down that an item failed, with all that was generated for it. It stays to be done.

        Raises:
            OutputError: It cannot be written.
        """
        if self._errors is None:
            self._errors = LineFile(self._errors_path, made_up=True)
            self._errors.cut(
                sum(len(line) for line in _read_lines(self._errors_path) if line.endswith(b"\n"))
            )
        chain = error.chain.model_dump(mode="json") if error.chain else None
        record = {"id": item_id, "error": type(error).__name__, "message": error.message}
        self._errors.append(json.dumps(record | {"hint": error.hint, "chain": chain}, ensure_ascii=False))
        self.failed.add(item_id)

    def close(self) -> None:
        """Syncs the file, forgets failures that were made good, and gives the lock back."""
        if self._errors:
            self._errors.close()
        # On a full disk these two fail, and the error that says so is under way already.
        with contextlib.suppress(OSError, OutputError):
            self._tidy_failures()
            self._run.end(done=len(self.done), added=len(self.done) - self.found, failed=len(self.failed))
        self._lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lock(self) -> None:
        if self._lines.lock():
            return
        holder = self._run.holder()
        raise OutputError(
            f"{self.path} is being written by another redraft{f' (process {holder})' if holder else ''}.",
            hint="Wait until it is done, or write to another file with -o.",
        )

    def _recover(self, on_found: Callable[[bytes], None]) -> None:
        whole = 0
        for number, line in enumerate(_read_lines(self.path), start=1):
            record = _parse(line)
            if record is None and whole + len(line) == self._lines.size:
                self.torn = len(line)
                self._lines.cut(whole)
                return
            self.done.add(self._id_of(record, number))
            on_found(line)
            whole += len(line)

    def _id_of(self, record: dict[str, Any] | None, number: int) -> str:
        hint = f"Was it written by redraft? Mend or remove the line, or move {self.path} away."
        if record is None:
            raise RecordError(f"{self.path}:{number}: not a JSON object.", hint=hint)
        try:
            return self._key(record)
        except KeyError as field:
            raise RecordError(f"{self.path}:{number}: {field.args[0]} is missing.", hint=hint) from None

    def _insist_on_own_failures(self) -> None:
        """Sees that the file of failures is ours: it is written to, and rewritten at the end."""
        if not os.path.lexists(self._errors_path):
            return
        LineFile(self._errors_path, made_up=True).close()
        for number, line in enumerate(_read_lines(self._errors_path), start=1):
            if line.endswith(b"\n") and "id" not in (_parse(line) or {}):
                raise OutputError(
                    f"{self._errors_path} is where failures are written, and line {number} is no failure.",
                    hint="Move it away, or write to another file with -o.",
                )

    def _tidy_failures(self) -> None:
        """Keeps the last failure of each item that is still to be done; no failures, no file."""
        last: dict[str, bytes] = {}
        for line in _read_lines(self._errors_path):
            record = _parse(line)
            if record is not None and record["id"] not in self.done:
                last[record["id"]] = line
        if not last:
            self._errors_path.unlink(missing_ok=True)
            return
        replace_file(self._errors_path, b"".join(last.values()))


def _read_lines(path: Path) -> Iterator[bytes]:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        yield from file


def _parse(line: bytes) -> dict[str, Any] | None:
    """The object of a whole line; None for a torn one."""
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
