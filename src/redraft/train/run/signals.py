"""Ctrl-C and SIGTERM: save and stop after the current step.

Machines that are taken away send SIGTERM first, so the run then exits with a status that asks for a restart.
Schedulers repeat SIGTERM, so a second one is ignored. A second Ctrl-C stops at once, without saving.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any, Self

AGAIN = 75
"""The exit status after SIGTERM: EX_TEMPFAIL of sysexits.h, "try again later". A checkpoint was saved."""


def exit_status(number: int) -> int:
    """Return the exit status of a run that a signal stopped."""
    return AGAIN if number == signal.SIGTERM else 128 + signal.SIGINT


class Signals:
    """Catch both signals inside a `with` block.

    Attributes:
        received: The first signal, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # Only the main thread may set handlers. Elsewhere (a notebook's worker) nothing changes.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.received is not None:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.received = number
        name = signal.Signals(number).name
        again = " again" if number == signal.SIGINT else ""
        line = f"\nredraft: {name}: saving after this step. Ctrl-C{again} stops at once.\n"
        os.write(2, line.encode())  # not print: the signal may interrupt one
