"""Show progress. On a terminal, one line is redrawn. Elsewhere, lines appear after 3 s and then every 15 s.

Rates and the time left do not include earlier runs.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from redraft.jobs.counting import printable

FIRST_SECONDS, LINE_SECONDS = 3.0, 15.0  # seconds before the first plain line, and between two
DRAW_SECONDS = 0.25  # seconds between two drawings on a terminal
ID_SHOWN = 24  # maximum characters shown of an item's id

_PLAIN = (".json", ".jsonl", ".ndjson", ".txt")
"""Endings of uncompressed files. For other files, the share of bytes read so far is unknown."""


class ProgressLine:
    """Show a count within a `with` block. The caller sets `done`, and then calls `update`.

    Args:
        total: The total amount to do. None or 0 means unknown.
        before: The amount done before this run.
        transient: Remove the line from the terminal at the end.
    """

    moves = False  # on a terminal, a thread redraws the line

    def __init__(
        self,
        total: int | None = None,
        before: int = 0,
        *,
        quiet: bool = False,
        transient: bool = False,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.before, self.done = total, before, before
        self._quiet, self._clock, self._started = quiet, clock, clock()
        self._console = console or Console(stderr=True)
        self._every = DRAW_SECONDS if self._console.is_terminal else LINE_SECONDS
        self._next = min(self._every, FIRST_SECONDS)
        self._transient = transient
        self._live: Live | None = None

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return self._clock() - self._started

    @property
    def left(self) -> float | None:
        """Estimated seconds until the end; None if the time is unknown or nothing is left."""
        new = self.done - self.before
        if not self.total or new <= 0 or self.done >= self.total:
            return None
        return self.seconds / new * (self.total - self.done)

    def per_second(self, count: float) -> float:
        """Return a count divided by the seconds since the run began."""
        seconds = self.seconds
        return count / seconds if seconds > 0 else 0.0

    def parts(self) -> list[str]:
        """Return the parts of the progress line. Empty parts are not shown."""
        of = "" if self.total is None else f" of {self.total}"
        return [f"{self.done}{of} done", self._time_left()]

    def line(self) -> str:
        """Return the progress line, such as `120 of 500 done · 310 tokens/s · 4:10 left · 96 passed`."""
        return printable(" · ".join(filter(None, self.parts())))  # a server's text may be in it

    def update(self, *, now: bool = False) -> None:
        """Show the line if an update is due or `now` is True."""
        if self._quiet:
            return
        seconds = self.seconds
        if seconds < self._next and not now:
            return
        self._next = seconds + self._every
        if self._live:
            self._live.refresh()
        elif not self._console.is_terminal:
            self.print(self.line())

    def print(self, text: str) -> None:
        """Print a text above the progress line."""
        if not self._quiet:
            self._console.print(Text(printable(f"redraft: {text}")), soft_wrap=True)

    def open(self) -> None:
        """Start showing the progress line on a terminal."""
        if self._quiet or self._live or not self._console.is_terminal:
            return
        self._live = Live(
            get_renderable=self._drawn,
            console=self._console,
            auto_refresh=self.moves,
            transient=self._transient,
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
        )
        self._live.start(refresh=True)

    def close(self) -> None:
        """Draw the progress line for the last time."""
        if self._live:
            self._live.stop()
            self._live = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _time_left(self) -> str:
        return "" if self.left is None else f"{clock_time(self.left)} left"

    def _drawn(self) -> Table | Text:
        text = Text(self.line(), no_wrap=True, overflow="ellipsis")
        if not self.total:
            return text
        row = Table.grid(padding=(0, 1))
        row.add_row(ProgressBar(self.total, min(self.done, self.total), width=12), text)
        return row


class ItemProgress(ProgressLine):
    """The progress of items that models work on."""

    tokens = 0  # new tokens of this run's finished replies
    writing = 0  # new tokens of unfinished replies
    opening = False  # the models are being opened
    note = ""  # a few words on the results
    waiting = ""  # the reason for a wait, such as a server that is down
    on_update: Callable[[], None] | None = None  # called with each change

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.current: list[str] = []  # ids of the active items, in the order of their start

    def update(self, *, now: bool = False) -> None:
        """Show the line if an update is due or `now` is True."""
        if self.on_update is not None:
            self.on_update()
        super().update(now=now)

    def parts(self) -> list[str]:
        """Return items done, tokens/s, time left or elapsed, `note`, and `waiting` or the current item."""
        done, left = super().parts()
        pace = round(self.per_second(self.tokens + self.writing))
        if self.opening:
            return [done, f"opening the model, {clock_time(self.seconds)}", self.waiting]
        begun = f"{clock_time(self.seconds)} elapsed" if self.current and not left else ""
        speed = f"{pace} tokens/s" if pace else ""  # 0 would look like a hang
        return [done, speed, "" if self.waiting else left or begun, self.note, self.waiting or self._now()]

    def _now(self) -> str:
        if not self.current:
            return ""
        name = self.current[0]
        return f"now {name if len(name) <= ID_SHOWN else f'…{name[1 - ID_SHOWN :]}'}"

    def tick(self) -> None:
        """Redraw the progress line to update the time."""
        super().update()

    def write(self, tokens: int) -> None:
        """Add tokens of unfinished replies. A negative number removes the tokens of a finished reply."""
        self.writing += tokens

    def wait(self, reason: str) -> None:
        """Show a reason for waiting, such as a server that is down. An empty reason ends the message."""
        begins = bool(reason and not self.waiting)
        self.waiting = reason
        self.update(now=begins or self._live is not None)


class ByteProgress(ProgressLine):
    """The progress of large files in bytes."""

    def parts(self) -> list[str]:
        """Return the bytes done, bytes per second, and the time left."""
        done, pace = f"{self.done / 1e9:.1f}", self.per_second(self.done) / 1e6
        return [f"{done} of {(self.total or 0) / 1e9:.1f} GB", f"{pace:.0f} MB/s", self._time_left()]

    def advance(self, size: int) -> None:
        """Add processed bytes."""
        self.done += size
        self.update()


class RecordProgress(ProgressLine):
    """The progress of reading records from files, in bytes. The line disappears at the end."""

    def __init__(self, total: int | None = None, out: Path | None = None, *, quiet: bool = False) -> None:
        shown = sys.stderr.isatty() and not _takes_the_terminal(out)
        super().__init__(total, quiet=quiet or not shown, transient=True)
        self.records = 0  # the number of records read
        self.results: Callable[[], str] = str  # a few words on the results
        self._compared: tuple[int, int] | None = None

    def parts(self) -> list[str]:
        """Return the records read, records per second, the bytes read, and a note on the results."""
        if self._compared:
            return ["{:,} of {:,} records compared".format(*self._compared)]
        read = f"{self.done / 1e6:,.0f} MB"
        if self.total:
            share = f"{min(self.done / self.total, 1.0):.0%}".replace("%", " %")
            read = f"{self.done / 1e6:,.0f} of {self.total / 1e6:,.0f} MB ({share})"
        pace = f"{self.per_second(self.records):,.0f} a second"
        return [f"{self.records:,} records", pace, read, self.results()]

    def advance(self, size: int) -> None:
        """Count a record of `size` bytes."""
        self.records += 1
        self.done += size
        self.update()

    def compare(self, done: int, total: int) -> None:
        """Show that `done` of `total` records have been compared. Call this after all records are read."""
        self._compared = done, total
        self.update()


def size_of(paths: Sequence[Path]) -> int | None:
    """Return the total size of files in bytes, or None if any file is compressed or not a regular file."""
    if any(path.suffix not in _PLAIN or not path.is_file() for path in paths):
        return None
    return sum(path.stat().st_size for path in paths)


def _takes_the_terminal(out: Path | None) -> bool:
    if out is not None and str(out) != "-":
        return False
    return stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode) or (out is not None and sys.stdout.isatty())


def clock_time(seconds: float) -> str:
    """Format seconds as `4:10` or `1:04:10`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@dataclass(frozen=True)
class RunMessage:
    """A message for the user, such as a limit that was reached."""

    text: str
