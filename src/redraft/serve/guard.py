"""Check who sends a request, on every route and before the body is read. No CORS headers are sent.

Without keys, only this machine may send requests. Cross-site requests from a browser on this machine are
refused, including DNS rebinding, where the site's name resolves to 127.0.0.1.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from redraft.jobs.machine import is_loopback
from redraft.serve.errors import Refusal, reply_of
from redraft.serve.keys import ANYONE, Key, Keys
from redraft.serve.log import REQUEST, Entry
from redraft.serve.metrics import Metrics
from redraft.serve.reader import Reader

if TYPE_CHECKING:
    from redraft.serve.page.mount import Page

_log = logging.getLogger(__name__)

OPEN = ("/health", "/ready")  # routes that need no key
_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True)
class Guard:
    """Checks each request, then passes the request to the application or the page."""

    app: ASGIApp
    keys: Keys | None  # the clients' keys; None for a server that only this machine can reach
    metrics: Metrics
    reader: Reader
    page: Page | None = None  # the web page, whose files need no key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check and answer a request, and record the usage."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, seen, headers = time.monotonic(), scope.setdefault("state", {}), Headers(scope=scope)
        own = headers.get("x-request-id", "")
        seen["id"] = own if _ID.fullmatch(own) else f"req_{secrets.token_hex(12)}"
        before = REQUEST.set(seen["id"])

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
                own = (b"x-request-id", seen["id"].encode())
                message = {**message, "headers": [*message.get("headers", ()), own]}
            await send(message)

        of_page = self.page if self.page is not None and self.page.has(scope["path"]) else None
        try:
            key = seen["key"] = self._checked(scope, headers, with_key=of_page is None)
            path, method = scope["path"].rstrip("/") or "/", scope["method"]
            plain = {**scope, "path": path, "method": "GET" if method == "HEAD" else method}
            with key.entered(seen) if method == "POST" else nullcontext():
                await (of_page or self.app)(scope if of_page else plain, receive, noting)
        except Refusal as refusal:
            await reply_of(refusal, scope)(scope, receive, noting)
        finally:
            seconds = time.monotonic() - began
            seen.setdefault("status", 499)  # the client left before the reply began; as in nginx
            probe = scope["path"].rstrip("/") in (*OPEN, "/metrics")
            if not probe:
                self.metrics.note(seen, seconds)
            quiet = (of_page and scope["method"] != "POST") or (probe and seen["status"] == HTTPStatus.OK)
            _log.log(logging.DEBUG if quiet else logging.INFO, Entry.of(scope, seconds))
            self.reader.release(seen)
            REQUEST.reset(before)

    def _checked(self, scope: Scope, headers: Headers, *, with_key: bool) -> Key:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        why = why_forbidden(hosts, origins, here_alone=self.keys is None)
        if "content-length" in headers and "transfer-encoding" in headers:  # a proxy may follow either
            why = "a request cannot have both Content-Length and Transfer-Encoding."
        if why:
            raise Refusal(HTTPStatus.FORBIDDEN, "forbidden", why)
        if self.keys is None or scope["path"] in OPEN or not with_key:
            return ANYONE
        others = headers.getlist("api-key") + headers.getlist("x-api-key")  # Azure's, and Anthropic's
        given = headers.getlist("authorization") or [f"Bearer {key}" for key in others]
        if len(given) == 1 and (key := self.keys.find(given[0])):
            return key
        if not given and self.page and (key := self.page.key_of(headers)):
            return key
        # OpenAI's words, which litellm recognises
        said = "Incorrect API key provided." if given else "You didn't provide an API key."
        said += "" if given and " " in given[0] else " Send: Authorization: Bearer KEY"
        raise Refusal(HTTPStatus.UNAUTHORIZED, "invalid_api_key", said)


def why_forbidden(hosts: Sequence[str], origins: Sequence[str], *, here_alone: bool) -> str:
    """Return why the `Host` or `Origin` of a request is refused, or "" if both are allowed."""
    if len(hosts) != 1:
        return "a request must name exactly one host."
    name, _, port = hosts[0].rpartition(":")  # any port: a tunnel may have another one
    name = name if port.isdecimal() else hosts[0]
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    if here_alone and not is_loopback(name):
        return "the Host header is for another machine. This server accepts only requests to this machine."
    if any(origin.partition("://")[2] != hosts[0] for origin in origins):
        return "the request is from a page of another site."
    return ""
