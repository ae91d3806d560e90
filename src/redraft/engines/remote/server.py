"""Talking to one server: its address and key, retries, time-outs, and errors that say what to do.

What is asked and answered is known to `wire`; here it is JSON. How long to wait is known to `patience`.
Redirects are not followed: a key must not travel to another host, and a redirected POST loses its body with
many clients. A request is made again only before anything of its reply was read, so nothing that was shown is
ever generated twice.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import httpx

from redraft.config import Key, config_path, key_variable
from redraft.engines.remote.halves import whole
from redraft.engines.remote.patience import Failure, Pace, Patience
from redraft.engines.remote.sse import EventParser
from redraft.engines.remote.wire import Body, Complaint, read_complaint
from redraft.errors import EngineError, EngineTimeout, ServerError, UsageError

RETRIED = frozenset({429, 500, 502, 503, 504})
"""Statuses that may be another the next time (reference/engines_serving.md)."""

_ADDRESS_HINT = "Is this the address of an OpenAI-compatible API? It usually ends in /v1."
_DOWN_HINT = "Start the server, or correct host and port in --model."


@dataclass(frozen=True)
class Refusal:
    """A reply other than 2xx.

    Attributes:
        retry_after: Seconds that the server asks to wait, or None.
        location: Where a redirect points to.
        tries: How often it was asked.
    """

    status: int
    complaint: Complaint
    retry_after: float | None = None
    location: str = ""
    tries: int = 1


class _Bearer(httpx.Auth):
    """Sends a key. It is put in at the last moment, so that nothing else holds it."""

    def __init__(self, key: Key) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._key.value}"
        yield request


class Server:
    """One server that speaks JSON over HTTP/1.1.

    Attributes:
        url: Its base address, such as `http://localhost:8000/v1`.
        host: Host and port, as messages name it.
        patience: How long to wait, and how often to ask.
        pace: When the next request may be made.
    """

    def __init__(self, url: str, key: Key | None, patience: Patience) -> None:
        """Checks the address; nothing is sent yet.

        Raises:
            UsageError: The address cannot be used, or would show the key to the network.
        """
        self.url = url.rstrip("/")
        self.patience = patience
        self._key = key
        self._reached = False
        self._loop: asyncio.AbstractEventLoop | None = None
        _check_address(self.url)
        self.host = urlsplit(self.url).netloc
        self.pace = Pace(patience, self.host)
        if key:
            _check_key(self.url, key)
        self._client = httpx.AsyncClient(
            auth=_Bearer(key) if key else None,
            timeout=httpx.Timeout(None, connect=patience.connect),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            # A proxy of the environment is meant for other machines, and would see the key of a local server.
            trust_env=not _is_local(self.url),
        )

    def __repr__(self) -> str:
        return f"Server({self.url!r})"

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    @asynccontextmanager
    async def asked(self, path: str, body: Body) -> AsyncIterator[httpx.Response | Refusal]:
        """Posts a request, with retries. Leaving the context drops the connection, and with it the work.

        Args:
            path: Behind the base address, with its slash.
            body: The JSON to send.

        Yields:
            A 2xx response that is not read yet, or what the server said instead. The time of the event loop
            at which it was asked for is `response.extensions["asked_at"]`.

        Raises:
            ServerError: No server answers.
            EngineTimeout: It takes no connection, or sends no headers before the limit of the first token.
        """
        reply = await self._settled("POST", self.url + path, body, self.patience.first_token)
        if isinstance(reply, httpx.Response):
            self.pace.served()
        try:
            yield reply
        finally:
            if isinstance(reply, httpx.Response):
                await reply.aclose()

    async def fetch(
        self, method: str, address: str, body: Body | None = None, *, patient: bool = True
    ) -> Any:
        """The decoded JSON of a small reply, or a `Refusal`; `patient` asks again. Raises as `asked` does."""
        limit = self.patience.between_tokens
        reply = await self._settled(method, address, body, limit, patient=patient)
        if isinstance(reply, Refusal):
            return reply
        try:
            async with asyncio.timeout(limit):
                return self._decoded(await self._read(reply))
        except TimeoutError:
            raise EngineTimeout(f"{self.host} did not finish its reply within {limit:g} s.") from None
        finally:
            await reply.aclose()

    async def records(self, response: httpx.Response) -> AsyncGenerator[Any, None]:
        """The records of a reply as they arrive, whether streamed or whole. None stands for `[DONE]`.

        A connection that breaks just ends the records: whether they are complete shows in the records.

        Raises:
            ServerError: What came is not JSON.
        """
        if "json" in response.headers.get("content-type", ""):
            yield self._decoded(await self._read(response))
            return
        parser, start, empty = EventParser(), b"", True
        async for piece in self._pieces(response):
            start = (start + piece)[:4096] if empty else b""
            for data in parser.feed(piece):
                empty = False
                yield None if data.strip() == "[DONE]" else self._decoded(data)
        for data in parser.close():
            empty = False
            record = None if data.strip() == "[DONE]" else _from_json(data)
            if record is not _BAD:  # a bad one was cut, and the one who reads will miss the end
                yield record
        if empty and start.strip():
            raise self._not_json(start.decode(errors="replace"))

    def clean(self, text: str) -> str:
        """A text of the server's as it may be shown: on one line, short, without a key that it echoes."""
        text = " ".join(whole(self._redacted(text)).split())
        return text if len(text) <= 300 else text[:299] + "…"

    def _redacted(self, text: str) -> str:
        """A text without the key. What is shorter is no secret, but a word such as EMPTY."""
        secret = self._key.value if self._key and len(self._key.value) >= 8 else None
        return text.replace(secret, "[key]") if secret else text

    def error(self, refusal: Refusal, path: str) -> EngineError:
        """What a refusal of a path means to the user, and what to do."""
        status, said = refusal.status, self.clean(refusal.complaint.message)
        if status in (401, 403):
            return self._key_error(status, said)
        if status in RETRIED:
            return self._busy_error(refusal, said)
        if 300 <= status < 400:
            return ServerError(
                f"{self.url} redirects ({status}) to {refusal.location}, and redraft does not follow.",
                hint="Name the address that it moved to in --model.",
                status=status,
            )
        if status in (404, 405, 501):
            return ServerError(
                f"{self.url}{path} does not exist ({status}): {said}",
                hint=_ADDRESS_HINT,
                status=status,
            )
        return ServerError(f"{self.host} refuses the request ({status}): {said}", status=status)

    def _key_error(self, status: int, said: str) -> ServerError:
        verb = f"refuses the key from {self._key.source}" if self._key else "asks for a key"
        variable = key_variable(self.host)
        return ServerError(
            f"{self.host} {verb} ({status}): {said}",
            hint=f'export {variable}=…, or under [keys] of {config_path()}: "{self.host}" = "env:NAME"',
            status=status,
        )

    def _busy_error(self, refusal: Refusal, said: str) -> ServerError:
        verb = "limits requests" if refusal.status == HTTPStatus.TOO_MANY_REQUESTS else "fails"
        tries = f", {refusal.tries} times" if refusal.tries > 1 else ""
        after = refusal.retry_after
        asks = f"{'' if said.endswith(_ENDS) else '.'} It asks to wait {after:g} s." if after else ""
        hint = _LIMIT_HINT if verb == "limits requests" else _LOG_HINT
        return ServerError(
            f"{self.host} {verb} ({refusal.status}{tries}): {said}{asks}", hint=hint, status=refusal.status
        )

    async def _settled(
        self, method: str, address: str, body: Body | None, limit: float, *, patient: bool = True
    ) -> httpx.Response | Refusal:
        self._insist_on_loop()
        began = asyncio.get_running_loop().time()
        for attempt in count(1):
            await self.pace.turn()
            silence = 0.0
            try:
                reply = await self._once(method, address, body, limit)
            except TimeoutError:
                silence = limit
                reply = EngineTimeout(f"{self.host} sent nothing within {limit:g} s.", hint=_LOG_HINT)
            if isinstance(reply, httpx.Response):
                return reply
            failure = self._failure(reply, attempt, began, silence)
            if failure is None or not patient or not await self.pace.waited(failure):
                if isinstance(reply, EngineError):
                    raise reply
                return replace(reply, tries=attempt)
        raise AssertionError("the tries came to an end")

    def _insist_on_loop(self) -> None:
        """Connections live in the event loop that opened them."""
        self._loop = self._loop or asyncio.get_running_loop()
        if self._loop is not asyncio.get_running_loop():
            raise EngineError(
                f"the engine of {self.url} was used in another event loop before.",
                hint="Open and use an engine in one event loop: one asyncio.run(…) around all of it.",
            )

    async def _once(
        self, method: str, address: str, body: Body | None, limit: float
    ) -> httpx.Response | Refusal | EngineError:
        """One try: a response to read, a refusal, or the error of a server that could not be reached."""
        request = self._client.build_request(method, address, json=body)
        asked_at = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(limit):
                response = await self._client.send(request, stream=True)
                self._reached = True
                response.extensions["asked_at"] = asked_at
                return response if response.is_success else await self._refusal(response)
        except httpx.ConnectTimeout:
            seconds = self.patience.connect
            return EngineTimeout(f"{self.url} took no connection within {seconds:g} s.", hint=_DOWN_HINT)
        except httpx.RequestError as error:
            reason = self.clean(str(error)) or type(error).__name__
            return ServerError(f"no server answers at {self.url}: {reason}", hint=_DOWN_HINT)

    def _failure(
        self, reply: Refusal | EngineError, attempt: int, began: float, silence: float
    ) -> Failure | None:
        """What may pass, or None. A server that never answered is not there: its address may be wrong."""
        if isinstance(reply, EngineError):
            return Failure(None, None, attempt, began, silence) if self._reached else None
        of_request = reply.status == HTTPStatus.INTERNAL_SERVER_ERROR and reply.complaint.about_request
        if reply.status not in RETRIED or of_request:
            return None
        return Failure(reply.status, reply.retry_after, attempt, began)

    async def _refusal(self, response: httpx.Response) -> Refusal:
        try:
            text = self._redacted((await self._read(response)).decode(errors="replace"))
        except ServerError:
            text = ""
        finally:
            await response.aclose()
        complaint = read_complaint(_from_json(text))
        return Refusal(
            status=response.status_code,
            complaint=complaint or Complaint(text.strip() or response.reason_phrase),
            retry_after=_seconds(response.headers.get("retry-after")),
            location=self.clean(response.headers.get("location", "")),
        )

    async def _pieces(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        try:
            async for piece in response.aiter_bytes():
                yield piece
        except httpx.RequestError:
            return

    async def _read(self, response: httpx.Response) -> bytes:
        try:
            return await response.aread()
        except httpx.RequestError as error:
            said = f"{self.host} broke its reply off: {self.clean(str(error))}"
            raise ServerError(said, passing=True) from None

    def _decoded(self, data: str | bytes) -> Any:
        record = _from_json(data)
        if record is _BAD:
            raise self._not_json(data if isinstance(data, str) else data.decode(errors="replace"))
        return record

    def _not_json(self, text: str) -> ServerError:
        shown = self.clean(text)[:80]
        return ServerError(
            f"{self.host} answered with something that is not JSON: {shown!r}", hint=_ADDRESS_HINT
        )


_ENDS = (".", "!", "?", "…")
_LOG_HINT = "See the log of the server."
_LIMIT_HINT = "Wait for longer with --patience SECONDS, or ask for less: --rpm N, or --parallel 1."


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not url.isprintable() or " " in url:
        raise UsageError(f"{url!r} is not the address of a server.", hint="http://host:port/v1#model")
    if parts.username or parts.password:
        raise UsageError(
            f"the address of {parts.hostname} holds a name or password, which logs would show.",
            hint=f"Leave it out, and: export {key_variable(parts.hostname or '')}=…",
        )


def _check_key(url: str, key: Key) -> None:
    if not key.value.isascii() or not key.value.isprintable() or " " in key.value:
        raise UsageError(f"the key from {key.source} has a space, line break or letter that no key has.")
    host = urlsplit(url).netloc
    if urlsplit(url).scheme == "http" and not _is_local(url) and not key.plain_http:
        raise UsageError(
            f"the key from {key.source} would go to {host} unencrypted, for the network to read.",
            hint=f"Use https://, or allow it under [keys] of {config_path()}: "
            f'"{host}" = {{ key = "env:NAME", plain_http = true }}',
        )


def _is_local(url: str) -> bool:
    """Whether an address is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


_BAD = object()


def _from_json(data: str | bytes) -> Any:
    """The value of a JSON text, or `_BAD`."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return _BAD


def _seconds(header: str | None) -> float | None:
    """`Retry-After` in seconds: a number, or a date. None where it is missing or unreadable."""
    if header is None:
        return None
    try:
        if re.fullmatch(r"\d+(\.\d+)?", header.strip()):
            return float(header)
        return max((parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None
