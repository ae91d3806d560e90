"""The page in front of the API: its few routes, its policy, and the login.

Of Gradio's sixty routes (uploads, a proxy, its own API …) those that the page needs are let through. If there
are keys, nothing is open without a login. The policy lets the page load from this server alone and run no
script but its own. Gradio is imported when the page is opened for the first time: that takes seconds.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from importlib.resources import files
from typing import Annotated, Any
from urllib.parse import parse_qs

from pydantic import ConfigDict, Field
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from redraft.engines.threads import in_daemon_thread
from redraft.errors import shown
from redraft.serve.bodies import Body, Limits, body_of, object_of
from redraft.serve.errors import Refusal, invalid
from redraft.serve.keys import Key, Keys
from redraft.serve.page.work import Service, Store

_log = logging.getLogger(__name__)

OURS = ("/", "/login", "/logout", "/page/", "/assets/", "/static/", "/theme.css", "/gradio_api/")
"""Paths of the page; those that end in a slash with all below them."""

_OF_GRADIO = re.compile(
    r"GET /|GET /theme\.css|GET /(assets|static)/.+|POST /gradio_api/queue/join|"
    r"GET /gradio_api/queue/data|GET /gradio_api/heartbeat/\w+"
)
_PARTS = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_DROPPED = re.compile(r'<link rel="manifest"[^>]*>|<meta\s+(?:property="og:|name="twitter:)[^>]*>')
_HEAD = """<title>redraft</title>
<link rel="icon" href="page/icon.svg"><link rel="stylesheet" href="page/page.css">
<script src="page/page.js" defer></script></head>"""
_POLICY = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'self'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-DNS-Prefetch-Control": "off",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_ENTRY = 4096  # most bytes of a login
_TAB = re.compile(r"\w{1,64}", re.ASCII)

COOKIE = "redraft_session"
LIFETIME = 12 * 3600  # seconds that a login lasts
MOST = 10_000  # most logins at a time; the oldest ends first


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


@dataclass
class Logins:
    """Who is logged in, by the digests of the cookies that remember it.

    Scripts cannot read a cookie (HttpOnly), and no other site's request carries it (SameSite=Strict).
    """

    keys: Keys
    _open: OrderedDict[bytes, tuple[float, Key]] = field(default_factory=OrderedDict)

    def enter(self, key: str, *, secure: bool) -> str | None:
        """Return the cookie for a key, as the value of `Set-Cookie`; None if the key is wrong."""
        if (found := self.keys.find(f"Bearer {key}")) is None:
            return None
        token = secrets.token_urlsafe(32)
        self._open[_digest(token)] = time.monotonic() + LIFETIME, found
        while len(self._open) > MOST:
            self._open.popitem(last=False)
        return _cookie(token, LIFETIME, secure=secure)

    def key_of(self, cookies: str) -> Key | None:
        """Return the key that a visitor came with; None if they are not logged in.

        Only digests are looked up, so the time it takes says nothing about tokens.
        """
        ends, key = self._open.get(_digest(_token(cookies)), (0.0, None))
        return self.keys.now(key) if key and time.monotonic() < ends else None

    def leave(self, cookies: str) -> str:
        """End a login. Return the value of `Set-Cookie` that forgets it."""
        self._open.pop(_digest(_token(cookies)), None)
        return _cookie("", 0, secure=False)


def _token(cookies: str) -> str:
    try:
        found = SimpleCookie(cookies).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _cookie(token: str, seconds: int, *, secure: bool) -> str:
    return f"{COOKIE}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict" + "; Secure" * secure


@dataclass
class Page:
    """The page."""

    service: Service
    logins: Logins | None
    store: Store
    _gradio: asyncio.Task[ASGIApp] | None = field(default=None, init=False)

    def has(self, path: str) -> bool:
        """Return whether a path is the page's."""
        return any(path.startswith(each) if each[1:].endswith("/") else path == each for each in OURS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for the page."""
        nonce = secrets.token_urlsafe(16)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers["Content-Security-Policy"] = _POLICY.format(nonce=nonce)
                if not scope["path"].startswith(("/assets/", "/static/")):
                    headers["Cache-Control"] = "no-store"
            await send(message)

        app = await self._app(scope, receive, nonce)
        try:
            await app(scope, receive, sending)
        except asyncio.CancelledError:  # open tabs have streams, which end with the server
            if not self.service.gate.draining:
                raise

    async def _app(self, scope: Scope, receive: Receive, nonce: str) -> ASGIApp:
        headers, asked = Headers(scope=scope), f"{scope['method']} {scope['path']}"
        cookies = headers.get("cookie", "")
        if self.logins is not None:
            if asked == "POST /login":
                return await _enter(self.logins, Request(scope, receive), self.service.limits)
            if asked == "POST /logout":
                return RedirectResponse("/", 303, {"Set-Cookie": self.logins.leave(cookies)})
            key = self.logins.key_of(cookies)
            if key is None and asked == "GET /":
                return _small_page("login")
            if key is None:
                raise Refusal(HTTPStatus.UNAUTHORIZED, "not_logged_in", "there is no login: open /")
            scope["state"]["key"] = key
        part = scope["path"].removeprefix("/page/")
        if part in _PARTS and scope["method"] == "GET":
            return Response(text_of(part), media_type=_PARTS[part])
        if asked.startswith("GET /page/"):
            talk = self.service.conversations.get(part.removesuffix("/conversation.jsonl"))
            if talk is None:
                raise Refusal(HTTPStatus.NOT_FOUND, "not_found", "that conversation is no longer here.")
            name = {"Content-Disposition": 'attachment; filename="conversation.jsonl"'}
            return Response(talk.saved(), media_type="application/jsonl", headers=name)
        if not _OF_GRADIO.fullmatch(asked):
            raise Refusal(HTTPStatus.NOT_FOUND, "not_found", f"there is no {asked!a:.100} here.")
        return await self._of_gradio(scope, receive, nonce)

    async def _of_gradio(self, scope: Scope, receive: Receive, nonce: str) -> ASGIApp:
        """Return Gradio with what it leaves to us; a page that waits while it is not there yet."""

        async def begin() -> ASGIApp:
            def build() -> ASGIApp:
                from redraft.serve.page.blocks import make_page

                return make_page(self.service, self.store)

            app = await in_daemon_thread(build)
            await app.router.lifespan_context(app).__aenter__()  # type: ignore[attr-defined]  # until the end
            return app

        if self._gradio is None:
            self._gradio = asyncio.ensure_future(begin())
        if scope["path"] == "/":
            await asyncio.wait({self._gradio}, timeout=0.2)
            if not self._gradio.done() or not self.service.models.ready:
                return _small_page("wait")
        gradio = await asyncio.shield(self._gradio)
        if scope["path"] == "/":
            return _changed(gradio, nonce)
        if scope["method"] == "POST":
            body = await body_of(Request(scope, receive), self.service.limits)
            _Event.of(object_of(body)).check(gradio.state.inputs)  # type: ignore[attr-defined]
            return _with_body(gradio, body)
        return gradio


class _Event(Body):
    """What the page sends to Gradio's queue, which answers 500 where it does not expect a value."""

    model_config = ConfigDict(extra="ignore")
    fn_index: Annotated[int, Field(description="the number of a handler")]
    data: Annotated[list[Any], Field(description="a list")]
    session_hash: Annotated[str, Field(description="the name of a tab")]

    def check(self, inputs: Mapping[int, int]) -> None:
        """Check that there is the handler and a tab. `inputs` says how many values each handler takes."""
        if self.fn_index not in inputs:
            raise invalid(f"the page has no handler {shown(self.fn_index)}.", "fn_index")
        if len(self.data) < (takes := inputs[self.fn_index]):
            raise invalid(f"data has {len(self.data)} values; this handler takes {takes}.", "data")
        if not _TAB.fullmatch(self.session_hash):
            raise invalid("session_hash is no name of a tab: letters and digits, 64 at most.", "session_hash")


def _with_body(app: ASGIApp, body: bytes) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        whole = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receiving() -> Message:
            return next(whole, None) or await receive()

        await app(scope, receiving, send)

    return answer


def _changed(app: ASGIApp, nonce: str) -> ASGIApp:
    """Return Gradio's document without other hosts, with our parts, and with the nonce for scripts."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        body, status = [], 200

        async def keep(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            body.append(message.get("body", b""))

        headers = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        await app({**scope, "headers": headers}, receive, keep)
        html = _DROPPED.sub("", b"".join(body).decode())
        html = html.replace("</head>", _HEAD, 1).replace("<script", f'<script nonce="{nonce}"')
        await HTMLResponse(html, status)(scope, receive, send)

    return answer


async def _enter(logins: Logins, request: Request, limits: Limits) -> Response:
    """Log a visitor in with the key that the form sends. A wrong one is noted, without the key."""
    body = await body_of(request, replace(limits, body=_ENTRY))
    given = parse_qs(body.decode("latin-1")).get("key", [""])[0]
    secure = request.headers.get("origin", "").startswith("https:")
    if (cookie := logins.enter(given, secure=secure)) is None:
        _log.warning("a login failed, from %s", request.client.host if request.client else "nowhere known")
        return _small_page("login", '<p class="alert" role="alert">That key is not right.</p>')
    return RedirectResponse("/", 303, {"Set-Cookie": cookie})


def _small_page(name: str, wrong: str = "") -> Response:
    html = text_of(f"{name}.html").replace("{{style}}", text_of("small.css")).replace("{{wrong}}", wrong)
    return HTMLResponse(html, HTTPStatus.UNAUTHORIZED if name == "login" else HTTPStatus.OK)


@cache
def text_of(name: str) -> str:
    """Return the text of a file of the page."""
    return files("redraft.serve.page").joinpath(name).read_text("utf-8")
