"""Answers that may call tools: llama.cpp's own chat route renders them, and reads the calls in the answer.

Which words call a tool depends on the model's template, and llama.cpp knows the templates. Its route takes
texts and not token ids, so a control token that is written out in a message would become one: such messages
are refused here.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

from redraft.engines.base import OF_TEMPLATE, OF_TOOLS, Delta, Message, Sampling
from redraft.engines.remote.wire import CallPiece, TokenCounts, read_chunk, tool_calls
from redraft.errors import EngineError, RecordError


def written_out(messages: Sequence[Message], sampling: Sampling) -> str:
    """Return all that a user or a tool wrote, as one text."""
    told = (sampling.extra_body or {}).get(OF_TEMPLATE)
    return json.dumps([messages, list(sampling.tools), told], ensure_ascii=False)


def control_token() -> RecordError:
    """Return the error of messages in which a control token is written out."""
    return RecordError(
        f"a message, a tool or {OF_TEMPLATE} has a control token of the model in it, such as <|im_end|>.",
        hint="Leave it out.",
    )


def chat_request(messages: Sequence[Message], sampling: Sampling, request: dict[str, Any]) -> dict[str, Any]:
    """Return a request to `/v1/chat/completions`, with the sampling of one to `/completion`.

    Raises:
        RecordError: Log-probabilities are asked for too.
    """
    if sampling.logprobs:
        raise RecordError("llama.cpp has no log-probabilities beside tools. Leave one of them out.")
    taken = (*OF_TOOLS, OF_TEMPLATE)
    beside = {name: part for name, part in (sampling.extra_body or {}).items() if name in taken}
    kept = {
        name: part for name, part in request.items() if name not in ("prompt", "return_tokens", "n_probs")
    }
    return {
        **kept,
        **beside,
        "messages": list(messages),
        "tools": list(sampling.tools),
        "stream_options": {"include_usage": True},
    }


async def answers(
    name: str, events: AsyncGenerator[dict[str, Any], None], room: int
) -> AsyncGenerator[Delta, None]:
    """Turn the events of a chat into deltas. The last one has the calls.

    Args:
        name: The model's, for messages.
        events: Those of `/v1/chat/completions`.
        room: Most tokens that were asked for.
    """
    calls: list[CallPiece] = []
    last = Delta(finish="stop")
    counts: TokenCounts | None = None
    ended = False
    async for event in events:
        if "choices" not in event:
            error = event.get("error", event)
            reason = error.get("message", error) if isinstance(error, dict) else error
            raise EngineError(f"{name}: llama.cpp broke off the answer: {reason}")
        chunk = read_chunk(event)
        calls += chunk.calls
        counts = chunk.counts or counts
        if chunk.text:
            yield Delta(chunk.text)
        if chunk.finish:
            last, ended = replace(last, finish=chunk.finish), True
    if not ended or counts is None:
        raise EngineError(f"{name}: the stream ended without its last event.", hint="Try again.")
    if last.finish == "max_tokens" and counts.completion < room:
        last = replace(last, finish="context")
    yield replace(
        last,
        prompt_tokens=counts.prompt,
        cached_tokens=counts.cached or 0,
        completion_tokens=counts.completion,
        tool_calls=tool_calls(calls),
    )
