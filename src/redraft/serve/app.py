"""Define the routes of the server.

Every error has OpenAI's JSON format, even for an unknown path or method. FastAPI's documentation pages are
off, because they load scripts from other sites. `/openapi.json` is served.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, cast, get_type_hints

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from redraft import __version__
from redraft.checks.kinds import check_kinds
from redraft.checks.pattern import within
from redraft.serve.completions import CompletionReply, CompletionRequest, continued
from redraft.serve.embeddings import EmbeddingRequest, embedded
from redraft.serve.errors import Refusal, refusal_of, reply_of
from redraft.serve.exchange import Exchange, chains
from redraft.serve.gate import Gate, ending, unavailable
from redraft.serve.guard import Guard
from redraft.serve.keys import Keys
from redraft.serve.metrics import CONTENT_TYPE, Metrics
from redraft.serve.models import Models, watched_in
from redraft.serve.page.mount import Logins, Page, Store
from redraft.serve.reader import LIGHT, Reader, ServerLimits
from redraft.serve.replies import ChatReply
from redraft.serve.requests import Accepted, ChatRequest, ModelRequest, read_checks
from redraft.serve.responses import ResponseReply, ResponseRequest

HEAVY = {"revision", "response_format", "text", "tools"}  # contain checks or schemas: slow to read

_TEXT, _NONE = {"type": "string"}, {"type": ["string", "null"]}
_ERROR = {
    "type": "object",
    "required": ["message", "type", "param", "code"],
    "properties": {"message": _TEXT, "type": _TEXT, "param": _NONE, "code": _TEXT},
}
_SCHEMA = {"type": "object", "required": ["error"], "properties": {"error": _ERROR}}
ERROR: dict[str, Any] = {"description": "An error.", "content": {"application/json": {"schema": _SCHEMA}}}
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The reply; a stream of events if `stream` is true.",
        "content": {"application/json": {}, "text/event-stream": {}},
    }
}


def make_app(
    models: Models, gate: Gate, limits: ServerLimits, keys: Keys | None = None, store: Store | None = None
) -> ASGIApp:
    """Return the server's ASGI application."""
    check_kinds("anyone")  # import plugins now, so that no request waits for the imports
    metrics = Metrics(lambda: gate.inside, models)
    app = FastAPI(
        title="redraft", version=__version__, docs_url=None, redoc_url=None, responses={"default": ERROR}
    )
    reader, app.state.models = Reader(limits), models
    app.state.reader = reader
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(Refusal, _refused)
    app.include_router(_asking(models, gate, reader))
    app.include_router(_checking(reader))
    app.include_router(_watching(models, gate, metrics))
    logins = None if keys is None else Logins(keys)
    return Guard(app, keys, metrics, reader, None if store is None else Page(reader, logins, gate, store))


class _Route(APIRoute):
    """Parses bodies with `Reader`, because FastAPI accepts NaN, repeated names and bodies of any size."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint, kind = self.endpoint, get_type_hints(self.endpoint)["body"]

        async def handle(request: Request) -> Response:
            sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if sent != "application/json":
                told = f"{sent!a:.80}" if sent else "missing"
                message = f"the Content-Type is {told}, but should be application/json."
                raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
            reader: Reader = request.app.state.reader
            models: Models = request.app.state.models.within(request.state.key.allows)

            def checked(found: dict[str, Any]) -> Any:
                if isinstance(name := found.get("model"), str):
                    request.state.asked = name[:80]
                with within(reader.limits.reading):
                    return kind.read(found, models) if issubclass(kind, ModelRequest) else kind.of(found)

            try:
                body = await reader.read(request, checked)
            except Exception as error:
                raise refusal_of(error) from error
            answered: Response = await endpoint(request, body)
            return answered

        return handle


def _asking(models: Models, gate: Gate, reader: Reader) -> APIRouter:
    router = APIRouter(prefix="/v1", route_class=_Route)

    async def accepted(request: Request, body: ModelRequest) -> Accepted:
        def work() -> Accepted:
            with within(reader.limits.reading):
                return body.accept(models.within(request.state.key.allows), reader.limits)

        try:
            size: int = request.state.held
            light = size <= LIGHT and not body.model_fields_set & HEAVY
            return work() if light else await reader.in_thread(work, size)
        except Exception as error:
            raise refusal_of(error) from error

    @router.post("/chat/completions", responses=STREAMED)
    async def chat(request: Request, body: ChatRequest) -> Response:
        """Answer a conversation. The model's settings and the request decide how the answer is revised."""
        return Exchange(ChatReply(await accepted(request, body)), gate, chains)

    @router.post("/completions", responses=STREAMED)
    async def complete(request: Request, body: CompletionRequest) -> Response:
        """Continue a text, without revisions."""
        return Exchange(CompletionReply(await accepted(request, body)), gate, continued)

    @router.post("/embeddings")
    async def embed(request: Request, body: EmbeddingRequest) -> Response:
        """Return embedding vectors of texts, exactly as the model's server computed them."""
        model = models.within(request.state.key.allows).named(body.model)
        return await embedded(body, model, gate, request.scope["state"])

    @router.post("/responses", responses=STREAMED)
    async def respond(request: Request, body: ResponseRequest) -> Response:
        """Answer a conversation in the format of OpenAI's Responses API."""
        return Exchange(ResponseReply(await accepted(request, body)), gate, chains)

    return router


