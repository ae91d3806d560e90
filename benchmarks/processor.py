"""The processor time and the memory of this process and its children, as the kernel tells. Linux only.

Other work on the machine hardly changes the time. Threads that wait in a loop take it too, so models get one
thread where it is measured.
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


def family(process: int, *, itself: bool = True) -> Iterator[int]:
    """Yields a process and all that live of those that it started; only these without `itself`."""
    yield from [process] * itself
    with suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in (task / "children").read_text("ascii").split():
                yield from family(int(child))


def resident(process: int, name: str = "VmRSS") -> float:
    """Returns the memory of one process in MB (10⁶ bytes): now, or the most (`VmHWM`); 0 if it has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text("utf-8").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def _of(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICK  # utime, stime, cutime, cstime
