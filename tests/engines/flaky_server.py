"""A `FakeServer` in a process of its own: to be killed, started again, and limited.

    with FlakyServer(delay=0.1) as server:
        server.kill()
        server.start()

It streams `Word 0. … Word 7.` and an end, waiting `delay` seconds before each. With `limit`, more requests in
`window` seconds get a 429, with `Retry-After` if `says_when`.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Self

from tests.engines.fake_server import (
    DONE,
    FakeServer,
    Reply,
    Request,
    chat_event,
    error_reply,
    models_reply,
    sse_reply,
)

ROOT = Path(__file__).resolve().parents[2]
WORDS = 8


class FlakyServer:
    """The process, on one port from its first start to the last."""

    def __init__(
        self, *, delay: float = 0.0, limit: int = 0, window: float = 1.0, says_when: bool = False
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._settings = [str(self.port), str(delay), str(limit), str(window), str(int(says_when))]
        self._process: subprocess.Popen[str] | None = None

    @property
    def model(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1#m"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.engines.flaky_server", *self._settings],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n"

    def send(self, number: signal.Signals) -> None:
        """SIGSTOP lets it take connections and answer nothing; SIGCONT lets it go on."""
        assert self._process
        self._process.send_signal(number)

    def kill(self) -> None:
        assert self._process
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class _Limited(FakeServer):
    def __init__(self, port: int, delay: float, limit: int, window: float, *, says_when: bool) -> None:
        super().__init__(port)
        self._limit, self._window, self._says_when = limit, window, says_when
        self._taken: list[float] = []
        words = [piece for n in range(WORDS) for piece in (delay, chat_event(f"Word {n}. "))]
        self.on("POST /v1/chat/completions", sse_reply(*words, chat_event("", "stop"), DONE))
        self.on("GET /v1/models", models_reply("m"))

    def _next(self, request: Request) -> Reply:
        now = time.monotonic()
        self._taken = [at for at in self._taken if at > now - self._window]
        if self._limit and request.method == "POST":
            if len(self._taken) >= self._limit:
                wait = f"{self._taken[0] + self._window - now:.2f}"
                headers = {"Retry-After": wait} if self._says_when else {}
                return error_reply(429, "Too many requests.", headers=headers)
            self._taken.append(now)
        return super()._next(request)


if __name__ == "__main__":
    port, delay, limit, window, says_when = sys.argv[1:]
    with _Limited(int(port), float(delay), int(limit), float(window), says_when=says_when == "1"):
        print("ready", flush=True)
        threading.Event().wait()
