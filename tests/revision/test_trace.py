"""`trace`: what the SDK of OpenTelemetry is told of a chain, and what it is not told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import redraft
from redraft.engines.base import Delta
from redraft.engines.scripted import ScriptedEngine, ScriptedReply
from redraft.engines.wrapped import Ask, WrappedEngine
from redraft.errors import ServerError, UsageError

SECRETS = ("A question?", "two stones", "stone")


class Spans:
    def __init__(self) -> None:
        self._kept = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._kept))

    @property
    def chain(self) -> ReadableSpan:
        (found,) = [
            span for span in self._kept.get_finished_spans() if span.name.startswith("invoke_workflow")
        ]
        return found

    @property
    def calls(self) -> Sequence[ReadableSpan]:
        return [span for span in self._kept.get_finished_spans() if span.kind == SpanKind.CLIENT]

    @property
    def all(self) -> str:
        return "".join(span.to_json() for span in self._kept.get_finished_spans())


def of(span: ReadableSpan) -> Mapping[str, Any]:
    assert span.attributes is not None
    return span.attributes


def revised(spans: Spans, **more: Any) -> redraft.Chain:
    engine = ScriptedEngine(["two stones", "stone"], name="tiny")
    options: Any = {"model": engine, "checks": ["words<=1"], "trace": spans.provider, **more}
    return redraft.revise("A question?", **options)


def test_a_chain_is_a_span_and_each_call_one_below_it() -> None:
    spans = Spans()
    chain = revised(spans, id="q/1", seed=4)
    found = of(spans.chain)
    assert spans.chain.name == "invoke_workflow redraft"
    assert (found["gen_ai.operation.name"], found["gen_ai.request.model"]) == ("invoke_workflow", "tiny")
    assert (found["redraft.chain.id"], found["redraft.mode"]) == ("q/1", "verified")
    assert (found["redraft.stop"], found["redraft.passed"], found["redraft.best"]) == ("passed", True, 1)
    assert found["redraft.verdicts"] == ("revise", "accept")
    assert found["redraft.scores"] == tuple(step.score for step in chain.steps)
    assert [call.name for call in spans.calls] == ["chat tiny", "chat tiny"]
    for call, step in zip(spans.calls, chain.steps, strict=True):
        assert call.parent is not None
        assert spans.chain.context is not None
        assert call.parent.span_id == spans.chain.context.span_id
        used = of(call)
        assert used["gen_ai.usage.input_tokens"] == step.usage.prompt_tokens
        assert used["gen_ai.usage.output_tokens"] == step.usage.completion_tokens
        assert used["gen_ai.response.finish_reasons"] == ("stop",)
        assert used["gen_ai.provider.name"] == "scripted"
        assert used["gen_ai.response.time_to_first_chunk"] >= 0
        assert (used["redraft.role"], used["gen_ai.request.temperature"]) == ("writer", 0.7)
    assert [of(call)["gen_ai.request.seed"] for call in spans.calls] == [4, 5]
    events = [dict(event.attributes or {}) for event in spans.chain.events]
    labels = [(each["gen_ai.evaluation.score.label"], each["redraft.step"]) for each in events]
    assert labels == [("fail", 0), ("pass", 1)]


def test_texts_are_left_out() -> None:
    spans = Spans()
    revised(spans)
    assert [text for text in SECRETS if json.dumps(text)[1:-1] in spans.all] == []


def test_the_first_piece_is_noted_also_where_a_token_comes_before_its_text() -> None:
    class Early(WrappedEngine):
        async def _reply(self, request: dict[str, Any], ask: Ask) -> AsyncGenerator[Delta, None]:
            yield Delta(tokens=(1,))
            yield Delta("é", tokens=(2,), finish="stop")

    spans = Spans()
    redraft.revise("Q", model=Early(ScriptedEngine(["An answer."])), max_revisions=0, trace=spans.provider)
    (call,) = spans.calls
    assert "gen_ai.response.time_to_first_chunk" in of(call)


def test_critic_and_judge_have_spans_with_their_roles() -> None:
    spans = Spans()
    critic, judge = ScriptedEngine(["No revision is needed."]), ScriptedEngine(["Score: 2"])
    revised(spans, critic=critic, judge=judge, checks=["judge:Is it short?"])
    assert [of(call)["redraft.role"] for call in spans.calls][:3] == ["writer", "judge", "critic"]


def test_an_error_ends_both_spans_with_its_type_and_the_steps_so_far() -> None:
    spans = Spans()
    engine = ScriptedEngine(["two words", ScriptedReply("", error=ServerError("it said: two words"))])
    with pytest.raises(ServerError):
        revised(spans, model=engine)
    for span in (spans.chain, spans.calls[1]):
        assert (span.status.status_code, of(span)["error.type"]) == (StatusCode.ERROR, "ServerError")
    assert of(spans.chain)["redraft.stop"] == "error"
    assert "two words" not in spans.all


def test_the_callers_span_is_the_parent_and_stays_current() -> None:
    spans = Spans()
    with spans.provider.get_tracer("mine").start_as_current_span("mine", kind=SpanKind.SERVER) as mine:
        revised(spans)
    assert spans.chain.parent is not None
    assert spans.chain.parent.span_id == mine.get_span_context().span_id


def test_a_stream_that_is_left_ends_its_spans_without_an_error() -> None:
    spans = Spans()

    async def leave() -> None:
        engine = ScriptedEngine(["a long text"], chunk=1)
        async with aclosing(redraft.stream("Go.", model=engine, trace=spans.provider)) as events:
            async for _ in events:
                return

    asyncio.run(leave())
    assert {span.status.status_code for span in (spans.chain, *spans.calls)} == {StatusCode.UNSET}
    assert len(spans.calls) == 1


def test_what_is_no_provider_is_refused() -> None:
    wrong: Any = "on"
    with pytest.raises(UsageError, match="trace is 'on'"):
        redraft.revise("Go.", model=ScriptedEngine(["a"]), trace=wrong)
