"""Trace chains with OpenTelemetry: a span for each chain, with a child span for each call and its usage.

Attributes have the names of the GenAI semantic conventions. Other names begin with `redraft.`. Prompts and
answers are left out. No span is made current, because a generator must not change its caller's context.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any, Literal

from opentelemetry import context, trace
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, TracerProvider

from redraft import __version__
from redraft.chain import Chain, Finish
from redraft.engines.base import Delta, Engine
from redraft.engines.wrapped import Ask, WrappedEngine
from redraft.errors import RedraftError

_FINISHES: Mapping[Finish, str] = {"max_tokens": "length", "context": "length", "filtered": "content_filter"}
"""The conventions' names for some finishes. Other finishes keep their names."""


class ChainSpan:
    """The span of a chain."""

    def __init__(self, span: Span, tracer: Tracer) -> None:
        self._span, self._tracer = span, tracer

    def around(self, role: Literal["model", "critic", "judge"], engine: Engine) -> Engine:
        """Return an engine that makes a child span for each call."""
        named = "writer" if role == "model" else role
        return TracedEngine(engine, self._tracer, trace.set_span_in_context(self._span), named)

    def ended(self, chain: Chain) -> None:
        """Record why a chain stopped, each step's verdict and score (-1 without checks), and each check."""
        found = {
            "gen_ai.request.model": chain.model.get("name"),
            "redraft.chain.id": chain.id or None,
            "redraft.mode": chain.model.get("revision_mode"),
            "redraft.stop": chain.stop,
            "redraft.passed": chain.passed,
            "redraft.revisions": chain.revisions,
            "redraft.best": chain.best,
            "redraft.verdicts": [step.verdict for step in chain.steps],
            "redraft.scores": [-1.0 if step.score is None else step.score for step in chain.steps],
            "redraft.cost_usd": chain.usage.cost_usd,
        }
        _set(self._span, found)
        for number, step in enumerate(chain.steps):
            for check in step.checks:
                result: dict[str, Any] = {"name": check.name, "score.value": check.score}
                result |= {"score.label": "pass" if check.passed else "fail"}
                said = {f"gen_ai.evaluation.{name}": value for name, value in result.items()}
                self._span.add_event("gen_ai.evaluation.result", {**said, "redraft.step": number})


def tracer_of(provider: TracerProvider | Literal[True]) -> Tracer:
    """Return the tracer for redraft's spans. With True, use OpenTelemetry's global provider."""
    return trace.get_tracer("redraft", __version__, None if provider is True else provider)


@contextmanager
def chain_span(provider: TracerProvider | Literal[True]) -> Iterator[ChainSpan]:
    """Open the span of a chain, as a child of the current span. Record errors by type, without their text."""
    tracer = tracer_of(provider)
    names = {"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": "redraft"}
    span = tracer.start_span("invoke_workflow redraft", kind=SpanKind.INTERNAL, attributes=names)
    opened = ChainSpan(span, tracer)
    with _ending(span):
        try:
            yield opened
        except RedraftError as error:
            if error.chain is not None:
                opened.ended(error.chain)
            raise


class TracedEngine(WrappedEngine):
    """An engine that makes a span for each call, as a child of `parent` or, by default, the current span."""

    def __init__(self, engine: Engine, tracer: Tracer, parent: context.Context | None, role: str) -> None:
        super().__init__(engine)
        self._tracer, self._parent, self._role = tracer, parent, role

    async def _reply(self, request: dict[str, Any], ask: Ask) -> AsyncGenerator[Delta, None]:
        name = "chat" if request["way"] == "chat" else "text_completion"
        span = self._tracer.start_span(
            f"{name} {self.info.name}", self._parent, SpanKind.CLIENT, self._asked(name, request)
        )
        began, tokens = time.monotonic(), 0
        with _ending(span):
            async with aclosing(ask(request["sampling"])) as deltas:
                async for delta in deltas:
                    new = len(delta.tokens) or bool(delta.text)
                    if new and not tokens:
                        span.set_attribute("gen_ai.response.time_to_first_chunk", time.monotonic() - began)
                    tokens += new
                    if delta.finish:
                        _set(span, _replied(delta, tokens))
                    yield delta

    def _asked(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        info, sampling = self.info, request["sampling"]
        found = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "openai" if info.engine == "remote" else info.engine,  # its protocol
            "gen_ai.request.model": info.name,
            "gen_ai.request.temperature": sampling.temperature,
            "gen_ai.request.top_p": sampling.top_p,
            "gen_ai.request.max_tokens": sampling.max_tokens,
            "gen_ai.request.seed": sampling.seed,
            "gen_ai.request.stop_sequences": request["stop"] or None,
            "gen_ai.output.type": "json" if sampling.schema is not None else "text",
            "redraft.role": self._role,
        }
        unsent = {f"gen_ai.request.{name}" for name in sampling.left_out if info.own_sampling}
        return {name: value for name, value in found.items() if value is not None and name not in unsent}


def _replied(last: Delta, seen: int) -> dict[str, Any]:
    finish = _FINISHES.get(last.finish or "stop", last.finish)
    return {
        "gen_ai.response.finish_reasons": ["tool_calls" if last.tool_calls else finish],
        "gen_ai.usage.input_tokens": last.prompt_tokens,
        "gen_ai.usage.cache_read.input_tokens": last.cached_tokens,
        "gen_ai.usage.output_tokens": seen if last.completion_tokens is None else last.completion_tokens,
    }


def _set(span: Span, found: Mapping[str, Any]) -> None:
    span.set_attributes({name: value for name, value in found.items() if value is not None})


@contextmanager
def _ending(span: Span) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        span.set_attribute("error.type", type(error).__name__)
        span.set_status(StatusCode.ERROR)
        raise
    finally:
        span.end()
