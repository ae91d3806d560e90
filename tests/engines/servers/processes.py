"""A server in a process of its own, which can be killed and started again on the same port."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import httpx

from redraft.engines.config import key_variable

START = 120
"""Seconds that a server may take to start."""


class ServerProcess:
    """A process with one port for all its starts. `command` ends before the port's number.

    The path `ready` answers with 200 after the start. `model` is the name after the `#` of the reference.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        *,
        ready: str = "/health",
        model: str = "",
        key: str = "",
        **more: str,
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.key = key
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.model = f"{self.url}#{model}" if model else self.url
        self._command = [*command, "--port", str(self.port)]
        self._log, self._ready, self._more = log, ready, more
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def key_variable(self) -> str:
        return key_variable(f"127.0.0.1:{self.port}")

    def start(self) -> None:
        with self._log.open("ab") as log:
            # One thread: several that wait for each other are many times slower on a machine that is busy.
            env = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | self._more
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env
            )
        deadline = time.monotonic() + START
        while not self._answers():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.1)

    def kill(self) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]

    def _answers(self) -> bool:
        address = self.url.removesuffix("/v1") + self._ready
        try:
            return httpx.get(address, trust_env=False, timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
