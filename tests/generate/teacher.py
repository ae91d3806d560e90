"""A stand-in for a paid teacher: it speaks the OpenAI chat protocol, limits, fails, and keeps an account.

    with Teacher(delay=0.05, rpm=6000, faults={"500": 0.05, "cut": 0.05}) as teacher:
        run("redraft", "answer", "prompts.jsonl", "-o", "out.jsonl", "-m", teacher.model)
        assert not teacher.account().twice

It is a process of its own, so that it survives its clients. A reply is a function of the request alone, so
that runs can be compared; whether a call fails is drawn by the number of the call. The limits are sliding
windows over the calls that were let in. `/v1/chat/completions` and `/v1/models` are all it knows.
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
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.engines.fake_server import DONE, Request, chat_event, event, read_request, usage_event

ROOT = Path(__file__).resolve().parents[2]
MODEL = "teacher"
VERDICTS = ("Revision is needed.", "No revision is needed.")
WORDS = ("rain", "gull", "tower", "lamp", "coast", "storm", "ship", "night", "salt", "wave", "rope", "fog")

FAULTS = ("429", "500", "stall", "cut", "json", "filter", "length", "empty")
"""What may go wrong: a refusal, an error, silence or an end in the middle, a line that is no JSON, and
replies that end early by `content_filter`, by `length`, or before they began."""


@dataclass(frozen=True)
class Ways:
    """How the teacher behaves.

    Attributes:
        delay: Seconds before each reply.
        rpm: Requests that it lets in within `window` seconds; 0 for any number.
        tpm: Tokens within `window` seconds, of prompts and replies; 0 for any number.
        window: Length of both windows.
        tells: Which headers it sends: `retry-after` with a 429, and `x-ratelimit` with every reply.
        faults: Name -> share of the calls.
        plan: What happens to the first calls, in order: a fault, or `ok`.
        replies: Pairs: what the last message contains, and the reply to it. Others get words and a verdict.
        keys: Key -> how many calls it is good for, or None. Empty: no key is asked for.
        stalls: Seconds of silence of a stall.
        seed: Of the draws.
    """

    delay: float = 0.0
    rpm: int = 0
    tpm: int = 0
    window: float = 60.0
    tells: Sequence[str] = ()
    faults: Mapping[str, float] = field(default_factory=dict)
    plan: Sequence[str] = ()
    replies: Sequence[tuple[str, str]] = ()
    keys: Mapping[str, int | None] = field(default_factory=dict)
    stalls: float = 30.0
    seed: int = 1


@dataclass
class Account:
    """What the teacher wrote down.

    Attributes:
        calls: Key -> calls with it, refused ones too.
        statuses: HTTP status -> calls that ended so.
        faults: Name -> how often.
        tokens: Tokens that were paid for: prompts, and replies as far as they were sent.
        whole: Digest of a request -> how many whole replies to it were sent. A client that is gone gets none.
        said: Text of a reply -> digest of its request.
        let_in: Seconds at which a call was let in.
        limited: Seconds at which a call was refused by a limit.
    """

    calls: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    whole: Counter[str] = field(default_factory=Counter)
    said: dict[str, str] = field(default_factory=dict)
    let_in: list[float] = field(default_factory=list)
    limited: list[float] = field(default_factory=list)

    @property
    def twice(self) -> list[str]:
        """Digests of equal requests that got more than one whole reply."""
        return [digest for digest, times in self.whole.items() if times > 1]

    def replies_to(self, texts: Iterable[str]) -> dict[str, int]:
        """Return how many whole replies were sent to the requests that these texts answer, by digest."""
        return {digest: self.whole[digest] for digest in map(self.said.__getitem__, texts)}


def texts_in(journal: Path) -> list[str]:
    """Return the texts of the replies in a journal."""
    with closing(sqlite3.connect(journal)) as db:
        replies = [json.loads(reply) for (reply,) in db.execute("SELECT reply FROM replies")]
    return ["".join(delta.get("text", "") for delta in reply) for reply in replies]


class Teacher:
    """The process, on one port from its start to its end. Arguments are those of `Ways`."""

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
        """Return what was written down since the start, or since the last `behave`."""
        found = json.loads(self._asked("/account"))
        counters = {name: Counter(found.pop(name)) for name in ("calls", "statuses", "faults", "whole")}
        return Account(**counters, **found)

    def sent(self) -> tuple[int, int]:
        """Return how many whole replies were sent, and how many calls are under way."""
        found = json.loads(self._asked("/sent"))
        return found["replies"], found["under_way"]

    def behave(self, **ways: Any) -> None:
        """Begin a new account, with other ways."""
        self._ways |= ways
        self._asked("/behave", json.dumps(asdict(Ways(**self._ways))).encode())

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.generate.teacher", json.dumps(self._ways)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self._process.stdout
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process
        self._process.kill()
        self._process.communicate()

    def _asked(self, path: str, data: bytes | None = None) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", data, timeout=60) as reply:
            found: bytes = reply.read()
        return found


class Window:
    """A sliding window over what was let in."""

    def __init__(self, most: int, seconds: float) -> None:
        self.most, self._seconds = most, seconds
        self._taken: deque[tuple[float, int]] = deque()
        self.used = 0

    def wait(self, amount: int, now: float) -> float:
        """Return the seconds until there is room for an amount: 0 if there is now."""
        while self._taken and self._taken[0][0] <= now - self._seconds:
            self.used -= self._taken.popleft()[1]
        over = self.used + min(amount, self.most) - self.most
        if not self.most or over <= 0:
            return 0.0
        for at, taken in self._taken:
            over -= taken
            if over <= 0:
                return at + self._seconds - now
        raise AssertionError("an amount that never fits")

    def take(self, amount: int, now: float) -> None:
        self._taken.append((now, amount))
        self.used += amount

    def headers(self, name: str, now: float) -> dict[str, str]:
        """Return the headers of OpenAI: `reset` is the time until the whole limit is free again."""
        self.wait(0, now)
        reset = self._taken[-1][0] + self._seconds - now if self._taken else 0.0
        said = {"limit": f"{self.most}", "remaining": f"{self.most - self.used}", "reset": f"{reset:.3f}s"}
        return {f"x-ratelimit-{what}-{name}": value for what, value in said.items()}


class _Served:
    """The teacher inside of its process."""

    def __init__(self, ways: Ways) -> None:
        self.begin(ways)

    def begin(self, ways: Ways) -> None:
        self.ways, self.account = ways, Account()
        self.requests, self.tokens = Window(ways.rpm, ways.window), Window(ways.tpm, ways.window)
        self._random, self._number, self._under_way = random.Random(ways.seed), 0, 0
        self._began = time.monotonic()

    @property
    def now(self) -> float:
        return time.monotonic() - self._began

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of a connection."""
        try:
            while (request := await read_request(reader)) is not None:
                if not await self._answer(request, writer, reader.at_eof):
                    break
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter, gone: Callable[[], bool]) -> bool:
        """Answer one request. Return whether the connection stays. `gone` tells whether the client is."""
        if request.path.endswith("/chat/completions"):
            self._under_way += 1
            try:
                return await self._chat(request, writer, gone)
            finally:
                self._under_way -= 1
        if request.path == "/behave":
            self.begin(Ways(**request.json))
        known: dict[str, Any] = {
            "/account": vars(self.account),
            "/v1/models": {"data": [{"id": MODEL}]},
            "/behave": {},
            "/sent": {"replies": self.account.whole.total(), "under_way": self._under_way},
        }
        found = known.get(request.path)
        self._send(writer, 404 if found is None else 200, found or {})
        return True

    async def _chat(self, request: Request, writer: asyncio.StreamWriter, gone: Callable[[], bool]) -> bool:
        body, key = request.json, request.headers.get("authorization", "").removeprefix("Bearer ")
        self.account.calls[key] += 1
        reply = reply_to(body, self.ways)
        if (refusal := self._refusal(key, body, reply)) is not None:
            return self._refuse(writer, *refusal)
        fault = self._fault()
        if self.ways.delay:
            await asyncio.sleep(self.ways.delay)
        if gone():
            return False
        if fault in ("429", "500"):
            return self._refuse(
                writer, int(fault), _error("Too many requests." if fault == "429" else "Out of luck."), {}
            )
        return await self._reply(body, reply, fault, writer)

    def _refusal(self, key: str, body: Any, reply: str) -> tuple[int, Any, dict[str, str]] | None:
        """Return what is said to a call that is not let in."""
        if self.ways.keys:
            good = self.ways.keys.get(key, 0)
            if good is not None and self.account.calls[key] > good:
                return 401, _error("Incorrect API key provided.", "invalid_api_key"), {}
        now, amount = self.now, tokens_of(body) + len(reply.split())
        wait = max(self.requests.wait(1, now), self.tokens.wait(amount, now))
        if not wait:
            self.requests.take(1, now)
            self.tokens.take(min(amount, self.tokens.most) if self.tokens.most else amount, now)
            self.account.let_in.append(now)
            return None
        self.account.limited.append(now)
        headers = {"Retry-After": f"{wait:.3f}"} if "retry-after" in self.ways.tells else {}
        return 429, _error("Rate limit reached.", "rate_limit_exceeded"), headers

    def _fault(self) -> str:
        """Draw what happens to this call."""
        drawn, self._number = self._random.random(), self._number + 1
        if self._number <= len(self.ways.plan):
            found = self.ways.plan[self._number - 1]
        else:
            found = "ok"
            for name, share in self.ways.faults.items():
                if drawn < share:
                    found = name
                    break
                drawn -= share
        if found != "ok":
            self.account.faults[found] += 1
        return found

    async def _reply(self, body: Any, reply: str, fault: str, writer: asyncio.StreamWriter) -> bool:
        """Send a reply with its fault, and book it."""
        words = reply.split(" ")
        early = fault in ("stall", "cut", "filter", "length")
        sent = [] if fault == "empty" else words[: len(words) // 2] if early else words
        finish = {"filter": "content_filter", "length": "length"}.get(fault, "stop")
        counts = tokens_of(body), len(sent)
        streamed = bool(body.get("stream"))
        whole = _streamed(sent, finish, counts) if streamed else _at_once(sent, finish, counts)
        self.account.tokens += sum(counts)
        if fault == "json":
            whole = whole.replace(b'"choices"', b'"choices', 1)
        if fault in ("stall", "cut"):
            writer.write(_head(200, len(whole), streamed, self._limits()) + whole[: len(whole) // 2])
            await asyncio.sleep(self.ways.stalls if fault == "stall" else 0)
            return False
        if fault not in ("json", "empty"):
            self.account.said[" ".join(sent)] = digest = digest_of(body)
            self.account.whole[digest] += 1
        self.account.statuses["200"] += 1
        writer.write(_head(200, len(whole), streamed, self._limits()) + whole)
        return True

    def _refuse(self, writer: asyncio.StreamWriter, status: int, record: Any, headers: Any) -> bool:
        self.account.statuses[str(status)] += 1
        self._send(writer, status, record, headers)
        return True

    def _send(
        self, writer: asyncio.StreamWriter, status: int, record: Any, headers: Mapping[str, str] | None = None
    ) -> None:
        data = json.dumps(record).encode()
        writer.write(_head(status, len(data), False, {**self._limits(), **(headers or {})}) + data)

    def _limits(self) -> dict[str, str]:
        if "x-ratelimit" not in self.ways.tells:
            return {}
        windows = {"requests": self.requests, "tokens": self.tokens}
        return {
            header: value
            for name, window in windows.items()
            if window.most
            for header, value in window.headers(name, self.now).items()
        }


def digest_of(body: Any) -> str:
    """Return the digest of everything in a request that may change its reply."""
    asked = {name: value for name, value in body.items() if name not in ("stream", "stream_options")}
    return hashlib.blake2b(json.dumps(asked, sort_keys=True).encode(), digest_size=12).hexdigest()


def tokens_of(body: Any) -> int:
    """Return the tokens of a prompt: a quarter of its characters."""
    return max(1, sum(len(str(message["content"])) for message in body["messages"]) // 4)


def reply_to(body: Any, ways: Ways) -> str:
    """Return the reply to a request."""
    last = str(body["messages"][-1]["content"])
    for contains, text in ways.replies:
        if contains in last:
            return text
    draws = random.Random(digest_of(body))
    if (schema := _schema(body)) is not None:
        return json.dumps(_value(schema, draws))
    return f"{' '.join(draws.choices(WORDS, k=draws.randint(8, 24)))}. {draws.choice(VERDICTS)}"


def _schema(body: Any) -> Any:
    """Return the JSON schema that the reply must fit, or None."""
    return (body.get("response_format") or {}).get("json_schema", {}).get("schema")


def _value(schema: Any, draws: random.Random) -> Any:
    """Return a value that fits a plain schema."""
    if "enum" in schema:
        return draws.choice(schema["enum"])
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        return {name: _value(each, draws) for name, each in schema.get("properties", {}).items()}
    if kind == "array":
        return [_value(schema.get("items", {}), draws)]
    numbers = {"integer": draws.randint(0, 9), "number": draws.random(), "boolean": draws.random() < 0.5}
    return numbers[kind] if kind in numbers else " ".join(draws.choices(WORDS, k=8))


def _streamed(words: Sequence[str], finish: str, counts: tuple[int, int]) -> bytes:
    """Return a reply as server-sent events, a few words in each, in one chunk of HTTP."""
    pieces = [" ".join(words[at : at + 8]) for at in range(0, len(words), 8)]
    texts = [piece + " " for piece in pieces[:-1]] + pieces[-1:]
    events = b"".join([*map(chat_event, texts), chat_event("", finish), usage_event(*counts), DONE])
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(events), events)


def _at_once(words: Sequence[str], finish: str, counts: tuple[int, int]) -> bytes:
    """Return a reply as one record."""
    message = {"role": "assistant", "content": " ".join(words)}
    usage = {"prompt_tokens": counts[0], "completion_tokens": counts[1]}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return event({"choices": [choice], "usage": usage}).removeprefix(b"data: ").strip()


def _head(status: int, length: int, streamed: bool, headers: Mapping[str, str]) -> bytes:
    kind = "text/event-stream" if streamed else "application/json"
    framing = "Transfer-Encoding: chunked" if streamed else f"Content-Length: {length}"
    more = [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"HTTP/1.1 {status} Said", f"Content-Type: {kind}", framing, *more, "", ""]).encode()


def _error(message: str, code: str = "") -> Any:
    return {"error": {"message": message, "code": code}}


async def main(ways: Ways) -> None:
    """Serve until the process is killed, and print the port."""
    served = _Served(ways)
    server = await asyncio.start_server(served.connected, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(Ways(**json.loads(sys.argv[1]))))
