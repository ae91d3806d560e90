"""Count requests, tokens, and chains by stop reason, for Prometheus at `/metrics`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from redraft.chain import Usage
from redraft.serve.keys import ANYONE
from redraft.serve.models import Models

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BOUNDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)
"""The bucket bounds of the histogram in seconds, from a short answer to the longest chain."""


class Metrics(Collector):
    """The metrics of one server."""

    def __init__(self, inside: Callable[[], int], models: Models) -> None:
        self._models, self._registry = models, CollectorRegistry()
        self._registry.register(self)
        counter = partial(Counter, namespace="redraft", registry=self._registry)
        gauge = partial(Gauge, namespace="redraft", registry=self._registry)
        histogram = partial(Histogram, namespace="redraft", registry=self._registry)
        self._requests = counter("requests", "HTTP requests, without probes", ["status", "key"])
        self._tokens = counter("tokens", "Tokens of all attempts", ["model", "kind", "key"])
        self._chains = counter("chains", "Chains, by the reason why they ended", ["model", "stop"])
        self._revisions = counter("revisions", "Revisions: answers after the first", ["model"])
        self._covered = gauge("promise_answers", "Answers counted for the promised pass rate", ["model"])
        self._broken = gauge("promise_broken", "1 if fewer answers pass than the recipe promised", ["model"])
        about = "Duration of requests to models, from the first byte to the last"
        self._seconds = histogram("request_seconds", about, ["model"], buckets=_BOUNDS)
        gauge("requests_inside", "Requests being answered or waiting").set_function(inside)

    def note(self, seen: Mapping[str, Any], seconds: float) -> None:
        """Count a request with its usage and duration. `seen` is the ASGI state of the request."""
        key = seen.get("key", ANYONE).name
        self._requests.labels(str(seen["status"]), key).inc()
        if (model := seen.get("model")) is None:
            return
        usage: Usage = seen.get("usage", Usage())
        self._seconds.labels(model).observe(seconds)
        for chain in seen.get("chains", ()):
            self._chains.labels(model, str(chain.stop)).inc()
            self._revisions.labels(model).inc(chain.revisions)
        self._tokens.labels(model, "prompt", key).inc(usage.prompt_tokens)
        self._tokens.labels(model, "completion", key).inc(usage.completion_tokens)

    def collect(self) -> Iterator[Metric]:
        """Yield the health of the engines."""
        restarts = CounterMetricFamily(
            "redraft_engine_restarts", "Restarts of model processes", labels=["engine"]
        )
        trouble = GaugeMetricFamily(
            "redraft_engine_trouble", "1 while a process restarts or a server fails", labels=["engine"]
        )
        for name, health in self._models.watched().items():
            restarts.add_metric([name], health.restarts)
            trouble.add_metric([name], bool(health.trouble))
        yield from (restarts, trouble)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        for model, watch in self._models.promises().items():
            self._covered.labels(model).set(watch.count)
            self._broken.labels(model).set(watch.broken)
        return generate_latest(self._registry)
