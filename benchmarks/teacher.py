"""A local stand-in for a paid teacher: a chat server like OpenAI's, with limits, faults and an account.

    with Teacher(delay=0.05, rpm=6000, faults={"500": 0.05, "cut": 0.05}) as teacher:
        run("redraft", "answer", "prompts.jsonl", "-o", "out.jsonl", "-m", teacher.model)
        assert not teacher.account().twice

The teacher runs as a separate process, so its time is not measured. A reply depends only on the request, so
that runs can be compared. A fault is drawn at random for each call. A limit is a sliding window over the
accepted calls. The teacher serves only `/v1/chat/completions` and `/v1/models`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import sqlite3
import subprocess
import sys
import time
import urllib.request
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the HTTP helpers are in tests/
from tests.engines.fake_server import DONE, Request, chat_event, read_request, usage_event

MODEL = "teacher"
VERDICTS = ("Revision is needed.", "No revision is needed.")
WORDS = ("rain", "gull", "tower", "lamp", "coast", "storm", "ship", "night", "salt", "wave", "rope", "fog")


@dataclass(frozen=True)
class Ways:
    delay: float = 0.0  # seconds before each reply
    rpm: int = 0  # requests that it accepts within a minute; 0 for any number
    # Shares of calls by fault: `429`, `500`, `stall` (silence in the middle), `cut` (an early end), and
    # `json` (a line that is not JSON).
    faults: Mapping[str, float] = field(default_factory=dict)
    stalls: float = 30.0  # seconds of silence in a stall
    seed: int = 1  # the seed of the faults


@dataclass
class Account:
    # The number of whole replies by digest of the request. A client that has left gets none.
    whole: Counter[str] = field(default_factory=Counter)
    said: dict[str, str] = field(default_factory=dict)  # digests of requests, by the texts of their replies
    let_in: list[float] = field(default_factory=list)  # times of accepted calls, in seconds
    limited: list[float] = field(default_factory=list)  # times of calls that the limit refused, in seconds

    @property
    def twice(self) -> list[str]:
        return [digest for digest, times in self.whole.items() if times > 1]

    def replies_to(self, texts: Iterable[str]) -> dict[str, int]:
        return {digest: self.whole[digest] for digest in map(self.said.__getitem__, texts)}


def texts_in(journal: Path) -> list[str]:
    with closing(sqlite3.connect(journal)) as db:
        replies = [json.loads(zlib.decompress(reply)) for (reply,) in db.execute("SELECT reply FROM packed")]
    return ["".join(delta.get("text", "") for delta in reply) for reply in replies]


class Teacher:
    def __init__(self, **ways: Any) -> None:
        self._ways = asdict(Ways(**ways))
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def model(self) -> str:
        return f"{self.url}#{MODEL}"

    def account(self) -> Account:
        found = json.loads(self._asked("/account"))
        return Account(Counter(found.pop("whole")), **found)

    def sent(self) -> tuple[int, int]:
        found = json.loads(self._asked("/sent"))
        return found["replies"], found["under_way"]

    def __enter__(self) -> Self:
        command = [sys.executable, __file__, json.dumps(self._ways)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process
        self._process.kill()
        self._process.communicate()

    def _asked(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as reply:
            found: bytes = reply.read()
        return found


class _Served:
    def __init__(self, ways: Ways) -> None:
        self.ways, self.account = ways, Account()
        self._window: deque[float] = deque()
        self._random, self._under_way = random.Random(ways.seed), 0
        self._began = time.monotonic()

    @property
    def now(self) -> float:
        return time.monotonic() - self._began

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await read_request(reader)) is not None:
                if not await self._answer(request, writer, reader.at_eof):
                    break
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter, gone: Callable[[], bool]) -> bool:
        """Answer a request. Return whether the connection stays open. `gone` tells if the client has left."""
        if request.path.endswith("/chat/completions"):
            self._under_way += 1
            try:
                return await self._chat(request, writer, gone)
            finally:
                self._under_way -= 1
        known: dict[str, Any] = {
            "/account": vars(self.account),
            "/v1/models": {"data": [{"id": MODEL}]},
            "/sent": {"replies": self.account.whole.total(), "under_way": self._under_way},
        }
        found = known.get(request.path)
        self._send(writer, 404 if found is None else 200, found or {})
        return True

    async def _chat(self, request: Request, writer: asyncio.StreamWriter, gone: Callable[[], bool]) -> bool:
        if not self._lets_in():
            self._send(writer, 429, _error("Rate limit reached."))
            return True
        fault = self._fault()
        if self.ways.delay:
            await asyncio.sleep(self.ways.delay)
        if gone():
            return False
        if fault in ("429", "500"):
            self._send(writer, int(fault), _error("Out of luck."))
            return True
        return await self._reply(request.json, fault, writer)

    def _lets_in(self) -> bool:
        now = self.now
        while self._window and self._window[0] <= now - 60:
            self._window.popleft()
        free = not self.ways.rpm or len(self._window) < self.ways.rpm
        (self.account.let_in if free else self.account.limited).append(now)
        if free:
            self._window.append(now)
        return free

    def _fault(self) -> str:
        drawn = self._random.random()
        for name, share in self.ways.faults.items():
            if drawn < share:
                return name
            drawn -= share
        return ""

    async def _reply(self, body: Any, fault: str, writer: asyncio.StreamWriter) -> bool:
        words = reply_to(body).split(" ")
        early = fault in ("stall", "cut")
        sent = words[: len(words) // 2] if early else words
        asked = sum(len(str(message["content"])) for message in body["messages"]) // 4  # 4 characters each
        pieces = [" ".join(sent[at : at + 8]) for at in range(0, len(sent), 8)]
        texts = [piece + " " for piece in pieces[:-1]] + pieces[-1:]
        counts = usage_event(max(1, asked), len(sent))
        events = b"".join([*map(chat_event, texts), chat_event("", "stop"), counts, DONE])
        whole = b"%x\r\n%s\r\n0\r\n\r\n" % (len(events), events)
        if fault == "json":
            whole = whole.replace(b'"choices"', b'"choices', 1)
        head = _head(200, "text/event-stream", "Transfer-Encoding: chunked")
        if early:
            writer.write(head + whole[: len(whole) // 2])
            await asyncio.sleep(self.ways.stalls if fault == "stall" else 0)
            return False
        if not fault:
            self.account.said[" ".join(sent)] = digest = digest_of(body)
            self.account.whole[digest] += 1
        writer.write(head + whole)
        return True

    def _send(self, writer: asyncio.StreamWriter, status: int, record: Any) -> None:
        data = json.dumps(record).encode()
        writer.write(_head(status, "application/json", f"Content-Length: {len(data)}") + data)


def digest_of(body: Any) -> str:
    asked = {name: value for name, value in body.items() if name not in ("stream", "stream_options")}
    return hashlib.blake2b(json.dumps(asked, sort_keys=True).encode(), digest_size=12).hexdigest()


def reply_to(body: Any) -> str:
    draws = random.Random(digest_of(body))
    return f"{' '.join(draws.choices(WORDS, k=draws.randint(8, 24)))}. {draws.choice(VERDICTS)}"


def _head(status: int, kind: str, framing: str) -> bytes:
    return f"HTTP/1.1 {status} Said\r\nContent-Type: {kind}\r\n{framing}\r\n\r\n".encode()


def _error(message: str) -> Any:
    return {"error": {"message": message}}


async def main(ways: Ways) -> None:
    server = await asyncio.start_server(_Served(ways).connected, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(Ways(**json.loads(sys.argv[1]))))
