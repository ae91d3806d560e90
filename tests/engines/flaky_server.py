"""A `FakeServer` in a process of its own: to be killed and started again.

    with FlakyServer(delay=0.1) as server:
        server.kill()
        server.start()

It streams `Word 0. … Word 7.` and an end, waiting `delay` seconds before each.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Self

from tests.engines.fake_server import DONE, FakeServer, chat_event, models_reply, sse_reply

WORDS = 8
WHOLE = " ".join(f"Word {number}." for number in range(WORDS))


class FlakyServer:
    def __init__(self, *, delay: float = 0.0) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._settings = [str(self.port), str(delay)]
        self._process: subprocess.Popen[str] | None = None

    @property
    def model(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1#m"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.engines.flaky_server", *self._settings],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
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


if __name__ == "__main__":
    port, delay = sys.argv[1:]
    words = [piece for n in range(WORDS) for piece in (float(delay), chat_event(f"Word {n}. "))]
    with FakeServer(int(port)) as served:
        served.on("POST /v1/chat/completions", sse_reply(*words, chat_event("", "stop"), DONE))
        served.on("GET /v1/models", models_reply("m"))
        print("ready", flush=True)
        threading.Event().wait()
