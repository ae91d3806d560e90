"""`/v1/completions`: a model continues a text, as it is. Nothing is revised, and no chat template is applied.

That is what clients of the servers of vLLM and llama.cpp expect of it. A model that revises refuses.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from redraft.chain import Chain, Finish, Usage
from redraft.engines.base import Delta, Engine
from redraft.revision.cancel import CancelToken, Limit, OutOfTime
from redraft.revision.options import Options, budget_of, sampling_of
from redraft.serve.errors import Refusal, invalid
from redraft.serve.limits import Limits
from redraft.serve.logprobs import Noting, noting, of_completion
from redraft.serve.models import Model, Models
from redraft.serve.passed import OF_COMPLETIONS, with_passed
from redraft.serve.replies import DONE, FINISHES, counts_of, event_of
from redraft.serve.requests import (
    OPTIONS,
    WITHOUT_EFFECT,
    alternatives,
    answers_in,
    chain_options,
    check_names,
    check_unsupported,
    flag,
    options_at,
    texts_in,
    typed,
    usage_wanted,
)

NAMES = {name: OPTIONS[name] for name in ("temperature", "top_p", "max_tokens", "seed", "stop")}
"""Fields that are options, with the option's name."""

OWN = ("model", "prompt", "stream", "stream_options", "n", "logprobs")
"""Fields that are read here."""

UNSUPPORTED: Mapping[str, Sequence[Any]] = {
    "best_of": [1],
    "echo": [False],
    "suffix": [""],
}
"""Fields that cannot be met, with the values that ask for what happens anyway."""

FIELDS = (*OWN, *NAMES, *OF_COMPLETIONS, *WITHOUT_EFFECT, *UNSUPPORTED)


@dataclass(frozen=True)
class AskedTexts:
    """A request that was checked.

    Attributes:
        model: The name that was asked.
        prompts: The texts to continue, one for each answer.
        options: The sampling, the budget and the open engine.
        stream: Send each piece as it comes.
        with_usage: Send the usage at the end of the stream.
        noted: Has the log-probabilities of each answer; None if they were not asked for.
    """

    model: str
    prompts: tuple[str, ...]
    options: Options
    stream: bool = False
    with_usage: bool = False
    noted: Noting | None = None


def completion_request(body: Mapping[str, Any], models: Models, limits: Limits) -> AskedTexts:
    """Check the body of a request.

    Raises:
        Refusal: A field is wrong; `param` names it. Or there is no such model, or it does not continue texts.
    """
    check_names(body, FIELDS, "a request for a completion")
    check_unsupported(body, UNSUPPORTED)
    model = models.named(typed(body, "model", str, "the name of a model"))
    _check_continues(model)
    options, noted = chain_options(body, model, limits, (), NAMES), None
    options = with_passed(options, body, model, OF_COMPLETIONS)
    if "logprobs" in body:
        options, noted = noting(options, model.name, alternatives(body, "logprobs"))
    prompts = _prompts(body, answers_in(body, limits), limits)
    return AskedTexts(model.name, prompts, options, flag(body, "stream"), usage_wanted(body), noted)


def _check_continues(model: Model) -> None:
    if model.options.get("max_revisions") != 0:
        message = f"the model {model.name!r} revises answers, and a completion is not revised."
        raise invalid(f"{message} Ask it at /v1/chat/completions.", "model", code="unsupported")
    if not _engine(model.options).info.continues:
        message = f"the model {model.name!r} does not continue texts. Ask it at /v1/chat/completions."
        raise invalid(message, "model", code="unsupported")


def _engine(options: Options) -> Engine:
    engine = options["model"]
    assert not isinstance(engine, str)  # noqa: S101  (engines of a server are open)
    if not (provider := options.get("trace")):
        return engine
    from redraft.revision.trace import traced

    return traced(engine, provider)


def _prompts(body: Mapping[str, Any], count: int, limits: Limits) -> tuple[str, ...]:
    """Return the text of each answer: of each prompt as many as `n` asks for."""
    texts = texts_in(body, "prompt")
    if len(texts) * count > limits.answers:
        message = f"{len(texts)} prompts with {count} answers each are more than {limits.answers} answers."
        raise invalid(message, "prompt")
    return tuple(text for text in texts for _ in range(count))


