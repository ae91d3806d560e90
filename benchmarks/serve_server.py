"""`redraft serve` in a process of its own, as a user starts it, and the memory that it takes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

START = 60.0
"""Seconds after which a server that is not ready counts as broken."""


@dataclass(frozen=True)
class Serving:
    """A server that is ready.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        pid: Its process.
        seconds: From its start until it was ready.
    """

    port: int
    pid: int
    seconds: float

    def get(self, path: str) -> str:
        """Return what a path answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as reply:
            return str(reply.read(), "utf-8")


@contextmanager
def serving(*words: str, port: int, start: float = START, **env: str) -> Iterator[Serving]:
    """Start `redraft serve` with these words, and yield it when it is ready, in `start` seconds at most."""
    command = [sys.executable, "-m", "redraft", "serve", "--port", str(port), *words]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, **env}) as process:
        try:
            yield Serving(port, process.pid, _ready(process, port, start))
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(2)
            process.terminate()  # the second signal ends streams that a load has left open


def _ready(process: subprocess.Popen[bytes], port: int, most: float) -> float:
    """Wait until the server is ready. Return the seconds."""
    start = time.perf_counter()
    while (seconds := time.perf_counter() - start) < most:
        assert process.poll() is None, f"the server ended with {process.returncode}"
        with suppress(URLError, ConnectionError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5).close()
            return seconds
        time.sleep(0.005)
    raise AssertionError(f"the server was not ready within {most:g} s")


def memory(pid: int) -> float:
    """Memory of a process, without that of its children, in MB (10⁶ bytes)."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text("utf-8"), re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def children(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()
    return [each for child in map(int, listed) for each in (child, *children(child))]
