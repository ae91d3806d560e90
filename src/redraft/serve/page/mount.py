"""Define the routes of the page: its files, logins, and the votes of comparisons.

The Content-Security-Policy header allows only files and requests of this server, and no inline scripts. The
address of each file contains a digest of all files, so browsers can cache files forever.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import logging
import mimetypes
import secrets
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from redraft.errors import OutputError, UsageError
from redraft.jobs.signals import in_daemon_thread
from redraft.serve.bodies import Body
from redraft.serve.errors import Refusal, invalid, told
from redraft.serve.gate import Gate
from redraft.serve.guard import Guard
from redraft.serve.keys import ANYONE, Key, Keys, digest_of
from redraft.serve.metrics import Metrics
from redraft.serve.models import Models
from redraft.serve.reader import Reader, ServerLimits, object_of
from redraft.serve.run import listen, run, until_signal

_log = logging.getLogger(__name__)
T = TypeVar("T")

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types dompurify"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-DNS-Prefetch-Control": "off",
    **dict.fromkeys(("Cross-Origin-Resource-Policy", "Cross-Origin-Opener-Policy"), "same-origin"),
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_SMALL = 4096  # most bytes of a login
_ENDINGS = (".css", ".html", ".js", ".svg", ".woff2")
_FOREVER = "public, max-age=31536000, immutable"

COOKIE = "redraft_session"
LIFETIME = 12 * 3600  # seconds that a login lasts
MOST = 10_000  # most logins at a time; the oldest ends first


@dataclass
class Logins:
    """The keys of logged-in visitors, by the digests of their cookies."""

    keys: Keys
    cookie: str = COOKIE  # the cookie's name: servers on other ports of a machine share cookies
    _open: OrderedDict[bytes, tuple[float, Key]] = field(default_factory=OrderedDict)

    def enter(self, key: str, *, secure: bool) -> str | None:
        """Log in with a key. Return the value of `Set-Cookie`, or None if the key is wrong."""
        if (found := self.keys.find(f"Bearer {key}")) is None:
            return None
        token = secrets.token_urlsafe(32)
        self._open[digest_of(token)] = time.monotonic() + LIFETIME, found
        while len(self._open) > MOST:
            self._open.popitem(last=False)
        return self._cookie(token, LIFETIME, secure=secure)

    def key_of(self, cookies: str) -> Key | None:
        """Return the key of a logged-in visitor, or None for other visitors."""
        # Only digests are looked up, so the time taken reveals nothing about valid cookies.
        ends, key = self._open.get(digest_of(self._token(cookies)), (0.0, None))
        return self.keys.now(key) if key and time.monotonic() < ends else None

    def leave(self, cookies: str) -> str:
        """End a login. Return the value of `Set-Cookie` that deletes the cookie."""
        self._open.pop(digest_of(self._token(cookies)), None)
        return self._cookie("", 0, secure=False)

    def _token(self, cookies: str) -> str:
        try:
            found = SimpleCookie(cookies).get(self.cookie)
        except CookieError:
            return ""
        return found.value if found else ""

    def _cookie(self, token: str, seconds: int, *, secure: bool) -> str:
        kept = f"Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict" + "; Secure" * secure
        return f"{self.cookie}={token}; {kept}"


class LoginBody(Body):
    """The body of a login."""

    whole: ClassVar[str] = "a login"
    key: str


class Ballot(Body):
    """A vote on two answers to a question. Names and answers are in the order shown."""

    whole: ClassVar[str] = "a vote"
    id: Annotated[str, Field(pattern=r"^[\w-]{8,64}$", description="8 to 64 letters and digits")]
    question: Annotated[str, Field(max_length=1_000_000)]
    names: Annotated[list[str], Field(min_length=2, max_length=2, description="two names")]
    answers: Annotated[list[str], Field(min_length=2, max_length=2, description="two texts")]
    winner: Literal["1", "2", "tie"]
    bad: bool = False  # with `tie`: neither is good
    swapped: bool
    voter: Annotated[str, Field(max_length=100)] = ""


class Act(Body):
    """An action of a voter in `redraft vote`."""

    whole: ClassVar[str] = "a vote"
    voter: Annotated[str, Field(max_length=1000)] = ""
    do: Literal["show", "1", "2", "=", "skip", "undo"]
    id: str = ""
    note: Annotated[str, Field(max_length=10_000, description="up to 10,000 characters")] = ""


@dataclass(frozen=True)
class Booth:
    """The pairs that people judge with `redraft vote`."""

    voter: str  # the voter's name; only a suggestion if not `known`
    known: bool
    # Performs a voter's act. Gets the voter's name, the act, the pair's id and a note. Returns what to show.
    act: Callable[[str, str, str, str], Mapping[str, Any]]


Store = Callable[[Ballot], bool]
"""Stores a vote, unless the comparison has a vote already. Returns whether the vote was stored."""


@dataclass(frozen=True)
class Page:
    """Serves the page. `logins` is None if no key is needed."""

    reader: Reader
    logins: Logins | None
    gate: Gate
    store: Store | None = None
    booth: Booth | None = None

    def has(self, path: str) -> bool:
        """Return whether a path belongs to the page."""
        return path in ("/", "/login", "/logout") or path.startswith("/page/")

    def key_of(self, headers: Headers) -> Key | None:
        """Return the key of a visitor who is logged in."""
        return self.logins.key_of(headers.get("cookie", "")) if self.logins else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for the page."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update({"Cache-Control": "no-store", **_HEADERS, **dict(headers)})
            await send(message)

        reply = await self._reply(Request(scope, receive))
        await reply(scope, receive, sending)

    async def _reply(self, request: Request) -> Response:
        asked = f"{request.method} {request.url.path}"
        if self.store and asked == "POST /page/votes":
            return await self._vote(request, self.store)
        if self.booth and asked in ("GET /page/booth", "POST /page/booth"):
            return await self._judge(request, self.booth)
        if self.logins is not None and asked == "POST /login":
            return await self._enter(self.logins, request)
        if self.logins is not None and asked == "POST /logout":
            cookie = self.logins.leave(request.headers.get("cookie", ""))
            return JSONResponse({}, headers={"Set-Cookie": cookie})
        if request.method in ("GET", "HEAD") and (reply := self._file(request)):
            return reply
        raise Refusal(HTTPStatus.NOT_FOUND, "not_found", f"{asked!a:.100} is not served here.")

    def _file(self, request: Request) -> Response | None:
        (found, digest), path = _files(), request.url.path
        name = "index.html" if path == "/" else path.removeprefix(f"/page/{digest}/")
        if name not in found:
            return None
        data = found[name]
        if name == "index.html":
            keys = b"yes" if self.logins else b"no"
            data = data.replace(b"{{base}}", f"page/{digest}".encode()).replace(b"{{keys}}", keys)
            data = data.replace(b"<form>", b"<form hidden>") if self.booth else data  # voters ask nothing
        headers = {"Cache-Control": "no-cache" if path == "/" else _FOREVER, "Vary": "Accept-Encoding"}
        if not name.endswith(".woff2") and "gzip" in request.headers.get("accept-encoding", ""):
            data = _packed(data)
            headers["Content-Encoding"] = "gzip"
        kind = "text/javascript" if name.endswith(".js") else mimetypes.guess_type(name)[0] or "font/woff2"
        return Response(data, media_type=kind, headers=headers)

    async def _enter(self, logins: Logins, request: Request) -> Response:
        entry = LoginBody.of(object_of(await self.reader.bytes_of(request, _SMALL)))
        secure = request.headers.get("origin", "").startswith("https:")
        if (cookie := logins.enter(entry.key, secure=secure)) is None:
            _log.warning("a login from %s failed", request.client.host if request.client else "unknown")
            raise Refusal(HTTPStatus.UNAUTHORIZED, "invalid_api_key", "That key is wrong.")
        request.state.key = logins.key_of(cookie)
        return JSONResponse({}, headers={"Set-Cookie": cookie})

    def _key(self, request: Request) -> Key:
        if key := self.key_of(request.headers) if self.logins else ANYONE:
            request.state.key = key
            return key
        raise Refusal(HTTPStatus.UNAUTHORIZED, "invalid_api_key", "Log in to vote.")

    async def _vote(self, request: Request, store: Store) -> Response:
        key = self._key(request)
        ballot = await self.reader.read(request, Ballot.of)
        voter = key.name or " ".join(ballot.voter.split()) or "anonymous"
        ballot = ballot.model_copy(update={"voter": voter})
        return JSONResponse({"stored": await self._stored(lambda: store(ballot))})

    async def _judge(self, request: Request, booth: Booth) -> Response:
        self._key(request)
        if request.method == "GET":
            return JSONResponse({"voter": booth.voter, "known": booth.known})
        act = await self.reader.read(request, Act.of)
        voter = booth.voter if booth.known else act.voter
        return JSONResponse(await self._stored(lambda: booth.act(voter, act.do, act.id, act.note)))

    async def _stored(self, store: Callable[[], T]) -> T:
        async with self.gate.entered(self):
            try:
                return await in_daemon_thread(store)
            except OutputError as error:
                _log.warning("a vote cannot be saved: %s", error.message)
                said = told(error) if self.booth else "Your vote could not be saved. Tell the operator."
                raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "votes", said) from None
            except UsageError as error:
                raise invalid(told(error), "voter") from None


_packed = cache(partial(gzip.compress, mtime=0))


@cache
def _files() -> tuple[dict[str, bytes], str]:  # and a digest of all files

    def below(folder: Traversable, before: str = "") -> Iterator[tuple[str, bytes]]:
        for each in folder.iterdir():
            if each.is_dir():
                yield from below(each, f"{before}{each.name}/")
            elif each.name.endswith(_ENDINGS):
                yield before + each.name, each.read_bytes()

    found, whole = dict(below(files("redraft.serve.page") / "static")), hashlib.sha256()
    for name, data in sorted(found.items()):
        whole.update(name.encode() + b"\0" + hashlib.sha256(data).digest())
    return found, whole.hexdigest()[:16]


LOOPBACK = "127.0.0.1"
_AT_ONCE = 64  # most votes that are being stored or waiting
_LARGEST = 1 << 16  # bytes of a vote: four for each character of a note, and room for the other fields


def run_booth(booth: Booth, port: int, say: Callable[[str], None]) -> None:
    """Serve the page of `redraft vote` to this machine until a signal. `say` gets the URL with the key."""
    key, gate = secrets.token_urlsafe(24), Gate(1, _AT_ONCE)
    keys = Keys.once(key)

    async def serving(sock: socket.socket) -> None:
        async def load() -> None:
            say(f"http://{LOOPBACK}:{sock.getsockname()[1]}/#/vote/{key}")

        with until_signal(gate) as told:
            await run(booth_app(booth, keys, gate), gate, sock, load, told, drain=5)

    with listen(LOOPBACK, port, keys) as sock:
        asyncio.run(serving(sock))


def booth_app(booth: Booth, keys: Keys, gate: Gate) -> ASGIApp:
    """Return an application that serves the page of `redraft vote`, without models."""
    reader = Reader(ServerLimits(body=_LARGEST))
    page = Page(reader, Logins(keys, "redraft_vote"), gate, booth=booth)
    return Guard(_nothing, keys, Metrics(lambda: gate.inside, Models()), reader, page)


async def _nothing(*_: object) -> None:
    raise Refusal(HTTPStatus.NOT_FOUND, "not_found", "this server has only a page for votes, and no model.")
