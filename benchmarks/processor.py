"""The processor time that this process and its children took, which other work on the machine hardly changes.

Threads that wait in a loop take it too, so models get one thread where it is measured. Linux only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def spent(process: int | None = None) -> float:
    """Returns the seconds of a process and of all that it started, user and system.

    Args:
        process: Its id; None for this one.
    """
    return sum(_of(each) for each in family(process or os.getpid()))


def family(process: int) -> Iterator[int]:
    """Yields a process and all that live of those that it started."""
    yield process
    with suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in (task / "children").read_text("ascii").split():
                yield from family(int(child))


def _of(process: int) -> float:
    """Returns the seconds of one process and of its children that have ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICK  # utime, stime, cutime, cstime
