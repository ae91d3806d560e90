"""Try whether the sandbox holds: print what it lets through, as a JSON list that should be empty."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redraft.verify.inside import namespaces
from redraft.verify.inside.lockdown import lock_down


def main() -> None:
    """Try it all. The arguments are the seconds of CPU time, and a file that must not be there."""
    leaks = ["a network"] if [name for _, name in socket.if_nameindex()] != ["lo"] else []
    lock_down(int(sys.argv[1]))
    attempts: dict[str, Callable[[], Any]] = {
        "new processes": _fork,
        "sockets": socket.socket,
        "outliving redraft": _outlive,
        "the user's files": lambda: Path(sys.argv[2]).stat(),
        "the processes of this machine": lambda: list(Path("/proc/1").iterdir()),
        "changing a device": lambda: Path("/dev/null").chmod(0o666),
        "writing": lambda: Path("/written").touch(),
        "writing to Python": lambda: Path(os.__file__).with_name("written").touch(),
    }
    leaks += [name for name, attempt in attempts.items() if _works(attempt)]
    leaks += ["any number of files"] if os.statvfs(namespaces.TMP).f_files > namespaces.MOST_FILES else []
    leaks += [f"${name}" for name in os.environ if name not in {"PWD", "LC_CTYPE"}]
    print(json.dumps(leaks))


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _outlive() -> None:
    if ctypes.CDLL(None).prctl(namespaces.PR_SET_PDEATHSIG, 0, 0, 0, 0):
        raise PermissionError


def _works(attempt: Callable[[], Any]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True
