"""Log each request on one line, without its texts, and send traces."""

from __future__ import annotations

import json
import logging
import os
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from textwrap import indent
from typing import TYPE_CHECKING, Any, Self

from starlette.datastructures import Headers
from starlette.types import Scope

from redraft.errors import MissingExtra, RedraftError, one_line
from redraft.jobs.counting import printable

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

REQUEST: ContextVar[str] = ContextVar("request")
"""The id of the current request. Every log line about the request contains the id."""

_CLIENTS = ("method", "path", "model")  # fields with a client's text, which is quoted and cut


class Entry(dict[str, Any]):
    """The log entry of a finished request, by field. Unknown values are None."""

    @classmethod
    def of(cls, scope: Mapping[str, Any], seconds: float) -> Self:
        """Return the entry of a request, from the ASGI state of the request."""
        seen = scope["state"]
        chains, key, usage = seen.get("chains") or (), seen.get("key"), seen.get("usage")
        filtered = "filtered" in (each.steps[each.best].finish for each in chains if each.best is not None)
        return cls(
            id=seen["id"],
            key=(key and key.name) or None,
            method=f"{scope['method']:.20}",
            path=f"{scope['path']:.80}",
            status=seen["status"],
            model=seen.get("model", seen.get("asked")),
            stop=chains[-1].stop if chains else None,
            finish="content_filter" if filtered else None,  # also of a withheld answer
            revisions=sum(chain.revisions for chain in chains) if chains else None,
            prompt_tokens=usage and usage.prompt_tokens,  # of all attempts of its chains
            completion_tokens=usage and usage.completion_tokens,
            error=seen.get("error"),
            param=seen.get("param"),
            client=(scope.get("client") or [None])[0] if seen["status"] == 401 else None,
            seconds=round(seconds, 3),
        )

    def __str__(self) -> str:
        told = {n: f"{v!a:.82}" if n in _CLIENTS else v for n, v in self.items() if v is not None}
        return " ".join(f"{name}={value}" for name, value in told.items())


class LineFormatter(logging.Formatter):
    """Formats a log record as a line for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        """Return one line, with the request's id."""
        line, request = super().formatMessage(record), REQUEST.get("")
        line = printable(line.rstrip()).replace("\n", r"\n")  # otherwise a text could forge a log line
        return f"{line} id={request}" if request and not isinstance(record.msg, Entry) else line

    def formatException(self, ei: Any) -> str:  # noqa: N802  (logging's name)
        """Return the traceback, indented, so that no line looks like a log entry."""
        return indent(printable(super().formatException(ei)), "  ")


class JsonFormatter(logging.Formatter):
    """Formats a log record as one JSON object on a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as JSON: the `Entry` of a request, or a message with the id of the request."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        found: dict[str, Any] = {"time": when, "level": record.levelname.lower()}
        if isinstance(record.msg, Entry):
            found |= {name: value for name, value in record.msg.items() if value is not None}
        else:
            found |= {"message": record.getMessage()}
            found |= {"id": request} if (request := REQUEST.get("")) else {}
            if record.exc_info:
                found["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(found, ensure_ascii=False)


def otlp_provider() -> TracerProvider:
    """Return a provider that sends spans by OTLP over HTTP, as the `OTEL_…` variables configure."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise MissingExtra("--otel", "otel") from None
    os.environ.setdefault("OTEL_SERVICE_NAME", "redraft")
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


@contextmanager
def parent_of(provider: Any, scope: Scope) -> Iterator[None]:
    """Make the span in a request's `traceparent` header the parent of new spans in a `with` block."""
    if not provider:
        yield
        return
    from opentelemetry import context, propagate

    token = context.attach(propagate.extract(dict(Headers(scope=scope))))
    try:
        yield
    finally:
        context.detach(token)


@contextmanager
def server_log(*, as_json: bool) -> Iterator[None]:
    """Write the server's log to standard error: a line for each request, errors, and libraries' warnings.

    With `as_json`, a `RedraftError` is logged, too, and ends the program.
    """
    log, root = logging.getLogger("redraft.serve"), logging.getLogger()
    own, others = logging.StreamHandler(), logging.StreamHandler()
    others.setLevel(logging.WARNING)
    for logger, handler in ((log, own), (root, others)):
        handler.setFormatter(JsonFormatter() if as_json else LineFormatter())
        logger.addHandler(handler)
    before = log.level, log.propagate
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    except RedraftError as error:
        if not as_json:
            raise
        log.log(logging.ERROR, one_line(error.message, error.hint))
        raise SystemExit(error.exit_status) from error
    finally:
        log.level, log.propagate = before
        log.removeHandler(own)
        root.removeHandler(others)
