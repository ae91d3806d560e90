"""Turns for checks that start processes: a batch may bring the answers of a thousand chains in a moment.

All at once they would use up memory and open files, and make each other miss their time limits.
"""

from __future__ import annotations

import asyncio
import os
from weakref import WeakKeyDictionary

AT_ONCE = min(32, (os.cpu_count() or 1) + 4)
"""Most such checks at once. As many as `ThreadPoolExecutor` takes threads."""

_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


def turn() -> asyncio.Semaphore:
    """Return what a check enters before its processes start, and leaves after their end."""
    return _of_loop.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE))
