"""What a server takes from its clients at most. What is beyond a limit is refused, and never cut quietly."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus

from starlette.requests import ClientDisconnect, Request

from redraft.serve.errors import Refusal, invalid


@dataclass(frozen=True)
class Limits:
    """The limits of a server.

    Attributes:
        seconds: The longest that one chain may take.
        body: Bytes of a request's body.
        body_seconds: Seconds in which the body has to come.
        reading: Seconds in which the checks and the schema of a request have to be read.
        schema: Characters of a JSON schema.
        answers: Answers to one request (`n`).
        texts: Texts of one request for embeddings.
        stops: Stop strings.
        checks: Checks of one request.
        check: Characters of a check. To read one takes quadratic time.
        revisions: Revisions of a chain.
        tokens: New tokens of one answer or feedback.
    """

    seconds: float = 600.0
    body: int = 8 << 20
    body_seconds: float = 30.0
    reading: float = 5.0
    schema: int = 65_536
    answers: int = 8
    texts: int = 2048
    stops: int = 16
    checks: int = 32
    check: int = 4096
    revisions: int = 16
    tokens: int = 16_384


async def body_of(request: Request, limits: Limits) -> bytes:
    """Return the body of a request.

    Raises:
        Refusal: It is too large or too slow, or broke off.
    """
    parts, size = [], 0
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for part in request.stream():
                parts.append(part)
                size += len(part)
                if size > limits.body:
                    message = f"the body has more than {limits.body:,} bytes."
                    raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large", message)
    except TimeoutError:
        message = f"the body did not come within {limits.body_seconds:g} seconds."
        raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "body_too_slow", message) from None
    except ClientDisconnect:
        raise invalid("the body broke off.", code="invalid_json") from None
    return b"".join(parts)
