"""Notice when other processes compete for the cores of a run.

Threads that compute together wait for the slowest. With two threads on two busy cores, a run of the default
model made an eighth of the tokens/s that it made with one. Linux counts how long each thread waited for a
core (`schedstat`); on other systems nothing is noticed. The run only advises: another number of threads
changes the order of sums, and with it the last bits of the result.
"""

from __future__ import annotations

from pathlib import Path

SECONDS = 15.0
"""The window to judge: a shorter one would notice every program that starts."""

SHARE = 0.3
"""The share of the window spent waiting. One other process against two threads on two cores takes a third."""

SCHEDSTAT = Path("/proc/thread-self/schedstat")
"""Nanoseconds that this thread ran and waited (Linux, Documentation/scheduler/sched-stats)."""


class Contention:
    """Watch the calling thread.

    Attributes:
        notice: What was noticed, or None.
    """

    def __init__(self, threads: int, path: Path = SCHEDSTAT) -> None:
        """Set the number of threads that compute together. One alone has nothing to wait for."""
        self.notice: str | None = None
        self._threads, self._path = threads, path
        self._since: tuple[float, float] | None = None

    def check(self) -> str | None:
        """Return a notice to print, once: after the first window with much waiting."""
        if self.notice or self._threads < 2 or not (now := _times(self._path)):
            return None
        since = self._since or now
        ran, waited = now[0] - since[0], now[1] - since[1]
        if self._since and ran + waited < SECONDS:
            return None
        self._since = now
        if waited < SHARE * (ran + waited) or not waited:
            return None
        self.notice = _notice(waited / (ran + waited), self._threads)
        return self.notice


def _times(path: Path) -> tuple[float, float] | None:
    """Return the seconds that this thread ran and waited for a core, or None if the system does not tell."""
    try:
        ran, waited, *_ = path.read_text().split()
        return int(ran) / 1e9, int(waited) / 1e9
    except (OSError, ValueError):
        return None


def _notice(share: float, threads: int) -> str:
    """Advise one thread for each core that the run got."""
    fewer = max(1, int((1 - share) * threads))
    return (
        f"other processes use the cores: with {threads} threads, the run waited for one {share:.0%} of the "
        "time. Fewer threads may be several times as fast. Stop with Ctrl-C, which saves, and resume with: "
        f"OMP_NUM_THREADS={fewer} redraft train …"
    )
