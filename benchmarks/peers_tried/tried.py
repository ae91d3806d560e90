"""What the tries of all peers share: a server with canned replies, and how a try is noted.

A try is a function that does what a feature says, with the peer's own words for it, and asserts that it
happened. It returns None, or a text that says in which way the peer does it in part.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TRIES: dict[str, Callable[[Replies], str | None]] = {}


class Replies(ThreadingHTTPServer):
    """A server of OpenAI's chat completions. Each request gets the next reply, the last one ever again."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.replies: list[Any] = ["Rain is water."]
        self.requests: list[dict[str, Any]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def says(self, *replies: Any) -> None:
        """Give these replies from now on: a text, a message (a dictionary), or a status (a number)."""
        self.replies, self.requests = [*replies], []

    @property
    def last(self) -> str:
        """The messages of the last request, as JSON."""
        return json.dumps(self.requests[-1].get("messages"), ensure_ascii=False)

    def next_reply(self, request: dict[str, Any]) -> Any:
        self.requests.append(request)
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Replies

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        self.send({"object": "list", "data": [{"id": "m", "object": "model", "created": 0, "owned_by": "x"}]})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply = self.server.next_reply(request)
        if isinstance(reply, int):
            self.send({"error": {"message": "busy", "type": "x", "code": "x"}}, reply)
            return
        message = {"role": "assistant", **(reply if isinstance(reply, dict) else {"content": reply})}
        end = "tool_calls" if message.get("tool_calls") else "stop"
        base = {"id": "1", "created": int(time.time()), "model": "m"}
        usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
        if request.get("stream"):
            self.stream(base, message, end)
            return
        choices = [
            {"index": index, "message": message, "finish_reason": end, "logprobs": None}
            for index in range(request.get("n") or 1)
        ]
        self.send({**base, "object": "chat.completion", "choices": choices, "usage": usage})

    def send(self, body: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, base: dict[str, Any], message: dict[str, Any], end: str) -> None:
        """Send the text in pieces of four characters."""
        text = message.get("content") or ""
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": text[at : at + 4]} for at in range(0, len(text), 4)]
        calls = [{"index": index, **call} for index, call in enumerate(message.get("tool_calls") or [])]
        deltas += [{"tool_calls": calls}] if calls else []
        chunks = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        chunks.append({"index": 0, "delta": {}, "finish_reason": end})
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for chunk in chunks:
            data = json.dumps({**base, "object": "chat.completion.chunk", "choices": [chunk]})
            self.wfile.write(f"data: {data}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True


Try = Callable[[Replies], "str | None"]


def tries(feature: str) -> Callable[[Try], Try]:
    """Note a function as the try of a feature."""

    def noted(function: Try) -> Try:
        assert feature not in TRIES, feature
        TRIES[feature] = function
        return function

    return noted


def call_of(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """A message that calls a tool."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"content": None, "tool_calls": [{"id": "c1", "type": "function", "function": function}]}


def cell_of(note: str, else_: str) -> str:
    """What is there but was not tried has a question mark."""
    return "?" if note.endswith(("not tried", "no provider was asked")) else else_


def main(lacks: dict[str, str] | None = None) -> None:
    """Do each try, or those that are named, and print a line of JSON for each: `feature`, `cell`, `note`.

    Args:
        lacks: Features that are surely not there, though the code has their words, each with a note.
    """
    for feature, note in (lacks or {}).items():
        print(json.dumps({"feature": feature, "cell": cell_of(note, "no"), "note": note}))
    os.environ.setdefault("OPENAI_API_KEY", "none")
    for feature, function in TRIES.items():
        if sys.argv[1:] and feature not in sys.argv[1:]:
            continue
        server = Replies()
        os.environ["OPENAI_BASE_URL"] = os.environ["OPENAI_API_BASE"] = server.url
        try:
            note = function(server)
            found = {"cell": cell_of(note or "", "partly") if note else "yes", "note": note or ""}
        except BaseException as error:  # noqa: BLE001  (a try that fails is a finding)
            print(traceback.format_exc(), file=sys.stderr)
            line = f"{type(error).__name__}: {error}".splitlines()[0]
            found = {"cell": "no", "note": f"tried: {line:.90}"}
        server.shutdown()
        print(json.dumps({"feature": feature, **found}), flush=True)
    sys.stdout.flush()
    os._exit(0)  # whatever threads a library left
