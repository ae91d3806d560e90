"""Who may ask at all: checked before a request is read, on every route.

Without keys the server is for this machine alone. A page of another site could still reach it from a browser
here: by a name that it made to mean 127.0.0.1 (DNS rebinding), or by a plain cross-site request. Both are
refused, by `Host` and by `Origin`. With keys, a page would lack the key. There are no CORS headers.

The log has a line a request, and never a text of it.
"""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from redraft.serve.errors import Refusal
from redraft.serve.keys import Keys
from redraft.serve.metrics import Metrics
from redraft.serve.page.mount import Page

_log = logging.getLogger(__name__)

OPEN = ("/health", "/ready")
"""Routes that need no key."""


@dataclass(frozen=True)
class Guard:
    """An application around another one.

    Attributes:
        app: It answers the requests that pass.
        keys: Those that clients may use; None for a server that listens to this machine alone.
        metrics: Count the requests.
        page: The web page. It looks after the keys of its visitors by itself.
    """

    app: ASGIApp
    keys: Keys | None
    metrics: Metrics
    page: Page | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it. Write a line into the log."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, seen = time.monotonic(), scope.setdefault("state", {})

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
            await send(message)

        of_page = self.page if self.page is not None and self.page.has(scope["path"]) else None
        try:
            self._check(scope, with_key=of_page is None)
            await (of_page or self.app)(scope, receive, noting)
        except Refusal as refusal:
            response = JSONResponse(refusal.body, refusal.status, refusal.headers)
            await response(scope, receive, noting)
        finally:
            seconds = time.monotonic() - began
            self.metrics.note(seen, seconds)
            level = logging.DEBUG if of_page else logging.INFO  # the page's chains have lines of their own
            _log.log(level, "%s", " ".join(_facts(scope["method"], scope["path"], seen, seconds)))

    def _check(self, scope: Scope, *, with_key: bool) -> None:
        headers = Headers(scope=scope)
        host = headers.getlist("host")
        if len(host) != 1:
            raise _forbidden("a request names one host.")
        if "content-length" in headers and "transfer-encoding" in headers:
            raise _forbidden("a request says its length once.")  # a proxy could read another one than we do
        if self.keys is None and not is_loopback(_name_of(host[0])):
            raise _forbidden("this server is for this machine alone, and the request is for another host.")
        origins = headers.getlist("origin")
        if any(origin.partition("://")[2] != host[0] for origin in origins):
            raise _forbidden("the request is from a page of another site.")
        if self.keys is None or scope["path"] in OPEN or not with_key:
            return
        given = headers.getlist("authorization")
        if len(given) != 1 or not self.keys.known(given[0]):
            raise Refusal(
                HTTPStatus.UNAUTHORIZED,
                "invalid_api_key",
                "the API key is wrong." if given else "there is no API key. Send: Authorization: Bearer KEY",
            )


def _name_of(host: str) -> str:
    """Return the name in `Host`, without the port: a tunnel may have another one."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    return name[1:-1] if name.startswith("[") and name.endswith("]") else name


def is_loopback(host: str) -> bool:
    """Return whether a name or address is always this machine. Another name may be made to mean anything."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _forbidden(message: str) -> Refusal:
    return Refusal(HTTPStatus.FORBIDDEN, "forbidden", message)


def _facts(method: str, path: str, seen: Mapping[str, Any], seconds: float) -> Iterator[str]:
    """Yield the parts of a line of the log. A path is a client's text: it is quoted and cut."""
    yield f"method={method!a:.20} path={path!a:.80} status={seen.get('status', '-')}"
    if "model" in seen:
        yield f"model={seen['model']!a:.80}"
    if chains := seen.get("chains"):
        yield f"stop={chains[-1].stop} tokens={sum(chain.usage.completion_tokens for chain in chains)}"
    yield f"seconds={seconds:.3f}"
