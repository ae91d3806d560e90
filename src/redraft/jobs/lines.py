"""Append whole lines to files, and read the lines, even after a process was killed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from redraft.errors import OutputError
from redraft.jobs.files import lock, open_own

_HINTS = {
    errno.ENOENT: "Make the folder first: mkdir -p {folder}",
    errno.EISDIR: "Name a file, such as {path}/out.jsonl",
}
_GO_ON = "The file contains all finished results. Make room, and run the same command again to resume."


class LineFile:
    """A file to which whole lines are appended. `size` is the file's length in bytes."""

    def __init__(self, path: Path, *, made_up: bool = False) -> None:
        """Open or create the file. If redraft chose the name (`made_up`), links are not followed.

        Raises:
            OutputError: The file cannot be written, or is not a plain file.
        """
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        try:
            if made_up:
                self._fd = open_own(path, flags)
            elif path.is_relative_to("/dev"):  # for /dev/stdout, other files of the run would be in /dev
                raise _not_plain(path)
            else:
                self._fd = os.open(path, flags, 0o666)
        except OSError as error:
            there = error.errno == errno.ENOENT and path.parent.is_dir()  # in /proc, for example
            hint = _HINTS.get(0 if there else error.errno or 0, "Write to another file (-o).")
            raise OutputError(
                f"cannot write {path}: {error.strerror}.", hint=hint.format(path=path, folder=path.parent)
            ) from None
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(self._fd)
            raise _not_plain(path)
        self.size = found.st_size

    def append(self, *lines: str) -> None:
        """Append all lines, or no line if writing fails.

        A killed process may leave only some of the lines, and part of a line.

        Raises:
            OutputError: The lines cannot be written. The file is unchanged.
        """
        data = "".join(f"{line}\n" for line in lines).encode()
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError as error:
            os.ftruncate(self._fd, self.size)
            raise OutputError(f"cannot write {self.path}: {error.strerror}.", hint=_GO_ON) from None
        self.size += len(data)

    def lock(self) -> bool:
        """Lock the file for this process. Return False if another process holds the lock."""
        if not lock(self._fd):
            return False
        self.size = os.fstat(self._fd).st_size
        return True

    def cut(self, size: int) -> None:
        """Truncate the file to `size` bytes."""
        os.ftruncate(self._fd, size)
        self.size = size

    def sync(self) -> None:
        """Flush the file to the disk."""
        os.fdatasync(self._fd) if hasattr(os, "fdatasync") else os.fsync(self._fd)

    def close(self) -> None:
        """Sync and close the file, and release the lock."""
        with contextlib.suppress(OSError):  # nothing more can be done, and another error may be propagating
            os.fsync(self._fd)
        os.close(self._fd)


def _not_plain(path: Path) -> OutputError:
    message = f"{path} is not a plain file, and a job can resume only from a plain file."
    return OutputError(message, hint="Name a file: -o out.jsonl")


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, or nothing if there is no file."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        yield from file


def parse_line(line: bytes) -> dict[str, Any] | None:
    """Return the JSON object in a line, or None if the line is incomplete or damaged."""
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def own_lines(path: Path, what: str, fits: Callable[[dict[str, Any]], object]) -> Iterator[dict[str, Any]]:
    """Yield the records of a file whose name redraft chose, or nothing if there is no file.

    An incomplete last line is skipped.

    Args:
        what: A noun for the records, used in the error message.
        fits: Returns whether a JSON object is a record of this file.

    Raises:
        OutputError: A line is not a record, so the file belongs to the user.
    """
    for number, line in enumerate(read_lines(path), start=1):
        record = parse_line(line)
        if record is not None and fits(record):
            yield record
        elif line.endswith(b"\n"):
            message = f"{path} should contain only {what}, but line {number} is something else."
            raise OutputError(message, hint="Move the file away, or write to another file (-o).")
