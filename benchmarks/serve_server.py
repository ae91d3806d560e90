"""Run `redraft serve` as a process, as a user starts it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.error import URLError

START = 60.0  # seconds after which a server that is not ready counts as broken


@dataclass(frozen=True)
class Serving:
    port: int  # the port on 127.0.0.1
    pid: int  # the id of the process
    seconds: float  # from the start of the process until the server is ready

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as reply:
            return str(reply.read(), "utf-8")


@contextmanager
def serving(*words: str, port: int, start: float = START, **env: str) -> Iterator[Serving]:
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
    start = time.perf_counter()
    while (seconds := time.perf_counter() - start) < most:
        assert process.poll() is None, f"the server ended with {process.returncode}"
        with suppress(URLError, ConnectionError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5).close()
            return seconds
        time.sleep(0.005)
    raise AssertionError(f"the server was not ready within {most:g} s")
