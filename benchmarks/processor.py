"""Read the processor time and the memory of processes and their descendants from the kernel. Linux only.

Other work on the machine hardly changes the processor time. Threads that wait in a loop also use processor
time, so models get one thread if it is measured.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def spent(process: int | None = None) -> float:
    """Return the processor seconds, user and system, of a process and all its descendants.

    Args:
        process: The id of the process; None for this one.
    """
    return sum(_of(each) for each in family(process or os.getpid()))


def family(process: int, *, itself: bool = True) -> Iterator[int]:
    """Yield the ids of a process and its living descendants; without `itself`, only those of descendants."""
    yield from [process] * itself
    with suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in (task / "children").read_text("ascii").split():
                yield from family(int(child))


def resident(process: int, name: str = "VmRSS") -> float:
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
