"""Read a request's body as a JSON object, with limits on size, number of values, and memory for all bodies.

Parsed JSON can take 25 times the memory of its text, and each value costs time in every function that handles
the body. So values are counted before parsing, and large bodies are parsed one after another.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from redraft.checks.json_reading import finite, once
from redraft.errors import IN_JSON, fault_of, shown
from redraft.jobs.signals import in_daemon_thread
from redraft.serve.errors import Refusal, invalid
from redraft.serve.gate import WAIT

T = TypeVar("T")

LIGHT = 1 << 14  # most bytes of a body that is parsed without a thread, because starting a thread costs time
LARGE = 1 << 20  # bytes from which a body is large: only one large body is parsed at a time
THREADS = 4  # threads for smaller bodies, checks and schemas. More would delay the event loop.
PARTS = 1 << 16  # most lists, objects and names in a body: enough for 21,000 messages, or 8,000 tools
VALUES = 1 << 21  # most values, such as token ids: serialising more would block the event loop


@dataclass(frozen=True)
class ServerLimits:
    """The limits of a server. A request that exceeds a limit is refused."""

    seconds: float = 600.0
    body: int = 8 << 20  # bytes of a request's body
    held: int = 64 << 20  # bytes of the bodies of all requests that are not answered yet
    body_seconds: float = 30.0  # time limit, in seconds, for the body to arrive
    strict_tools: bool = False  # whether a tool call that stays wrong is always an error
    reading: float = 5.0  # time limit, in seconds, for reading a request's checks and schema


class Reader:
    """Reads the bodies of a server's requests."""

    def __init__(self, limits: ServerLimits) -> None:
        self.limits, self._held = limits, 0
        self._large, self._threads = asyncio.Lock(), asyncio.Semaphore(THREADS)

    async def bytes_of(self, request: Request, most: int | None = None) -> bytes:
        """Return the body of a request. The bytes count toward `limits.held` until `release`."""
        parts, size, limits, seen = [], 0, self.limits, request.scope["state"]
        most = limits.body if most is None else most
        try:
            async with asyncio.timeout(limits.body_seconds):
                async for part in request.stream():
                    parts.append(part)
                    size += len(part)
                    self._held += len(part)
                    seen["held"] = size
                    if size > most:
                        message = f"the body is larger than {most:,} bytes."
                        raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large", message)
                    if self._held > limits.held:
                        message = f"too many large requests are being answered. Try again in {WAIT} s."
                        raise Refusal(HTTPStatus.TOO_MANY_REQUESTS, "queue_full", message, wait=WAIT)
        except TimeoutError:
            message = f"the body did not arrive within {limits.body_seconds:g} seconds."
            raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "body_too_slow", message) from None
        except ClientDisconnect:
            raise invalid("the body is incomplete.", code="invalid_json") from None
        return b"".join(parts)

    def release(self, seen: dict[str, Any]) -> None:
        """Stop counting the bytes of a finished request. `seen` is the ASGI state of the request."""
        self._held -= seen.pop("held", 0)

    async def read(self, request: Request, check: Callable[[dict[str, Any]], T]) -> T:
        """Parse a request's body, and return the result of `check`."""
        raw = await self.bytes_of(request)
        IN_JSON.set(True)  # for all messages about this request

        def work() -> T:
            return check(object_of(raw))

        return work() if len(raw) <= LIGHT else await self.in_thread(work, len(raw))

    async def in_thread(self, work: Callable[[], T], size: int = 0) -> T:
        """Wait for a free thread, and call `work` there. `size` is the size of the body in bytes."""
        async with self._large if size > LARGE else self._threads:
            return await in_daemon_thread(work)


_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")  # alone, or half of a valid pair


def object_of(body: bytes) -> dict[str, Any]:
    """Parse a JSON object, and drop null fields. Refuse repeated names."""
    for signs, most, what in ((b"[{:", PARTS, "lists, objects and names"), (b",", VALUES, "values")):
        if (parts := counted(body, signs, most)) > most:
            message = f"the body contains {parts:,} {what}, but this server allows {most:,} at most."
            raise invalid(message, code="too_many_parts")
    try:
        text = body.decode("utf-8")
        value = json.loads(text, parse_constant=finite, parse_float=finite, object_pairs_hook=once)
        if _SURROGATE.search(body):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise invalid(f"the body is not UTF-8 at byte {error.start + 1}.", code="invalid_json") from None
    except UnicodeEncodeError:
        raise invalid("the body has a lone surrogate (half a character).", code="invalid_json") from None
    except (ValueError, RecursionError) as error:
        fault = f"is not JSON: {fault_of(error)}" if body.strip() else "is empty"
        raise invalid(f"the body {fault}.", code="invalid_json") from None
    if not isinstance(value, dict):
        raise invalid(f"the body is {shown(value)}, but should be a JSON object.", code="invalid_json")
    return {name: part for name, part in value.items() if part is not None}


def counted(body: bytes, signs: bytes, most: int) -> int:
    """Count the bytes `signs` in JSON. If there are more than `most`, leave out those inside strings."""
    if (found := sum(map(body.count, signs))) <= most:
        return found
    # With only unescaped quotes and signs left, every other piece between quotes is a string.
    # All steps run in C: 8 MiB take up to 0.1 s.
    others = bytes(set(range(256)) - {*signs, *b'"'})
    bare = body.replace(rb"\\", b"").replace(rb"\"", b"").translate(None, others).replace(b'""', b"")
    return sum(map(len, bare.split(b'"')[::2]))
