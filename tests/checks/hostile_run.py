"""Hostile programs, run in a sandbox with something to harm. The tests and benchmarks/generate.py share it.

with Prey(folder) as prey, marking(mark):
    outcome = asyncio.run(prey.attacked_by(program))
assert not prey.harm() and none_left(mark)
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from unittest.mock import patch

from redraft.chain import Prompt
from redraft.checks import sandbox
from redraft.checks.base import Outcome
from redraft.checks.code import CodeCheck
from tests.checks.hostile_programs import Hostile

DEVICE = Path("/dev/null")
LONG = 600.0  # seconds for what ends by itself, however busy the machine is


@contextlib.contextmanager
def marking(mark: str) -> Iterator[None]:
    """Put a mark on the command line of each process in the sandbox."""
    build = sandbox.jail
    with patch.object(sandbox, "jail", lambda *args: [*build(*args), mark]):
        yield


class Prey:
    """Something to harm: a home with a secret, a key in the environment, a process, a server, a device."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> Self:
        (self._home / "secret").write_text("s")
        self._closing.enter_context(patch.dict(os.environ, {"SECRET_KEY": "s"}))
        self._server = self._closing.enter_context(socket.create_server(("127.0.0.1", 0)))
        self._server.setblocking(False)
        sleeping = [sys.executable, "-c", "import time; time.sleep(600)"]
        self._process = self._closing.enter_context(subprocess.Popen(sleeping))
        self._closing.callback(self._process.kill)
        self._mode = DEVICE.stat().st_mode
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    async def attacked_by(self, program: Hostile) -> Outcome:
        """Check a program that knows where everything is."""
        text = program.program
        places = {"@HOME@": self._home, "@PID@": self._process.pid, "@PORT@": self._server.getsockname()[1]}
        for name, value in places.items():
            text = text.replace(name, str(value))
        check = CodeCheck(program.tests, program.setup, 0.5 if program.waits else LONG)
        return await check.check(text, Prompt())

    def harm(self) -> list[str]:
        """Return what was harmed."""
        intact = {
            "the process": self._process.poll() is None,
            "the home": sorted(path.name for path in self._home.iterdir()) == ["secret"],
            "Python": not Path(os.__file__).with_name("written.py").exists(),
            "the server": not self._connected(),
            "the device": DEVICE.stat().st_mode == self._mode,
        }
        return [name for name, is_intact in intact.items() if not is_intact]

    def _connected(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            self._server.accept()[0].close()
            return True
        return False


def marked(mark: str) -> list[str]:
    """Return the processes with a mark on their command line, of which zombies have none."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if mark in file.read_text(errors="replace"):
                found.append(file.parent.name)
    return found


def none_left(mark: str) -> bool:
    """Wait until no process has a mark, for a minute at most. Return whether none has."""
    deadline = time.monotonic() + 60
    while marked(mark) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not marked(mark)
