"""Shows the progress of a job in bytes: a bar on a terminal, or occasional plain lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_SECONDS = 15.0
"""Seconds between two plain lines."""


@contextmanager
def bytes_bar(total: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Show bytes, speed and time left on standard error. Yield a function to report processed bytes."""
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        with _terminal(total) as advance:
            yield advance
    else:
        yield _Lines(total).advance


@contextmanager
def _terminal(total: int) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = BarColumn(bar_width=20), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total)
        yield lambda size: progress.advance(task, size)
        progress.update(task, completed=total)  # headers and padding are not reported


class _Lines:
    """Lines such as `1.2 of 4.3 GB · 350 MB/s · 9 s left`."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._began = time.monotonic()
        self._next = LINE_SECONDS

    def advance(self, size: int) -> None:
        """Add processed bytes, and print a line if one is due."""
        self._done += size
        seconds = time.monotonic() - self._began
        if seconds >= self._next:
            self._next = seconds + LINE_SECONDS
            pace = self._done / seconds
            left = max(self._total - self._done, 0) / pace if pace else 0
            done = f"{self._done / 1e9:.1f} of {self._total / 1e9:.1f} GB"
            print(f"redraft: {done} · {pace / 1e6:.0f} MB/s · {left:.0f} s left", file=sys.stderr, flush=True)
