"""Send HTTP requests to one server: address and key, retries, time-outs, and errors with hints.

`wire` interprets the JSON, and `engines.retry` decides how long to wait. Redirects are not followed, because
a key must not be sent to another host. A request is repeated only if no part of the reply was read, so that
users never see a text twice.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from http import HTTPStatus
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import httpx

from redraft.chain import whole
from redraft.chain.texts import texts_in
from redraft.engines.config import Key, config_path, key_variable
from redraft.engines.messages import why_refused
from redraft.engines.names import variable_of
from redraft.engines.remote.wire import Body, Complaint, EventParser, read_complaint
from redraft.engines.retry import Failure, Patience, Retry
from redraft.errors import EngineError, EngineTimeout, ServerError, UsageError, one_line
from redraft.jobs.causes import FILTER
from redraft.jobs.counting import counted
from redraft.jobs.machine import is_loopback

_log = logging.getLogger(__name__)

RETRIED = frozenset({429, 500, 502, 503, 504})  # statuses worth another try
MISSING = (404, 405, 501)  # statuses of a path that a server does not have
SECRET = 8  # minimum length of a secret. Shorter keys are placeholders, such as EMPTY.
HIDDEN = 1000  # number of latest texts that stay hidden; active requests have fewer
SLOWEST = 1e6  # the slowest accepted upload of a large file, in bytes per second

ADDRESS_HINT = "Is this the address of an OpenAI-compatible API? It usually ends in /v1."
_DOWN_HINT = "Start the server, or check its address and the network."
_LOG_HINT = "See the log of the server."
_UNREADABLE_HINT = "Try again. If it happens again, see the log of the server or proxy."
_SILENT_HINT = f"{_LOG_HINT} If it is only slow, raise the timeout, and the time budget if you set one."
_LIMIT_HINT = "Raise the patience. In a run, you can also send less: lower rpm or parallel."

_BAD = object()
Sign = Callable[[httpx.Request], httpx.Request]


@dataclass(frozen=True)
class Refusal:
    """A reply with a status other than 2xx."""

    status: int
    complaint: Complaint
    retry_after: float | None = None  # seconds that the server asks to wait, or None
    location: str = ""
    tries: int = 1
    asked: float = 0.0  # time of the request, on the event loop's clock

    @property
    def of_key(self) -> bool:
        """Whether the key is missing or refused."""
        if self.status == HTTPStatus.FORBIDDEN:  # content filters use this status, too
            return not FILTER.search(self.complaint.message)
        return self.status == HTTPStatus.UNAUTHORIZED

    @property
    def of_account(self) -> bool:
        """Whether the account has no credit, so that waiting does not help."""
        # OpenAI reports this as a rate limit.
        return self.status == HTTPStatus.PAYMENT_REQUIRED or "insufficient_quota" in self.complaint.code

    @property
    def may_pass(self) -> bool:
        """Whether repeating the request may succeed."""
        return self.status in RETRIED and not (self.of_account or self.of_request)

    @property
    def of_request(self) -> bool:
        """Whether the status is 500 although the request is at fault. llama.cpp sends such replies."""
        return self.status == HTTPStatus.INTERNAL_SERVER_ERROR and self.complaint.about_request


class Server:
    """One server that speaks JSON over HTTP/1.1. Creating this object sends nothing.

    Raises:
        UsageError: The address is invalid, or the key would be sent unencrypted.
    """

    def __init__(self, url: str, key: Key | None, patience: Patience) -> None:
        self.url = str(url).rstrip("/")
        self.patience, self._key = patience, key
        self._hidden: dict[str, None] = {}  # hidden texts, the latest last
        self._reached = False
        self._loop: asyncio.AbstractEventLoop | None = None
        check_address(self.url)
        self.host = urlsplit(self.url).netloc
        self.retry = Retry(patience, self.host)
        if key:
            _check_key(self.url, key)
        self._lanes = Lanes(
            timeout=httpx.Timeout(None, connect=patience.connect),
            # A proxy from the environment is for other machines, and would see the key of a local server.
            trust_env=not is_loopback(urlsplit(self.url).hostname or ""),
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._lanes.aclose()

    @asynccontextmanager
    async def asked(
        self,
        path: str,
        body: Body,
        headers: Mapping[str, str],
        call_id: str,  # noqa: ARG002  (for `BatchServer`)
    ) -> AsyncIterator[httpx.Response | Refusal]:
        """Post a request, with retries. Leaving the `async with` block cancels the request.

        Yields an unread 2xx response, or a `Refusal`. `response.extensions["asked_at"]` is the time of the
        request, on the event loop's clock.
        """
        request = {"method": "POST", "url": self.url + path, "json": body, "headers": headers}
        reply = await self._settled(request, self.patience.first_token)
        if isinstance(reply, Refusal):
            yield reply
            return
        self.retry.served()
        try:
            yield reply
        finally:
            await self._close(reply)

    async def fetch(
        self, method: str, address: str, body: Body | None = None, *, file: bytes = b"", patient: bool = True
    ) -> Any:
        """Return the JSON of a small reply, or a `Refusal`. Raise `EngineError` if there is no reply.

        A `file` of JSON lines is posted as form data, with the fields of `body`.
        """
        request: dict[str, Any] = {"method": method, "url": address, "json": body}
        limit = self.patience.between_tokens
        if file:
            files = {"file": ("requests.jsonl", file, "application/jsonl")}
            request = {"method": method, "url": address, "data": body, "files": files}
            limit = max(self.patience.first_token, len(file) / SLOWEST)
        reply = await self._settled(request, limit, patient=patient)
        if isinstance(reply, Refusal):
            return reply
        try:
            async with asyncio.timeout(limit):
                return self._read_json(await self._read(reply))
        except TimeoutError:
            message = f"{self.host} did not finish its reply within {limit:g} s."
            raise EngineTimeout(message, hint=_SILENT_HINT) from None
        finally:
            await self._close(reply)

    async def lines(self, path: str) -> AsyncGenerator[Any, None]:
        """Yield the JSON lines of a file."""
        reply = await self._settled({"method": "GET", "url": self.url + path}, self.patience.first_token)
        if isinstance(reply, Refusal):
            raise self.error(reply, path)
        number = 0
        try:
            async for line in self._split(reply):
                number += 1
                record = _from_json(line)
                if record is _BAD:
                    what = f"line {number:,} of {path} is cut off or damaged"
                    raise ServerError(f"{self.host}: {what}: {self._start(line)!r}")
                yield record
        except (httpx.RequestError, TimeoutError) as error:
            said = f"{self.host} broke off {path} after {counted(number, 'line')}"
            raise ServerError(f"{said}: {self.clean(str(error)) or 'it is silent'}", passing=True) from None
        finally:
            await self._close(reply)

    async def _split(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        rest, pieces = b"", response.aiter_bytes()
        while True:
            async with asyncio.timeout(self.patience.between_tokens):
                piece = await anext(pieces, None)
            if piece is None:
                break
            *lines, rest = (rest + piece).split(b"\n")
            for line in filter(bytes.strip, lines):
                yield line
        if rest.strip():
            yield rest

    async def records(self, response: httpx.Response) -> AsyncGenerator[Any, None]:
        """Yield the records of a reply, streamed or not. None stands for `[DONE]`.

        A broken connection ends a streamed reply without an error, but also without a finish reason.
        """
        if "json" in response.headers.get("content-type", ""):
            record = self._read_json(await self._read(response))
            if isinstance(record, dict) and not record.get("choices", True):
                raise ServerError(f"{self.host} sent a reply without choices.", hint=_LOG_HINT, passing=True)
            yield record
            return
        parser, start, empty = EventParser(), b"", True
        with suppress(httpx.RequestError):
            async for piece in response.aiter_bytes():
                start = (start + piece)[:4096] if empty else b""
                for data in parser.feed(piece):
                    empty = False
                    yield None if data.strip() == "[DONE]" else self._event(data)
        for data in parser.close():
            empty = False
            record = None if data.strip() == "[DONE]" else _from_json(data)
            if record is not _BAD:  # a bad one was cut off: callers see no finish reason
                yield record
        if empty and start.strip()[:1] not in (b"", b":"):  # a comment is a ping of a busy server
            raise self._not_json(start)

    def _read_json(self, data: str | bytes) -> Any:
        if (record := _from_json(data)) is _BAD:
            raise self._not_json(data)
        return record

    def _event(self, data: str) -> Any:
        if (record := _from_json(data)) is _BAD:
            said = f"{self.host} sent a damaged event in its reply: {self._start(data)!r}"
            raise ServerError(said, hint=_UNREADABLE_HINT, passing=True)
        return record

    def _not_json(self, data: str | bytes) -> ServerError:
        return ServerError(f"{self.host} did not answer with JSON: {self._start(data)!r}", hint=ADDRESS_HINT)

    def _start(self, data: str | bytes) -> str:
        return self.clean(data if isinstance(data, str) else data.decode(errors="replace"))[:80]

    def clean(self, text: str) -> str:
        """Shorten a server's text to one line for a message, and remove the key."""
        text = " ".join(whole(self.without_secrets(text)).split())
        return text if len(text) <= 300 else text[:299] + "…"

    def hide(self, *values: Any) -> None:
        """Hide the texts in `values` from messages and logs. Only the latest `HIDDEN` texts stay hidden."""
        # A server's error may repeat the request.
        for old in list(self._hidden)[:-HIDDEN]:
            del self._hidden[old]
        for text in texts_in(values):
            if len(text) >= SECRET:
                self._hidden.pop(text, None)
                self._hidden[text] = None

    def without_secrets(self, text: str) -> str:
        """Return a text without the key and the hidden texts."""
        if self._key and len(self._key.value) >= SECRET:
            text = text.replace(self._key.value, "[key]")
        for hidden in sorted(self._hidden, key=len, reverse=True):
            text = text.replace(hidden, "[hidden]")
        return text

    def error(self, refusal: Refusal, path: str) -> EngineError:
        """Return the error for a refused request. An empty `path` means that the path is known to exist."""
        status, host, hint = refusal.status, self.host, None
        reason = self.clean(why_refused(refusal.complaint.message))
        key = f"the key from {self._key.source}" if self._key else ""
        said = f"{host} refuses the request ({status}): {reason}"
        status = HTTPStatus.BAD_REQUEST if refusal.of_request else status
        if refusal.of_key:
            variable = variable_of(host) or key_variable(host)
            hint = f'export {variable}=…, or add "{host}" = "env:NAME" to [keys] in {config_path()}'
            verb = f"refuses {key}" if key else "asks for a key"
            if status == HTTPStatus.FORBIDDEN:
                verb = f"gives {key} no access" if key else "gives no access"
                hint = f"Use a model or a key that has access: {hint}"
            said = f"{host} {verb} ({status}): {reason}"
        elif refusal.of_account:
            said = f"at {host}, the account {f'of {key} ' if key else ''}is empty ({status}): {reason}"
            status = HTTPStatus.PAYMENT_REQUIRED
            hint = "Add credit, raise the account's own limit, or use another key."
        elif status in RETRIED:
            limits = status == HTTPStatus.TOO_MANY_REQUESTS
            tries = f", {refusal.tries} times" if refusal.tries > 1 else ""
            said = f"{host} {'limits requests' if limits else 'fails'} ({status}{tries}): {reason}"
            if after := refusal.retry_after:
                said = one_line(said, f"It asks to wait {after:.10g} s.")
            hint = _LIMIT_HINT if limits else _LOG_HINT
        elif 300 <= status < 400:
            said = f"{self.url} redirects ({status}) to {refusal.location}, but redirects are not followed."
            hint, reason = "Name the new address in --model.", ""
        elif status in MISSING and path:
            said, hint = f"{self.url}{path} does not exist ({status}): {reason}", ADDRESS_HINT
        error = ServerError(said, hint=hint, status=status)
        error.reason = reason
        error.retry_after = refusal.retry_after if status in RETRIED else None
        return error

    async def _settled(
        self, request: Mapping[str, Any], limit: float, *, patient: bool = True
    ) -> httpx.Response | Refusal:
        self._loop = self._loop or asyncio.get_running_loop()
        if self._loop is not asyncio.get_running_loop():  # connections belong to one loop
            hint = "Open and use the engine in one event loop, inside the same asyncio.run(…)."
            raise EngineError(f"the engine of {self.url} was used in another event loop before.", hint=hint)
        began = self._loop.time()
        for attempt in count(1):
            silence, asked = 0.0, self._loop.time()
            reply: httpx.Response | Refusal | EngineError | None = None
            turn = await self.retry.rate.turn(_most_tokens(request.get("json")))
            try:
                reply = await self._once(request, limit)
            except TimeoutError:
                silence = limit
                reply = EngineTimeout(f"{self.host} sent nothing within {limit:g} s.", hint=_SILENT_HINT)
            finally:
                if not isinstance(reply, httpx.Response):
                    self.retry.rate.over(turn)
            if isinstance(reply, httpx.Response):
                reply.extensions["turn"] = turn
                return reply
            failure, again = Failure(None, None, attempt, began, asked, silence), self._reached
            if isinstance(reply, Refusal):
                failure = Failure(reply.status, reply.retry_after, attempt, began, reply.asked)
                again = reply.may_pass
            if not (again and patient and await self.retry.waited(failure)):
                if isinstance(reply, EngineError):
                    raise reply
                return replace(reply, tries=attempt)
        raise AssertionError("no tries are left")

    async def _once(self, request: Mapping[str, Any], limit: float) -> httpx.Response | Refusal | EngineError:
        if self._lanes.closed:
            hint = "Open it again: await redraft.load_engine('http://host/v1#model')"
            raise EngineError(f"the engine of {self.url} was closed.", hint=hint)
        asked_at = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(limit):
                response = await self._lanes.send(**request, auth=self._signed if self._key else None)
                self._reached = True
                if response.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                    self.retry.given_up = 0
                response.extensions["asked_at"] = asked_at
                return response if response.is_success else await self._refusal(response)
        except httpx.ConnectTimeout:
            seconds = self.patience.connect
            return EngineTimeout(f"{self.url} accepted no connection within {seconds:g} s.", hint=_DOWN_HINT)
        except httpx.RequestError as error:
            reason = self.clean(str(error)) or type(error).__name__
            return ServerError(f"no server answers at {self.url}: {reason}", hint=_DOWN_HINT)

    def _signed(self, request: httpx.Request) -> httpx.Request:
        """Add the key just before sending, so that no request object in our code contains the key."""
        assert self._key  # noqa: S101  (others are not signed)
        request.headers["Authorization"] = f"Bearer {self._key.value}"
        return request

    async def _refusal(self, response: httpx.Response) -> Refusal:
        try:
            text = self.without_secrets((await self._read(response)).decode(errors="replace"))
        except ServerError:
            text = ""
        finally:
            await self._lanes.close(response)
        return Refusal(
            status=response.status_code,
            complaint=read_complaint(_from_json(text)) or Complaint(text.strip() or response.reason_phrase),
            retry_after=_seconds(response.headers.get("retry-after")),
            location=self.clean(response.headers.get("location", "")),
            asked=response.extensions["asked_at"],
        )

    async def _close(self, response: httpx.Response) -> None:
        try:
            await self._lanes.close(response)
        finally:
            self.retry.rate.over(response.extensions["turn"])

    async def _read(self, response: httpx.Response) -> bytes:
        try:
            return await response.aread()
        except httpx.RequestError as error:
            message = f"{self.host} broke off its reply: {self.clean(str(error))}"
            raise ServerError(message, passing=True) from None


