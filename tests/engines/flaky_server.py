"""A small server of the OpenAI protocol, in a process of its own: to be killed, started again, and limited.

    with FlakyServer(delay=0.1) as server:
        server.kill()
        server.start()

It streams `Word 0. … Word 7.` and an end, waiting `delay` seconds before each. With `limit`, more requests in
`window` seconds get a 429, with `Retry-After` if `says_when`.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

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
            [sys.executable, __file__, *self._settings], stdout=subprocess.PIPE, text=True
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


class _Handler(BaseHTTPRequestHandler):
    delay, limit, window, says_when = 0.0, 0, 1.0, False
    taken: list[float] = []  # noqa: RUF012  (one list for all requests, on purpose)
    lock = threading.Lock()

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._send(200, json.dumps({"data": [{"id": "m"}]}).encode())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if (wait := self._over_limit()) is not None:
            self._send(429, b'{"error": {"message": "Too many requests."}}', retry_after=wait)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for number in range(WORDS):
            time.sleep(self.delay)
            self._event({"delta": {"content": f"Word {number}. "}})
        self._event({"delta": {}, "finish_reason": "stop"})
        self.wfile.write(b"data: [DONE]\n\n")

    def _over_limit(self) -> float | None:
        """Seconds until there is room again; None where there is now."""
        now = time.monotonic()
        with self.lock:
            self.taken[:] = [at for at in self.taken if at > now - self.window]
            if self.limit and len(self.taken) >= self.limit:
                return self.taken[0] + self.window - now
            self.taken.append(now)
            return None

    def _event(self, choice: dict[str, object]) -> None:
        self.wfile.write(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")
        self.wfile.flush()

    def _send(self, status: int, body: bytes, *, retry_after: float | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if retry_after is not None and self.says_when:
            self.send_header("Retry-After", f"{retry_after:.2f}")
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    port, delay, limit, window, says_when = sys.argv[1:]
    _Handler.delay, _Handler.limit, _Handler.window = float(delay), int(limit), float(window)
    _Handler.says_when = says_when == "1"
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), _Handler)
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
