"""Ask a server that may be down for a while: post JSON, and wait for it to come back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from functools import cache
from itertools import chain, repeat
from ssl import SSLContext
from typing import Any

import httpx

from redraft.errors import ServerError, UsageError

_log = logging.getLogger(__name__)

SECONDS = 60.0
"""The time limit of one request to a server."""

PATIENCE = 600.0
"""How long a server may be down before the run stops."""

_WAITS = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between tries; the last one repeats."""

_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of a server that may do better later."""


def check_address(url: str, *, hint: str) -> None:
    """Raise `UsageError` unless a text is the address of a server, without a password."""
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        parts = httpx.URL()
    if not (parts.scheme in ("http", "https") and parts.host):
        raise UsageError(f"{url} is not the address of a server.", hint=hint)
    if parts.userinfo:
        said = f"the address of {parts.host} holds a name or password, which would show in logs."
        raise UsageError(said, hint=hint)


async def posted(
    url: str, body: Mapping[str, Any], *, wanted: str, seconds: float = SECONDS
) -> httpx.Response:
    """Post JSON, again and again while the server is down, and return its reply with any other status.

    Args:
        url: Where to.
        body: What is asked.
        wanted: What is hoped for, for messages.
        seconds: The time limit of one request.

    Raises:
        ServerError: It is down for `PATIENCE` seconds.
    """
    until, waits = time.monotonic() + PATIENCE, chain(_WAITS, repeat(_WAITS[-1]))
    async with httpx.AsyncClient(timeout=seconds, verify=_certificates()) as client:
        while True:
            try:
                response = await client.post(url, json=body)
                if response.status_code not in _AGAIN:
                    return response
                fault = f"it replied with status {response.status_code}, {response.text!r:.200}"
            except httpx.RequestError as error:
                fault = str(error) or type(error).__name__
            if time.monotonic() + (wait := next(waits)) > until:
                raise ServerError(
                    f"no {wanted} from {url} for {PATIENCE:g} s: {fault}.",
                    hint="Start the server, and type the same command again: it resumes.",
                )
            _log.warning("no %s from %s: %s. Trying again in %g s.", wanted, url, fault, wait)
            await asyncio.sleep(wait)


@cache
def _certificates() -> SSLContext:
    """Return what connections are checked with. They take longer to read than a small request."""
    return httpx.create_ssl_context()


def content(response: httpx.Response, *, hint: str | None = None) -> Any:
    """Return the JSON of a reply. `hint` says what to do about another status.

    Raises:
        ServerError: It has another status than 200, or no JSON.
    """
    url, status = response.url, response.status_code
    if status != httpx.codes.OK:
        raise ServerError(
            f"{url} replied with status {status}: {response.text:.200}", status=status, hint=hint
        )
    try:
        return response.json()
    except ValueError:
        raise ServerError(f"{url} replied with what is not JSON: {response.text!r:.100}.") from None
