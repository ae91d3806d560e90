"""A real HTTP server on 127.0.0.1 that says what a test tells it to: bytes, silence, and cuts.

    with FakeServer() as server:
        server.on("POST /v1/chat/completions", Reply(429, {"Retry-After": "1"}), chat_reply("Hel", "lo"))
        engine = RemoteEngine(server.url, "m")

Replies of a route are used in order, and the last one again and again. `server.requests` holds what came.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Reply:
    """What the server answers. In `pieces`, bytes are sent one by one, and a number is seconds of silence.

    `cut` ends the connection in the middle. Status 0 ends it before anything was said, after the silence.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    pieces: Sequence[bytes | float] = ()
    cut: bool = False


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Says = Reply | Callable[[Request], Reply]


def json_reply(record: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, {**_JSON, **(headers or {})}, [json.dumps(record).encode()])


def error_reply(status: int, message: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> Reply:
    return json_reply({"error": {"message": message, **more}}, status, headers)


def sse_reply(*pieces: bytes | float, cut: bool = False) -> Reply:
    return Reply(200, {"Content-Type": "text/event-stream; charset=utf-8"}, pieces, cut)


def event(record: Any) -> bytes:
    return b"data: " + json.dumps(record).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def chat_event(text: str, finish: str | None = None, **more: Any) -> bytes:
    delta = {"content": text} if text else {}
    return event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish, **more}]})


def raw_event(text: str, finish: str | None = None, **more: Any) -> bytes:
    return event({"choices": [{"index": 0, "text": text, "finish_reason": finish, **more}]})


def usage_event(prompt: int, completion: int, cached: int | None = None) -> bytes:
    usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion}
    if cached is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
    return event({"choices": [], "usage": usage})


def chat_reply(*texts: str, finish: str = "stop") -> Reply:
    return sse_reply(*(chat_event(text) for text in texts), chat_event("", finish), DONE)


def raw_reply(*texts: str, finish: str = "stop") -> Reply:
    return sse_reply(*(raw_event(text) for text in texts), raw_event("", finish), DONE)


def models_reply(*names: str, **more: Any) -> Reply:
    return json_reply({"object": "list", "data": [{"id": name, "object": "model", **more} for name in names]})


def chat_server(*replies: Says) -> FakeServer:
    return FakeServer().on("GET /v1/models", models_reply("m")).on("POST /v1/chat/completions", *replies)


class FakeServer:
    def __init__(self, port: int = 0) -> None:
        self._port = port
        self.requests: list[Request] = []
        self.dropped = threading.Event()
        self._replies: dict[str, list[Says]] = {}
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self.sent = 0  # pieces that have left
        self._thread = threading.Thread(target=self._serve)
        self._connections: set[asyncio.Task[None]] = set()

    def on(self, route: str, *replies: Says) -> Self:
        """Says what a route such as `GET /v1/models` replies, whatever the query. Others are 404.

        A function is given the request. The route `POST *` is for every path without one of its own.
        """
        self._replies[route] = list(replies)
        return self

    def asked(self, route: str) -> list[Request]:
        return [each for each in self.requests if f"{each.method} {each.path}" == route]

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        return f"{self.root}/v1"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(10)

    def _serve(self) -> None:
        async def main() -> None:
            server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
            self._port = server.sockets[0].getsockname()[1]
            self._stopped = asyncio.Event()
            self._ready.set()
            await self._stopped.wait()
            server.close()
            for task in list(self._connections):
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

        self._loop.run_until_complete(main())
        self._loop.close()

    def _stop(self) -> None:
        self._stopped.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._connections.add(task)
        try:
            while (request := await read_request(reader)) is not None:
                self.requests.append(request)
                reply = self._next(request)
                if request.method == "HEAD":
                    writer.write(_head(reply, {}))
                elif not await self._answer(reply, reader, writer):
                    break
        except ConnectionError:
            self.dropped.set()
        except asyncio.CancelledError:
            pass
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    def _next(self, request: Request) -> Reply:
        route = f"{request.method} {request.path.partition('?')[0]}"
        if not (replies := self._replies.get(route) or self._replies.get(f"{request.method} *")):
            return json_reply({"detail": "Not Found"}, 404)
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        return reply(request) if callable(reply) else reply

    async def _answer(self, reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if not reply.status:
            silence = sum(piece for piece in reply.pieces if not isinstance(piece, bytes))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1), silence)
            return False
        writer.write(_head(reply, {"Transfer-Encoding": "chunked"}))
        leaving = asyncio.ensure_future(reader.read(1))
        # A client that resets the connection is one that leaves: asyncio need not log it.
        leaving.add_done_callback(lambda task: task.cancelled() or task.exception())
        for piece in reply.pieces:
            if isinstance(piece, bytes):
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                await writer.drain()
                self.sent += 1
                await asyncio.sleep(0)
            else:
                await asyncio.wait([leaving], timeout=piece)
            if leaving.done():
                self.dropped.set()
                return False
        leaving.cancel()
        await asyncio.wait([leaving])
        if not reply.cut:
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        return not reply.cut


def _head(reply: Reply, more: Mapping[str, str]) -> bytes:
    lines = [f"{name}: {value}" for name, value in {**reply.headers, **more}.items()]
    return "\r\n".join([f"HTTP/1.1 {reply.status} Said", *lines, "", ""]).encode()


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.rstrip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    try:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    except asyncio.IncompleteReadError:
        return None
    return Request(method, path, headers, body)
