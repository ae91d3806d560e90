"""The web page for votes, served on this machine only, by the standard library's server.

The page (`vote.js`) holds no answers. It asks for its pairs with a token that stands behind `#` in its
address, so that it is in no request line, log or referrer. A request is refused if it is for another host or
from another page, lacks the token, or has a large body. The page's policy allows its own script and style, by
their hashes.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
import sys
from base64 import b64encode
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from importlib.resources import files
from socketserver import ThreadingTCPServer
from string import Template
from threading import Lock
from typing import Any, Literal, cast

from pydantic import BaseModel, Field, ValidationError

from redraft import __version__
from redraft.chain import describe
from redraft.counting import printable
from redraft.errors import RedraftError, UsageError
from redraft.evaluation.voting.ballots import LONGEST_NAME, LONGEST_NOTE, Ballots, voter_of
from redraft.origins import why_refused

LOOPBACK = "127.0.0.1"
_LARGEST = 1 << 16  # bytes of the largest body: four bytes for each character of a note, and the rest


def page(voter: str, *, known: bool) -> str:
    """Return the page. It starts with this voter if the name is known, and else asks for it."""
    return Template(_part("evaluation", "voting", "page.html")).substitute(
        longest_name=LONGEST_NAME,
        longest_note=LONGEST_NOTE,
        voter=escape(printable(voter)),
        known=" data-known" if known else "",
        version=__version__,
        style=_part("pages", "page.css") + _part("evaluation", "voting", "vote.css"),
        script=_part("pages", "elements.js") + _part("evaluation", "voting", "vote.js"),
    )


def _part(*names: str) -> str:
    return files("redraft").joinpath(*names).read_text("utf-8")


def policy_of(html: str) -> str:
    """Return the policy to send with a page: its own scripts and styles, by hash, and nothing else's."""

    def hashes(tag: str) -> str:
        found = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.S)
        return " ".join(f"'sha256-{b64encode(sha256(each.encode()).digest()).decode()}'" for each in found)

    return (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class _Act(BaseModel):
    """What a voter did: the body of a request."""

    voter: str
    do: Literal["show", "1", "2", "=", "skip", "undo"]
    id: str = ""
    note: str = Field("", max_length=LONGEST_NOTE)


class _Refused(Exception):
    """A request that is not answered, and why."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class VoteServer(ThreadingTCPServer):
    """The server. Each voter has ballots, which are opened at the first request. `url` has the token."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128  # connections that wait to be accepted; browsers open some to spare

    def __init__(self, port: int, html: str, ballots_of: Callable[[str], Ballots]) -> None:
        """Listen on a port of the loopback interface; 0 chooses a free one."""
        self.html, self.policy = html.encode(), policy_of(html)
        self.token = secrets.token_urlsafe(24)
        self._ballots_of, self._open = ballots_of, dict[str, Ballots]()
        self._lock, self._ended = Lock(), False
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except OSError as error:
            raise UsageError(
                f"port {port} cannot be used: {error.strerror}.", hint="Give another one, or no --port."
            ) from None
        self.url = f"http://{LOOPBACK}:{self.server_address[1]}/#{self.token}"

    def server_close(self) -> None:
        """Stop listening. The vote that is under way is stored, and no other begins."""
        with self._lock:
            self._ended = True
        super().server_close()

    def act(self, body: bytes) -> dict[str, Any]:
        """Do what a request asks for, and return the voter's state as JSON values."""
        try:
            asked = _Act.model_validate_json(body)
            voter = voter_of(asked.voter)
        except ValidationError as error:
            raise _Refused(HTTPStatus.BAD_REQUEST, f"no request: {describe(error)}") from None
        except UsageError as error:
            raise _Refused(HTTPStatus.BAD_REQUEST, str(error)) from None
        with self._lock:
            if self._ended:
                raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, "redraft vote has ended")
            if voter not in self._open:
                self._open[voter] = self._ballots_of(voter)
            return asdict(self._open[voter].act(asked.do, asked.id, asked.note))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Show a traceback, unless the browser has gone."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    timeout = 30  # seconds in which a connection may be silent
    server_version, sys_version = "redraft", ""

    @property
    def _booth(self) -> VoteServer:
        return cast(VoteServer, self.server)

    def do_GET(self) -> None:
        """Send the page."""
        self._answer(self._page)

    def do_POST(self) -> None:
        """Do what a voter asks for."""
        self._answer(self._act)

    def _answer(self, make: Callable[[], tuple[str, bytes]]) -> None:
        status = HTTPStatus.OK
        try:
            self._check_origin()
            kind, data = make()
        except (_Refused, RedraftError) as error:
            status = error.status if isinstance(error, _Refused) else HTTPStatus.INTERNAL_SERVER_ERROR
            kind, data = _as_json({"error": str(error)})
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(data))),
            ("Content-Security-Policy", self._booth.policy),
            ("X-Content-Type-Options", "nosniff"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _page(self) -> tuple[str, bytes]:
        if self.path != "/":
            raise _Refused(HTTPStatus.NOT_FOUND, "there is one page here: /")
        return "text/html; charset=utf-8", self._booth.html

    def _act(self) -> tuple[str, bytes]:
        if self.path != "/act":
            raise _Refused(HTTPStatus.NOT_FOUND, "requests go to /act")
        given = self.headers.get("X-Redraft-Token", "")
        if not hmac.compare_digest(given.encode(), self._booth.token.encode()):
            raise _Refused(
                HTTPStatus.FORBIDDEN, "the token is wrong: open the whole address that redraft vote shows"
            )
        if self.headers.get_content_type() != "application/json":
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a request is application/json")
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "a request says how long it is")
        if len(length) > len(str(_LARGEST)) or int(length) > _LARGEST:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request has at most {_LARGEST:,} bytes")
        return _as_json(self._booth.act(self.rfile.read(int(length))))

    def _check_origin(self) -> None:
        hosts, origins = (self.headers.get_all(name) or [] for name in ("Host", "Origin"))
        if why := why_refused(hosts, origins, here_alone=True):
            raise _Refused(HTTPStatus.FORBIDDEN, why)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def _as_json(value: Any) -> tuple[str, bytes]:
    return "application/json", json.dumps(value).encode()