async def continuations(asked: AskedTexts, cancel: CancelToken) -> AsyncGenerator[tuple[int, Delta], None]:
    """Continue one text after the other, and yield the pieces. What takes too long ends with what it has."""
    for index, prompt in enumerate(asked.prompts):
        options = options_at(asked.options, index)
        budget = budget_of(options.get("budget"))
        seconds = budget.seconds if budget else None
        deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
        asking = _engine(options).stream(prompt, sampling_of(options), tuple(options.get("stop", ())))
        async with aclosing(asking) as deltas:
            with cancel.limit(deadline) as limit:
                while (delta := await _next(deltas, limit)) is not None:
                    yield index, delta
                    if delta.finish:
                        break


async def _next(deltas: AsyncGenerator[Delta, None], limit: Limit) -> Delta | None:
    """Return the next piece; None at the end. One that does not come in time is the end."""
    try:
        with limit:
            return await anext(deltas, None)
    except OutOfTime:
        return Delta(finish="cancelled")


@dataclass
class Continuation:
    """The continuation of one text.

    Attributes:
        chain: None: there is no chain. The log asks for it.
    """

    chain: Chain | None = None
    texts: list[str] = field(default_factory=list)
    finish: Finish = "stop"
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def take(self, delta: Delta) -> Iterator[str]:
        """Take a piece, and yield its text."""
        self.completion_tokens += len(delta.tokens) or bool(delta.text)
        if delta.completion_tokens is not None:
            self.completion_tokens = delta.completion_tokens
        self.prompt_tokens = delta.prompt_tokens or self.prompt_tokens
        self.cached_tokens = delta.cached_tokens or self.cached_tokens
        self.finish = delta.finish or self.finish
        if delta.text:
            self.texts.append(delta.text)
            yield delta.text

    @property
    def usage(self) -> Usage:
        """The tokens so far."""
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cached_tokens=self.cached_tokens,
        )

    @property
    def finish_reason(self) -> str:
        """Why it ended, in OpenAI's words."""
        return FINISHES.get(self.finish, "length")


class CompletionReply:
    """The objects that answer one request. Its methods are those of `replies.Reply`."""

    asked_in = "prompt"

    def __init__(self, asked: AskedTexts) -> None:
        self.asked = asked
        self.messages = [Continuation() for _ in asked.prompts]
        self._id, self._created = f"cmpl-{secrets.token_hex(12)}", int(time.time())

    def completion(self) -> dict[str, Any]:
        """Return the whole reply."""
        choices = [
            _choice(index, "".join(each.texts), each.finish_reason, self._new_logprobs(index))
            for index, each in enumerate(self.messages)
        ]
        return self._object(choices, usage=self._usage())

    def events(self, index: int, delta: Delta) -> Iterator[bytes]:
        """Take a piece, and yield what is streamed for it."""
        message = self.messages[index]
        texts = list(message.take(delta))
        if texts or delta.finish:
            finish = message.finish_reason if delta.finish else None
            more = {"usage": None} if self.asked.with_usage else {}
            choice = _choice(index, "".join(texts), finish, self._new_logprobs(index))
            yield event_of(self._object([choice], **more))

    def end(self) -> Iterator[bytes]:
        """Yield the end of a stream."""
        if self.asked.with_usage:
            yield event_of(self._object([], usage=self._usage()))
        yield DONE

    def failed(self, refusal: Refusal) -> bytes:
        """Return the event of an error after the stream has begun."""
        return event_of(refusal.body)

    def _new_logprobs(self, index: int) -> dict[str, Any] | None:
        """Return the log-probabilities that came since the last time, if they were asked for."""
        return of_completion(*self.asked.noted.take(index)) if self.asked.noted else None

    def _object(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        head = {"id": self._id, "object": "text_completion", "created": self._created}
        return {**head, "model": self.asked.model, "choices": choices, **more}

    def _usage(self) -> dict[str, Any]:
        return counts_of(sum((each.usage for each in self.messages), Usage()))


def _choice(index: int, text: str, finish: str | None, logprobs: dict[str, Any] | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}
