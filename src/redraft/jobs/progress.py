"""Progress of a job on standard error: a bar on a terminal, elsewhere a plain line every 15 seconds.

Both show the items done, new tokens a second, the time left and a note of the caller's. Rates and the time
left are those of this run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

LINE_SECONDS = 15.0
"""Seconds between two plain lines."""


class Meter:
    """Count items and tokens, and compute the pace.

    Attributes:
        total: Number of items, or None if it is not known.
        before: Items that were done before this run.
        done: Items that are done or failed.
        tokens: New tokens of this run.
        note: A few words on the results.
        waiting: What the job waits for, such as a server that is down, or an empty text.
    """

    def __init__(
        self, total: int | None, before: int = 0, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total = total
        self.before = before
        self.done = before
        self.tokens = 0
        self.note = ""
        self.waiting = ""
        self._clock = clock
        self._started = clock()

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return self._clock() - self._started

    @property
    def pace(self) -> float:
        """New tokens a second."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds until the end at this pace, or None if it is not known yet."""
        new = self.done - self.before
        if self.total is None or new <= 0:
            return None
        return self.seconds / new * max(self.total - self.done, 0)

    def line(self) -> str:
        """Return one line, such as `120 of 500 done · 310 tokens/s · 4:10 left · 96 passed`."""
        of = "" if self.total is None else f" of {self.total}"
        left = "" if self.left is None else f"{clock_time(self.left)} left"
        parts = [f"{self.done}{of} done", f"{self.pace:.0f} tokens/s", left, self.note, self.waiting]
        return " · ".join(part for part in parts if part)


def clock_time(seconds: float) -> str:
    """Return seconds as `4:10` or `1:04:10`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Shown:
    """Show a meter while it is open. Call `update` after each change."""

    def __init__(self, meter: Meter, *, quiet: bool = False, console: Console | None = None) -> None:
        self.meter = meter
        self.quiet = quiet
        self._console = console or Console(stderr=True)
        self._bar = self._new_bar() if self._console.is_terminal and not quiet else None
        self._next_line = LINE_SECONDS

    def update(self) -> None:
        """Show the meter: at once on a terminal, elsewhere when a line is due."""
        if self._bar:
            self._bar.update(self._task, completed=self.meter.done, says=self.meter.line())
        elif not self.quiet and self.meter.seconds >= self._next_line:
            self._next_line = self.meter.seconds + LINE_SECONDS
            print(f"redraft: {self.meter.line()}", file=sys.stderr, flush=True)

    def wait(self, reason: str) -> None:
        """Show what the job waits for, at once. An empty text ends the wait."""
        if reason and not self.meter.waiting:
            self._next_line = 0.0
        self.meter.waiting = reason
        self.update()

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
            self.update()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self.update()
            self._bar.stop()

    def _new_bar(self) -> Progress:
        text = TextColumn("{task.fields[says]}", markup=False)
        bar = Progress(BarColumn(bar_width=20), text, console=self._console, refresh_per_second=4)
        self._task = bar.add_task("", total=self.meter.total, completed=self.meter.done, says="")
        return bar
