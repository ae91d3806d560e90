"""Progress of a verb: one line on a terminal, removed at the end.

    12,345 records · 5,678 a second · 120 of 400 MB (30 %) · 11,000 kept, 1,345 dropped

In a pipe of several verbs only the last one shows it, and only if its output is not a terminal. Otherwise
lines of several processes, or records, would mix.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from redraft.cli.shell import printable, tell

if TYPE_CHECKING:
    from rich.live import Live

L = TypeVar("L")

_PLAIN = (".json", ".jsonl", ".ndjson", ".txt")
"""Endings of uncompressed files. For others the share of the bytes that are read is not known."""


class Progress:
    """Count the records that are read, and their results.

    Attributes:
        records: Number of records read.
        bytes: Their size, uncompressed.
        done: Returns a few words on the results, or an empty text.
        ended: Called when the last record was read.
    """

    def __init__(self, size: int | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.records = self.bytes = 0
        self.done: Callable[[], str] = str
        self.ended: Callable[[], None] = lambda: None
        self._size, self._clock, self._start = size, clock, clock()
        self._compared: tuple[int, int] | None = None
        self._above: Callable[[str], None] = tell

    @contextmanager
    def on(self, terminal: Live) -> Iterator[None]:
        """Show the line on a terminal, with messages above it."""

        def above(message: str) -> None:
            terminal.console.print(f"redraft: {printable(message)}", markup=False, soft_wrap=True)

        with terminal:
            self._above = above
            yield
        self._above = tell

    def tell(self, message: str) -> None:
        """Write a message to standard error."""
        self._above(message)

    def advance(self, size: int) -> None:
        """Count a record of `size` bytes."""
        self.records += 1
        self.bytes += size

    def compare(self, done: int, total: int) -> None:
        """Show how many of the records are compared with the others, once all are read."""
        self._compared = done, total

    def watch(self, lines: Iterable[L]) -> Iterator[L]:
        """Yield records, and count them by the length of their `data`."""
        for line in lines:
            data = getattr(line, "data", b"")
            self.advance(len(data) + 1 if isinstance(data, bytes) else 0)
            yield line
        self.ended()

    def line(self) -> str:
        """Return the progress in one line."""
        if self._compared:
            return "{:,} of {:,} records compared".format(*self._compared)
        seconds = self._clock() - self._start
        pace = f"{self.records / seconds:,.0f} a second" if seconds > 0 else ""
        parts = [f"{self.records:,} records", pace, self._read(), self.done()]
        return " · ".join(part for part in parts if part)

    def _read(self) -> str:
        megabytes = f"{self.bytes / 1e6:,.0f}"
        if not self._size:
            return f"{megabytes} MB"
        share = min(self.bytes / self._size, 1.0)
        return f"{megabytes} of {self._size / 1e6:,.0f} MB ({share:.0%})".replace("%", " %")


def size_of(paths: Sequence[Path]) -> int | None:
    """Return the size of files in bytes, or None if one is compressed or not a file."""
    if any(path.suffix not in _PLAIN or not path.is_file() for path in paths):
        return None
    return sum(path.stat().st_size for path in paths)


def shown(progress: Progress, out: Path | None, *, quiet: bool) -> AbstractContextManager[Any]:
    """Return a context that shows the line, if there is a terminal for it.

    Args:
        progress: The counts.
        out: Where records go: a file, or `-`; None for a verb that writes none.
        quiet: Show nothing.
    """
    if quiet or not sys.stderr.isatty() or _takes_the_terminal(out):
        return nullcontext()
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    live = Live(
        get_renderable=lambda: Text(progress.line(), no_wrap=True, overflow="ellipsis"),
        console=Console(stderr=True, highlight=False),
        refresh_per_second=4,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    return progress.on(live)


def _takes_the_terminal(out: Path | None) -> bool:
    """Whether records go to a terminal, or to a process that may write to it."""
    if out is not None and str(out) != "-":
        return False
    mode = os.fstat(sys.stdout.fileno()).st_mode
    return stat.S_ISFIFO(mode) or (out is not None and sys.stdout.isatty())
