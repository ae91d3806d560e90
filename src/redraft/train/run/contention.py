"""Notices that other processes use the cores that a run computes on.

Threads that compute together wait for the slowest of them. Where other processes take cores, each operation
waits until all of its threads had their turn: with two threads on two busy cores, a run of the default model
made an eighth of the tokens a second that it made with one. Linux counts for each thread how long it was
ready and had no core (`schedstat`); elsewhere nothing is noticed. Nothing is changed here: another number of
threads adds numbers up in another order, and a run would no longer be the same to the last bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

SECONDS = 15.0
"""How long is looked at a time: less would be about a moment, such as the start of another program."""

SHARE = 0.3
"""Of this time without a core. One other process for two threads on two cores takes a third."""

SCHEDSTAT = Path("/proc/thread-self/schedstat")
"""Nanoseconds that this thread ran, and that it was ready and waited; Linux's Documentation/scheduler."""


class _Times(NamedTuple):
    """Seconds that a thread ran, and that it waited for a core."""

    ran: float
    waited: float


class Contention:
    """Looks at the thread that it is used in.

    Attributes:
        said: What was noticed, or None.
    """

    def __init__(self, threads: int, path: Path = SCHEDSTAT) -> None:
        """Take how many threads compute together. Of one alone there is nothing to notice."""
        self.said: str | None = None
        self._threads, self._path = threads, path
        self._since: _Times | None = None

    def look(self) -> str | None:
        """Return what to say, once, at the end of the first time that many of its seconds went by waiting."""
        if self.said or self._threads < 2 or not (now := _times(self._path)):
            return None
        since = self._since or now
        ran, waited = now.ran - since.ran, now.waited - since.waited
        if self._since and ran + waited < SECONDS:
            return None
        self._since = now
        if waited < SHARE * (ran + waited) or not waited:
            return None
        self.said = _said(waited / (ran + waited), self._threads)
        return self.said


def _times(path: Path) -> _Times | None:
    try:
        ran, waited, *_ = path.read_text().split()
        return _Times(int(ran) / 1e9, int(waited) / 1e9)
    except (OSError, ValueError):
        return None


def _said(share: float, threads: int) -> str:
    """Advise as many threads as cores were had."""
    fewer = max(1, int((1 - share) * threads))
    return (
        f"other processes use the cores: the run waited for one {share:.0%} of the time, with {threads} "
        "threads. Fewer may be several times as fast. Stop it with Ctrl-C, which saves, and go on with: "
        f"OMP_NUM_THREADS={fewer} redraft train sft …"
    )
