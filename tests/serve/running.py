"""The server of `redraft serve` in a thread, on a real port of 127.0.0.1.

with served({"one": {"model": ScriptedEngine(["Hi."]), "max_revisions": 0}}) as server:
    httpx.get(f"{server.root}/health")
"""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from openai import OpenAI
from pydantic import BaseModel

from redraft.engines.base import Engine
from redraft.engines.scripted import ScriptedEngine
from redraft.jobs.signals import in_daemon_thread
from redraft.revision.options import check_options
from redraft.serve.app import make_app
from redraft.serve.gate import Gate
from redraft.serve.keys import Keys
from redraft.serve.models import Model, Models
from redraft.serve.page.mount import Store
from redraft.serve.reader import ServerLimits
from redraft.serve.run import listen, run
from tests.cli.verbs import start

LONG = "Rain is water, and it is wet, and it is cold."
SHORT = "Rain is water that falls."
HI = [{"role": "user", "content": "Hi."}]


class Person(BaseModel):
    name: str
    born: int


@dataclass
class Server:
    root: str  # its address, without a path
    gate: Gate
    # Set it to let the models be loaded, if it was started with `loading`.
    load: threading.Event = field(default_factory=threading.Event)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _told: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"{self.root}/v1"

    def post(self, body: Any = None, **more: Any) -> httpx.Response:
        if isinstance(body, Mapping) or body is None:
            more["json"] = {"model": "plain", "messages": HI, **(body or {})}
        else:
            more["content"] = body
            more["headers"] = {"Content-Type": "application/json", **more.get("headers", {})}
        return httpx.post(f"{self.url}/chat/completions", timeout=30, **more)

    def client(self, key: str = "none") -> OpenAI:
        return OpenAI(base_url=self.url, api_key=key, max_retries=0, timeout=30)

    def connection(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", int(self.root.rpartition(":")[2])), timeout=30)

    def reply_to(self, sent: bytes, *, ended: bool = False) -> bytes:
        with self.connection() as connection:
            connection.sendall(sent)
            if ended:
                connection.shutdown(socket.SHUT_WR)
            return connection.makefile("rb").read()

    def drain(self) -> None:
        self._loop.call_soon_threadsafe(self._told.set)

    def cut(self) -> None:
        self._loop.call_soon_threadsafe(self.gate.cut)


def plain(engine: Engine) -> dict[str, Any]:
    return {"model": engine, "max_revisions": 0}


def short(engine: Engine, **more: Any) -> dict[str, Any]:
    return {"model": engine, "checks": ["words<=5"], **more}


def both(*replies: Any, **engine: Any) -> dict[str, dict[str, Any]]:
    one = ScriptedEngine(list(replies) or [LONG, SHORT], **engine)
    return {"plain": plain(one), "short": short(one)}


@contextmanager
def served(
    models: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    keys: Keys | None = None,
    limits: ServerLimits | None = None,
    at_once: int = 4,
    queue: int = 64,
    loading: bool = False,
    drain: float = 30.0,
    linger: float = 0.0,
    host: str = "127.0.0.1",
    passes: Mapping[str, frozenset[str]] | None = None,
    store: Store | None = None,
    **more: Any,
) -> Iterator[Server]:
    offered, gate = Models(passes), Gate(at_once, queue)
    app = make_app(offered, gate, limits or ServerLimits(), keys, store)
    with listen(host, 0, keys) as sock:
        server = Server(f"http://127.0.0.1:{sock.getsockname()[1]}", gate)
        up = threading.Event()

        async def load() -> None:
            if loading:
                await in_daemon_thread(server.load.wait)
            named = (models or both()).items()
            offered.offer(Model(name, check_options(options), **more) for name, options in named)
            up.set()

        async def main() -> None:
            await run(app, gate, sock, load, server._told, drain=drain, linger=linger)

        thread = threading.Thread(target=server._loop.run_until_complete, args=(main(),))
        thread.start()
        try:
            assert loading or up.wait(10)
            yield server
        finally:
            server.load.set()
            server.drain()
            thread.join(30)
            assert not thread.is_alive()
            server._loop.close()


@contextmanager
def started(*words: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with start("serve", *words, "--port", 0, stdout=None) as process:
        assert process.stderr
        try:
            assert "opening" in (said := process.stderr.readline()), said + process.stderr.read()
            said = process.stderr.readline()
            found = re.search(r" at http://[^:]+:(\d+)/v1", said)
            assert found, said + process.stderr.read()
            yield f"http://127.0.0.1:{found[1]}", process
            process.send_signal(signal.SIGINT)  # SIGTERM lingers
            assert process.wait(60) == 0
        finally:
            process.kill()


def events_of(text: str) -> list[str]:
    return [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
