"""Programs that want to do harm or to outlive their run, and their prey, of which `@NAME@` is a part.

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
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from unittest.mock import patch

from redraft.chain import Prompt
from redraft.checks import sandbox
from redraft.checks.base import Outcome
from redraft.checks.code import CodeCheck

DEVICE = Path("/dev/null")
LONG = 600.0  # seconds for what ends by itself, however busy the machine is


@dataclass(frozen=True)
class Hostile:
    """A program whose function `attack` returns "worked" if it gets anywhere, which the test wants.

    `waits`: the run ends when the time is up.
    """

    name: str
    program: str
    waits: bool = False


def _attacks(text: str) -> list[Hostile]:
    """Read attacks: a line with `# ` and the name, with `(waits)` if it does, and the body of a function."""
    attacks = []
    for part in text.strip("\n").removeprefix("# ").split("\n# "):
        name, _, body = part.partition("\n")
        program = "import ctypes, os, socket, sys, threading, time\n\ndef attack():\n"
        program += textwrap.indent(f"{body.strip()}\nreturn 'worked'\n", "    ")
        attacks.append(Hostile(name.removesuffix(" (waits)"), program, waits=name.endswith(" (waits)")))
    return attacks


ATTACKS = _attacks(r"""
# fork bomb
while True:
    os.fork()

# another program (waits)
os.execv('/bin/sleep', ['sleep', '600'])

# many threads
for _ in range(5000):
    threading.Thread(target=time.sleep, args=[600]).start()

# kill a process of this machine
os.kill(@PID@, 9)

# kill its parent
os.kill(os.getppid(), 9)
os.kill(-1, 9)
raise ValueError('still here')

# memory
held = []
while len(held) < 64:
    held.append(bytearray(100_000_000))

# disk
for n in range(9):
    open(f'/tmp/{n}', 'wb').write(bytes(20_000_000))

# higher limits
import resource
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))

# a loop that catches all (waits)
import signal
for n in (2, 14, 15, 24):
    signal.signal(n, signal.SIG_IGN)
while True:
    try:
        while True: pass
    except BaseException: pass

# read the home
assert open('@HOME@/secret').read()

# write to the home
open('@HOME@/written', 'w').write('x')

# write to the runner
open(sys.modules['__main__'].__file__, 'a')

# environment
assert 'SECRET_KEY' in os.environ or len(os.environ) > 3

# network
socket.create_connection(('127.0.0.1', @PORT@), 1)

# an abstract socket
socket.socket(socket.AF_UNIX).connect('\0' + 'x')

# calls of the second kind
assert ctypes.CDLL(None).syscall(435, ctypes.create_string_buffer(88), 88) >= 0

# calls of 32 bits
import mmap
code = mmap.mmap(-1, 4096, prot=7)
code.write(bytes.fromhex('b802000000cd80c3'))
where = ctypes.addressof(ctypes.c_char.from_buffer(code))
assert ctypes.CFUNCTYPE(ctypes.c_int)(where)() > 0

# clings to life (waits)
assert ctypes.CDLL(None).prctl(1, 0, 0, 0, 0) in (0, -1)
for leave in (os.setsid, lambda: os.setpgid(0, 0)):
    try: leave()
    except OSError: pass
time.sleep(10**8)

# spoil a device
before = os.stat('/dev/null').st_mode
for fd in range(64):
    try: os.fchmod(fd, before ^ 1)
    except OSError: pass
if os.stat('/dev/null').st_mode == before: os.chmod('/dev/null', before ^ 1)
assert os.stat('/dev/null').st_mode != before

# io_uring
assert ctypes.CDLL(None).syscall(425, 8, ctypes.create_string_buffer(256)) >= 0

# new namespaces
assert ctypes.CDLL(None).unshare(0x10000000) == 0

# mount
assert ctypes.CDLL(None).mount(b'/', b'/tmp', None, 4096, None) == 0

# standard input
assert input() is not None
""")


@contextlib.contextmanager
def marking(mark: str) -> Iterator[None]:
    build = sandbox.jail
    with patch.object(sandbox, "jail", lambda *args: [*build(*args), mark]):
        yield


class Prey:
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
        text = program.program
        places = {"@HOME@": self._home, "@PID@": self._process.pid, "@PORT@": self._server.getsockname()[1]}
        for name, value in places.items():
            text = text.replace(name, str(value))
        check = CodeCheck(("assert attack() == 'worked'",), "", 0.5 if program.waits else LONG)
        return await check.check(text, Prompt())

    def harm(self) -> list[str]:
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