def _watching(models: Models, gate: Gate, metrics: Metrics) -> APIRouter:
    router = APIRouter()

    @router.get("/v1/models")
    async def list_models(request: Request) -> dict[str, Any]:
        """List the models that the request's key may use."""
        found = models.within(request.state.key.allows).all()
        return {"object": "list", "data": [model.record for model in found]}

    @router.get("/v1/models/{name:path}")
    async def one_model(request: Request, name: str) -> dict[str, Any]:
        """Describe a model."""
        return models.within(request.state.key.allows).named(name).record

    @router.get("/health")
    async def health() -> dict[str, str]:
        """Report that the server is running."""
        return {"status": "ok"}

    @router.get("/ready")
    async def ready() -> dict[str, str]:
        """Report whether at least one model works and the server is not shutting down."""
        offered, engines = models.all(), models.watched().values()
        if gate.ending:
            raise ending()
        models.probe()
        if offered and all(any(e.health.down for e in watched_in(each.options)) for each in offered):
            raise unavailable("engine_down", "no model is working.")
        return {"status": "degraded" if models.down or any(each.trouble for each in engines) else "ready"}

    @router.get("/metrics", response_class=PlainTextResponse)
    async def show_metrics(request: Request) -> Response:
        """Return the server's metrics for Prometheus. The request's key must allow all models."""
        if request.state.key.models is not None:
            raise Refusal(HTTPStatus.FORBIDDEN, "forbidden", "metrics need a key that may use all models.")
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return router


def _checking(reader: Reader) -> APIRouter:
    router = APIRouter()

    @router.get("/v1/checks")
    async def list_checks(check: str | None = None) -> dict[str, Any]:
        """List the kinds of checks that a request may use, or report what is wrong with `check`."""
        if check is not None:
            error = None
            try:
                await reader.in_thread(lambda: within(reader.limits.reading)(read_checks)([check]))
            except Refusal as refusal:
                error = refusal.body["error"]
            return {"object": "check", "check": check, "error": error}
        kinds = check_kinds("anyone").items()
        data = [{"id": name, "form": kind.form, "about": kind.about} for name, kind in kinds]
        return {"object": "list", "data": data}

    return router


async def _refused(request: Request, error: Exception) -> Response:
    return reply_of(cast("Refusal", error), request.scope)


async def _no_route(request: Request, error: Exception) -> Response:
    found = cast("HTTPException", error)
    status = HTTPStatus(found.status_code)
    served = "/v1/chat/completions or /v1/responses" if request.method == "POST" else ""
    use = f" Use {allowed}." if (allowed := (found.headers or {}).get("Allow") or served) else ""
    message = f"{request.method} {request.url.path} is not served here.{use}"
    refusal = Refusal(status, "not_found" if status == 404 else "method_not_allowed", f"{message:.300}")
    reply = reply_of(refusal, request.scope)
    reply.headers.update({**(found.headers or {}), "Connection": "close"})
    return reply
