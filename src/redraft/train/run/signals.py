"""Ctrl-C and SIGTERM as a request to save and stop after the step that is under way.

SIGTERM is what machines that are taken away send first, so it ends with a status that asks to be started
again. Schedulers repeat it, so a second one changes nothing; a second Ctrl-C stops at once, without saving.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

AGAIN = 75
"""The exit status after SIGTERM: EX_TEMPFAIL of sysexits.h, "try again later". A checkpoint was saved."""


def exit_status(number: int) -> int:
    """What a run that a signal stopped ends with."""
    return AGAIN if number == signal.SIGTERM else 128 + signal.SIGINT


class Signals:
    """Catches both signals while it is open.

    Attributes:
        received: The first of them, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # Only the main thread may: elsewhere (a notebook's worker) signals stay as they were.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        said = f"\nredraft: {name}: saving after this step. Ctrl-C{again} stops at once.\n"
        os.write(2, said.encode())  # not print: the signal may have come in the midst of one
