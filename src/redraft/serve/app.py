"""The routes of the server.

Every error has OpenAI's shape, those of unknown paths and methods too. The documentation pages of FastAPI are
off, because they load scripts from elsewhere; `/openapi.json` is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar, cast

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from redraft import __version__
from redraft.engines.threads import in_daemon_thread
from redraft.serve.completions import CompletionReply, completion_request, continuations
from redraft.serve.errors import Refusal, invalid, refusal_of
from redraft.serve.exchange import Exchange, chains
from redraft.serve.gate import Gate, unavailable
from redraft.serve.guard import Guard
from redraft.serve.keys import Keys
from redraft.serve.limits import Limits
from redraft.serve.metrics import CONTENT_TYPE, Metrics
from redraft.serve.models import Models
from redraft.serve.openapi import CHAT, COMPLETIONS, ERROR, RESPONSES
from redraft.serve.page.compare import Store
from redraft.serve.page.login import Logins
from redraft.serve.page.mount import Page
from redraft.serve.page.work import Service
from redraft.serve.replies import Reply
from redraft.serve.requests import chat_request, object_of
from redraft.serve.responses import ResponseReply, responses_request
from redraft.verify.pattern import within

T = TypeVar("T")


def make_app(
    models: Models, gate: Gate, limits: Limits, keys: Keys | None = None, store: Store | None = None
) -> ASGIApp:
    """Return the application.

    Args:
        models: They may be loaded later.
        gate: Lets requests in.
        limits: What a request may ask for.
        keys: Those that clients may use; None for a server of this machine alone.
        store: Stores the votes of the web page; None for the API without a page.
    """
    metrics = Metrics(lambda: gate.inside)
    app = FastAPI(
        title="redraft", version=__version__, docs_url=None, redoc_url=None, responses={"default": ERROR}
    )
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(Refusal, _refused)
    app.include_router(_asking(models, gate, limits))
    app.include_router(_watching(models, gate, metrics))
    page = None
    if store is not None:
        page = Page(Service(models, gate, limits, metrics), None if keys is None else Logins(keys), store)
    return Guard(app, keys, metrics, page)


def _asking(models: Models, gate: Gate, limits: Limits) -> APIRouter:
    """Return the routes that ask models."""
    router = APIRouter(prefix="/v1")

    async def asked(request: Request, read: Callable[..., T]) -> T:
        body = object_of(await _body(request, limits))

        def work() -> T:
            with within(limits.reading):
                return read(body, models, limits)

        try:
            return await in_daemon_thread(work)
        except Exception as error:
            raise refusal_of(error) from error

    @router.post("/chat/completions", openapi_extra=CHAT)
    async def chat(request: Request) -> Response:
        """Answer a conversation, and revise the answer as the model or the request says."""
        return Exchange(Reply(await asked(request, chat_request)), gate, chains)

    @router.post("/completions", openapi_extra=COMPLETIONS)
    async def complete(request: Request) -> Response:
        """Continue a text, without revising it."""
        return Exchange(CompletionReply(await asked(request, completion_request)), gate, continuations)

    @router.post("/responses", openapi_extra=RESPONSES)
    async def respond(request: Request) -> Response:
        """Do the same in OpenAI's newer form."""
        return Exchange(ResponseReply(await asked(request, responses_request)), gate, chains)

    return router


def _watching(models: Models, gate: Gate, metrics: Metrics) -> APIRouter:
    """Return the routes that say what there is, and how it goes."""
    router = APIRouter()

    @router.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        """List the models."""
        return {"object": "list", "data": [model.record for model in models.all()]}

    @router.get("/v1/models/{name:path}")
    async def one_model(name: str) -> dict[str, Any]:
        """Describe a model."""
        return models.named(name).record

    @router.get("/health")
    async def health() -> dict[str, str]:
        """Say that the server runs."""
        return {"status": "ok"}

    @router.get("/ready")
    async def ready() -> dict[str, str]:
        """Say whether requests are answered: the models are loaded, and the server does not end."""
        models.all()
        if gate.draining:
            raise unavailable("draining", "the server is about to end.")
        return {"status": "ready"}

    @router.get("/metrics", response_class=PlainTextResponse)
    async def show_metrics() -> Response:
        """Return the figures of the server for Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return router


async def _body(request: Request, limits: Limits) -> bytes:
    """Return the body of a request.

    Raises:
        Refusal: It is too large or too slow, or not JSON by its `Content-Type`.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        message = f"the body is {kind or 'of no type'!a:.80}, and should be application/json."
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    parts, size = [], 0
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for part in request.stream():
                parts.append(part)
                size += len(part)
                if size > limits.body:
                    raise Refusal(
                        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                        "body_too_large",
                        f"the body has more than {limits.body:,} bytes.",
                    )
    except TimeoutError:
        message = f"the body did not come within {limits.body_seconds:g} seconds."
        raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "body_too_slow", message) from None
    except ClientDisconnect:
        raise invalid("the body broke off.", code="invalid_json") from None
    return b"".join(parts)


async def _refused(_request: Request, error: Exception) -> Response:
    refusal = cast("Refusal", error)
    return JSONResponse(refusal.body, refusal.status, refusal.headers)


async def _no_route(request: Request, error: Exception) -> Response:
    """Answer a request for an unknown path, or with a method that the path does not have."""
    found = cast("HTTPException", error)
    status = HTTPStatus(found.status_code)
    message = f"{request.method} {request.url.path} is not served here: {status.phrase}."
    refusal = Refusal(status, "not_found" if status == 404 else "method_not_allowed", f"{message:.300}")
    return JSONResponse(refusal.body, status, {**(found.headers or {}), "Connection": "close"})
