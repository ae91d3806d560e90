"""`redraft serve --otel`: spans reach a collector by OTLP, below the span of the client."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.serve.running import LONG, SHORT, started

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = {"traceparent": f"00-{TRACE}-{SPAN}-01"}


class Collector:
    """Collects OTLP spans over HTTP, and the names of services that sent spans."""

    def __init__(self) -> None:
        self.services: set[str] = set()
        self.spans: list[Any] = []
        self.root = ""

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {each.key: each.value.string_value for each in resource.resource.attributes}
            self.services.add(named["service.name"])
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]

    def of(self, name: str) -> dict[str, Any]:
        (span,) = [span for span in self.spans if span.name == name]
        return {each.key: each.value for each in span.attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            collector.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.root = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def serve(tmp_path: Path) -> tuple[str, ...]:
    path = tmp_path / "rain.jsonl"
    path.write_text(f"{json.dumps(LONG)}\n{json.dumps(SHORT)}\n")
    return "--otel", "--no-page", "--check", "words<=5", "--model", f"script:{path}"


@pytest.mark.slow
def test_served_chains_reach_a_collector(serve: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"model": "rain-revise", "messages": [{"role": "user", "content": "Describe rain."}]}
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.root)
        with started(*serve) as (root, _):
            httpx.post(f"{root}/v1/chat/completions", json=body, headers={**PARENT, "x-request-id": "mine"})
            httpx.post(f"{root}/v1/completions", json={"model": "rain", "prompt": "Rain"}, headers=PARENT)
    assert collector.services == {"redraft"}
    names = sorted(span.name for span in collector.spans)
    assert names == ["chat rain", "chat rain", "invoke_workflow redraft", "text_completion rain"]
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    above = {span.name: span.parent_span_id.hex() for span in collector.spans}
    assert above["invoke_workflow redraft"] == above["text_completion rain"] == SPAN
    chain = collector.of("invoke_workflow redraft")
    assert chain["redraft.stop"].string_value == "passed"
    assert chain["redraft.chain.id"].string_value == "mine"
    verdicts = [each.string_value for each in chain["redraft.verdicts"].array_value.values]
    assert verdicts == ["revise", "accept"]
    assert "Rain" not in str(collector.spans)


@pytest.mark.slow
def test_an_absent_collector_stops_nothing(serve: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    body = {"model": "rain", "messages": [{"role": "user", "content": "Hi."}]}
    with started(*serve, "--log-json") as (root, process):
        reply = httpx.post(f"{root}/v1/chat/completions", json=body)
        process.terminate()
        assert process.stderr
        lines = [json.loads(line) for line in process.stderr]  # warnings of the exporter too
    assert reply.json()["choices"][0]["message"]["content"] == LONG
    assert {line["level"] for line in lines} > {"info"}