def check_address(url: str) -> None:
    """Raise `UsageError` if a URL is not the address of a server, or contains a user name or password."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        valid = valid and bool(httpx.URL(url).host)
    except (ValueError, httpx.InvalidURL):  # a UnicodeError of idna is a ValueError
        valid = False
    if not valid or not url.isprintable() or " " in url:
        raise UsageError(f"{url!r} is not the address of a server.", hint="http://host:port/v1#model")
    if parts.username or parts.password:
        message = f"the address of {parts.hostname} contains a user name or password, which logs would show."
        hint = f"Leave them out, and set the key instead: export {key_variable(parts.hostname or '')}=…"
        raise UsageError(message, hint=hint)


def _check_key(url: str, key: Key) -> None:
    if not (key.value.isascii() and key.value.isprintable()) or " " in key.value:
        raise UsageError(f"the key from {key.source} contains a space, line break or non-ASCII character.")
    parts = urlsplit(url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or "") and not key.plain_http:
        raise UsageError(
            f"the key from {key.source} would be sent to {parts.netloc} unencrypted.",
            hint=f"Use https://, or allow it under [keys] of {config_path()}: "
            f'"{parts.netloc}" = {{ key = "env:NAME", plain_http = true }}',
        )


def _from_json(data: str | bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return _BAD


def _most_tokens(body: Body | None) -> int:
    if body is None:
        return 0
    limit = body.get("max_tokens") or body.get("max_completion_tokens") or 0
    return int(limit) + sum(map(len, texts_in((body.get("messages"), body.get("prompt"))))) // 4


def _seconds(header: str | None) -> float | None:
    if header is None:
        return None
    try:
        if re.fullmatch(r"\d+(\.\d+)?", header.strip()):
            return float(header)
        return max((parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


class Lanes:
    """Connections to one server. `settings` are arguments of `httpx.AsyncClient`."""

    # Each active request has its own client: httpcore's pool compares all connections whenever a request
    # begins or ends. With 200 active requests, that takes more time than everything else together
    # (benchmarks/generate.py, row `overhead`).

    def __init__(self, **settings: Any) -> None:
        # All lanes share the certificates: reading them takes longer than a small request.
        self._settings: dict[str, Any] = {"verify": _certificates(), **settings}
        self._free: list[httpx.AsyncClient] = []
        self._all: list[httpx.AsyncClient] = []
        self.closed = False

    async def send(self, *, auth: Sign | None, **request: Any) -> httpx.Response:
        """Send a request, given as the arguments of `build_request`. Give the response to `close` later."""
        if self._free:
            lane = self._free.pop()  # the client freed last, whose connection is probably still open
        else:
            lane = httpx.AsyncClient(**self._settings)
            self._all.append(lane)
        try:
            response = await lane.send(lane.build_request(**request), auth=auth, stream=True)
        except BaseException:
            self._free.append(lane)
            raise
        response.extensions["lane"] = lane
        return response

    async def close(self, response: httpx.Response) -> None:
        """Close a response, read or not. May be called twice."""
        try:
            await response.aclose()
        finally:
            if lane := response.extensions.pop("lane", None):
                self._free.append(lane)

    async def aclose(self) -> None:
        """Close all connections."""
        self.closed = True
        for lane in self._all:
            await lane.aclose()


_certificates = cache(httpx.create_ssl_context)
