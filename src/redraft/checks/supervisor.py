"""Run the program of a `command:` check, and kill every process that it started when standard input closes.

On Linux, processes that left the program's group or session become children of this one and are found in
/proc. It imports only the standard library and is run by its path, with a file descriptor for the program's
standard input, the program, and its arguments. The program's output goes to standard error. Standard output
gets `exit STATUS`, or `failed ERRNO` if the program could not be started, or nothing if it was killed.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # from linux/prctl.h
ROUNDS = 100  # most rounds of killing, 10 ms apart, because processes of other users cannot be killed


def main(given: int, command: list[str]) -> None:
    """Run the program, kill what it leaves behind, and report its status."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # unlike SIG_IGN, a handler is not inherited
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        program = subprocess.Popen(command, stdin=given, stdout=2, stderr=2, start_new_session=True)  # noqa: S603
    except OSError as error:
        print("failed", error.errno)
        return
    status = _wait(program)
    _end(program.pid)
    if status is not None:
        print("exit", status)


def _wait(program: subprocess.Popen[bytes]) -> int | None:
    """Return the status of the program, or None if standard input ends before it."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while (status := program.poll()) is None:
        ready, _, _ = select.select([0, woken], [], [])
        if 0 in ready and not os.read(0, 1):
            return None
        if woken in ready:
            os.read(woken, 4096)
    return status


def _end(group: int) -> None:
    """Kill the program's group and every process below this one, to which it leaves its orphans."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    for _ in range(ROUNDS):
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        try:
            children = Path("/proc/thread-self/children").read_text().split()
        except FileNotFoundError:  # no Linux
            return
        if not children:
            return
        for pid in map(int, children):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
