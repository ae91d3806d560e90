"""Serve `/v1/completions`: a model continues a text. Nothing is revised, and no chat template is applied."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, cast

from pydantic import Field

from redraft.chain import Chain, Finish, Usage
from redraft.engines.base import Delta
from redraft.engines.remote.wire import estimated_counts
from redraft.revision.cancel import CancelToken, OutOfTime
from redraft.serve import requests
from redraft.serve.bodies import OF_TEXTS, only, texts
from redraft.serve.errors import invalid
from redraft.serve.logprobs import MOST_LIKELY, noting, of_completion
from redraft.serve.models import Models
from redraft.serve.reader import ServerLimits
from redraft.serve.replies import FINISHES, Reply


class CompletionRequest(requests.SampledRequest):
    """A request for a completion."""

    whole: ClassVar[str] = "a request for a completion"
    prompt: Annotated[Any, texts(requests.ANSWERS), Field(description=OF_TEXTS)]
    logprobs: Annotated[int | None, Field(ge=0, le=MOST_LIKELY)] = None
    best_of: Annotated[Any, only(1)] = None
    echo: bool | None = None
    suffix: str | None = None

    def accept(self, models: Models, limits: ServerLimits) -> requests.Accepted:
        """Return the checked request, with `n` copies of each prompt."""
        model, count = models.named(self.model), self.n or 1
        if model.options.max_revisions != 0 or model.withheld:
            message = f"the model {model.name!r} checks or revises answers, which completions do not allow."
            raise invalid(f"{message} Ask it at /v1/chat/completions.", "model", code="unsupported")
        if not requests.engine_of(model.options).info.continues:
            message = f"the model {model.name!r} does not continue texts. Ask it at /v1/chat/completions."
            raise invalid(message, "model", code="unsupported")
        options = requests.chain_options(model, limits, self.options, None)
        beside = {**requests.passed_in(self), **({"suffix": self.suffix} if self.suffix else {})}
        options, noted = requests.with_passed(options, beside, model), None
        if self.logprobs is not None:
            if self.echo:
                raise invalid("echo and logprobs cannot be combined. Leave out one of them.", "echo")
            options, noted = noting(requests.by_messages(options), model.name, self.logprobs)
        if len(self.prompt) * count > requests.ANSWERS:
            asked = f"prompt and n ask for {len(self.prompt) * count:,} answers"
            raise invalid(f"{asked}, but this server allows {requests.ANSWERS} at most.", "prompt")
        return requests.Accepted(
            model.name,
            tuple(text for text in self.prompt for _ in range(count)),
            options,
            stream=bool(self.stream),
            with_usage=bool(self.stream_options and self.stream_options.include_usage),
            noted=noted,
            echo=bool(self.echo),
        )


async def continued(asked: requests.Accepted, cancel: CancelToken) -> AsyncGenerator[tuple[int, Delta], None]:
    """Continue the texts in turn. Yield (text index, delta) pairs. A timeout ends a text without an error."""
    engine = requests.engine_of(asked.options)
    if provider := asked.options.trace:
        from redraft.revision.trace import TracedEngine, tracer_of

        engine = TracedEngine(engine, tracer_of(provider), None, "writer")
    for index, prompt in enumerate(asked.inputs):
        options = asked.options_at(index)
        if asked.echo:
            yield index, Delta(text=prompt, completion_tokens=0)
        seconds = options.budget.seconds
        deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
        async with aclosing(engine.stream(prompt, options.sampling, tuple(options.stop))) as deltas:
            with cancel.limit(deadline) as limit:
                delta, begun = cast("Delta | None", Delta()), False
                while delta is not None and not delta.finish:
                    try:
                        with limit:
                            begun = True
                            delta = await anext(deltas, None)
                    except OutOfTime:
                        read = estimated_counts({"prompt": prompt}, 0).prompt if begun else None
                        delta = Delta(finish="cancelled", prompt_tokens=read)
                    if delta is not None:
                        yield index, delta


@dataclass
class Continuation:
    """The continuation of one text."""

    chain: Chain | None = None
    texts: list[str] = field(default_factory=list)
    finish: Finish = "stop"
    usage: Usage = field(default_factory=Usage)

    def take(self, delta: Delta) -> Iterator[str]:
        """Add a delta, and yield the new text."""
        seen = self.usage.completion_tokens + (len(delta.tokens) or bool(delta.text))
        self.usage = Usage(
            prompt_tokens=delta.prompt_tokens or self.usage.prompt_tokens,
            completion_tokens=seen if delta.completion_tokens is None else delta.completion_tokens,
            cached_tokens=delta.cached_tokens or self.usage.cached_tokens,
        )
        self.finish = delta.finish or self.finish
        if delta.text:
            self.texts.append(delta.text)
            yield delta.text

    @property
    def finish_reason(self) -> str:
        """Why the text ended, as OpenAI's `finish_reason`."""
        return FINISHES.get(self.finish, "length")


class CompletionReply(Reply):
    """Builds the reply to one request for a completion, whole or streamed."""

    asked_in = "prompt"
    kinds = ("text_completion", "text_completion")
    messages: Sequence[Continuation]

    def __init__(self, asked: requests.Accepted) -> None:
        super().__init__(asked, [Continuation() for _ in asked.inputs], "cmpl-")

    def whole(self) -> dict[str, Any]:
        """Return the whole reply."""
        choices = [
            self._choice(index, "".join(each.texts), each.finish_reason)
            for index, each in enumerate(self.messages)
        ]
        return {**self._head(), "choices": choices, "usage": self._usage()}

    def events(self, index: int, delta: Delta) -> Iterator[bytes]:
        """Add a delta, and yield the server-sent events."""
        message = self.messages[index]
        texts = list(message.take(delta))
        if texts or delta.finish:
            finish = message.finish_reason if delta.finish else None
            yield self._piece(self._choice(index, "".join(texts), finish))

    def _choice(self, index: int, text: str, finish: str | None) -> dict[str, Any]:
        logprobs = of_completion(*self.asked.noted.take(index)) if self.asked.noted else None
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}
