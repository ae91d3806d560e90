"""A proxy before an HTTP server that answers some requests itself, with faults of a store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

Fault = tuple[int, str, str] | None
"""A status, S3's name of the fault, and what it says."""

HOP = {"connection", "transfer-encoding", "content-encoding", "content-length", "date", "server"}
"""Headers that belong to one connection, or that this server writes itself."""


@contextmanager
def faulty(address: str, fault: Callable[[str, str], Fault]) -> Iterator[str]:
    """Yield the address of a proxy. `fault` is asked with the method and the path of each request."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if found := fault(self.command, self.path):
                status, code, message = found
                text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
                self._write(status, {"Content-Type": "application/xml"}, text.encode())
                return
            with httpx.Client(trust_env=False, timeout=60) as client:
                got = client.request(
                    self.command, f"{address}{self.path}", headers=dict(self.headers), content=body
                )
            kept = {name: value for name, value in got.headers.items() if name not in HOP}
            size = got.headers.get("content-length") if self.command == "HEAD" else None
            self._write(got.status_code, kept, got.content, size)

        def _write(self, status: int, headers: dict[str, str], body: bytes, size: str | None = None) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", size or str(len(body)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer  # noqa: N815 - the server's names

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
