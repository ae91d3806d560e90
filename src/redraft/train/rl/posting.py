"""Ask a server of rewards or of rollouts, which may be down for a while, through the engines' client."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from contextlib import aclosing
from http import HTTPStatus
from itertools import count
from typing import Any, NamedTuple

import httpx

from redraft.engines.remote.server import Refusal, Server
from redraft.engines.retry import Patience, backoff
from redraft.errors import EngineTimeout, ServerError

_log = logging.getLogger(__name__)

REQUEST_SECONDS = 60.0  # the time limit of one request to a server
OUTAGE_SECONDS = 600.0  # how long a server may be down before the run stops
PAUSE = 2.0  # most seconds before the second try; later ones come after more

_AGAIN = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY})
"""Statuses that may pass here, beside those of every server."""


class Posted(NamedTuple):
    """What a server replied."""

    url: str
    status: int
    text: str


async def posted(url: str, body: Mapping[str, Any], *, wanted: str, seconds: float | None = None) -> Posted:
    """Post JSON, again and again while the server is down, and return its reply with any other status.

    Args:
        seconds: The time limit of one request; None for `REQUEST_SECONDS`.
    """
    limit, until = seconds or REQUEST_SECONDS, time.monotonic() + OUTAGE_SECONDS
    bare = url.rstrip("/")  # as the client has its base address
    async with aclosing(Server(bare, None, Patience(connect=limit, first_token=limit, tries=1))) as server:
        for attempt in count(1):
            try:
                async with server.asked(url[len(bare) :], dict(body)) as reply, asyncio.timeout(limit):
                    if not isinstance(reply, Refusal):
                        text = (await reply.aread()).decode(errors="replace")
                        return Posted(url, reply.status_code, text)
                    if not reply.may_pass and reply.status not in _AGAIN:
                        return Posted(url, reply.status, reply.complaint.message)
                    fault = f"it replied with status {reply.status}, {reply.complaint.message!r:.200}"
            except (EngineTimeout, ServerError, httpx.RequestError, TimeoutError) as error:
                fault = str(error) or type(error).__name__
            if time.monotonic() + (wait := backoff(attempt, PAUSE)) > until:
                break
            _log.warning("no %s from %s: %s. Trying again in %.1f s.", wanted, url, fault, wait)
            await asyncio.sleep(wait)
    raise ServerError(
        f"no {wanted} from {url} for {OUTAGE_SECONDS:g} s: {fault}.",
        hint="Start the server, and type the same command again: it resumes.",
    )


def content(response: Posted, *, hint: str | None = None) -> Any:
    """Return the JSON of a reply. `hint` says what to do about another status."""
    url, status, text = response
    if status != HTTPStatus.OK:
        raise ServerError(f"{url} replied with status {status}: {text:.200}", status=status, hint=hint)
    try:
        return json.loads(text)
    except ValueError:
        raise ServerError(f"{url} replied with what is not JSON: {text!r:.100}.") from None
