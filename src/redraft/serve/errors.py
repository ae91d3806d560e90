"""Send errors in OpenAI's JSON format, so that OpenAI's SDKs raise the matching exceptions.

    {"error": {"message": …, "type": …, "param": …, "code": …}}

Most hints of redraft's errors are for people at a shell. A client gets only hints about the request.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import Scope

from redraft import errors
from redraft.serve.log import REQUEST

_log = logging.getLogger(__name__)

_BEFORE_THE_BODY = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.TOO_MANY_REQUESTS,
)
"""Statuses of refusals that may come before the body has been read."""

_CLIENTS = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY)
"""Statuses with which a model's server rejects a wrong request. Repeating such a request does not help."""

_KINDS = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
    HTTPStatus.UNPROCESSABLE_ENTITY: "server_error",  # the answer is at fault, not the request
}
"""The `type` of an error, by HTTP status. litellm relies on these types."""


class Refusal(errors.RedraftError):
    """Raised to refuse a request. The reply contains the error."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,  # a word for programs: see docs/serve.md
        message: str,
        *,
        param: str | None = None,
        wait: int | None = None,  # seconds for `Retry-After`
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.wait = status, code, param, wait

    @property
    def body(self) -> dict[str, Any]:
        """The error as OpenAI's JSON object."""
        kind = _KINDS.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """The headers to send with the error."""
        headers = {} if self.wait is None else {"Retry-After": str(self.wait)}
        if self.status in _BEFORE_THE_BODY:
            headers["Connection"] = "close"  # otherwise, a client could go on sending
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        return headers


def invalid(message: str, param: str | None = None, *, code: str = "invalid_value") -> Refusal:
    """Return the refusal of a request whose field `param` is wrong."""
    return Refusal(HTTPStatus.BAD_REQUEST, code, message, param=param)


def told(error: errors.RedraftError) -> str:
    """Return an error's message and hint on one line."""
    return errors.one_line(error.message, error.hint)


def reply_of(refusal: Refusal, scope: Scope) -> JSONResponse:
    """Return the reply to a refused request. Add the error's code and field to the request's log entry."""
    param = None if refusal.code == "unknown_field" else refusal.param
    scope["state"].update(error=refusal.code, param=param)
    return JSONResponse(refusal.body, refusal.status, refusal.headers)


def refusal_of(error: Exception, asked_in: str | None = None) -> Refusal:
    """Convert an exception to a refusal, and log bugs. `asked_in` names the field with the prompt."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, errors.ContextError):
        what = asked_in or "messages"
        message = (  # OpenAI's words, by which clients recognise the error
            f"This model's maximum context length is {error.context} tokens. However, your {what} resulted "
            f"in {'about ' * error.about}{error.prompt_tokens} tokens. Please reduce the length of the "
            f"{what}."
        )
        return invalid(message, asked_in, code="context_length_exceeded")
    if isinstance(error, errors.RecordError):
        return invalid(error.message, asked_in)
    if isinstance(error, errors.UsageError):
        return invalid(error.message if asked_in else told(error))
    if isinstance(error, errors.CheckError):
        return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "check_failed", error.message)
    if isinstance(error, errors.EngineError):
        return _of_engine(error)
    if isinstance(error, RecursionError):
        return invalid("the request is nested too deeply.", code="invalid_json")
    _log.error("a request failed because of a bug in redraft", exc_info=error)
    said = f"the server failed; its log has details of the request {REQUEST.get('')}."
    return Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", said)


def _of_engine(error: errors.EngineError) -> Refusal:
    _log.warning("a model failed: %s", error.for_log)
    if isinstance(error, errors.EngineTimeout):
        return Refusal(HTTPStatus.GATEWAY_TIMEOUT, "engine_error", "the model did not answer in time.")
    said = error.message if isinstance(error, errors.EmptyReply) else "the model's server failed."
    status, reason = (error.status, error.reason) if isinstance(error, errors.ServerError) else (None, "")
    said = f"the model's server reports an error: {reason}" if reason else said
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Refusal(HTTPStatus.TOO_MANY_REQUESTS, "engine_busy", said, wait=5)
    if status in _CLIENTS:
        return invalid(said, code="engine_refused")
    return Refusal(HTTPStatus.BAD_GATEWAY, "engine_error", said)
