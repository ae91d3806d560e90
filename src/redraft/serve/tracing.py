"""Traces of a server: where they go, and the span of a client that is above a chain's."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers
from starlette.types import Scope

from redraft.errors import MissingExtra

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


def otlp_provider() -> TracerProvider:
    """Return a provider that sends spans by OTLP over HTTP, where the variables `OTEL_…` say.

    The caller shuts it down, which sends what is left.

    Raises:
        MissingExtra: OpenTelemetry is not installed.
    """
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
def parent_of(options: Mapping[str, Any], scope: Scope) -> Iterator[None]:
    """Make the span that a request names (`traceparent`) the parent of what its chains report."""
    if not options.get("trace"):
        yield
        return
    from opentelemetry import context, propagate

    token = context.attach(propagate.extract(dict(Headers(scope=scope))))
    try:
        yield
    finally:
        context.detach(token)
