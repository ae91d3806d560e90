"""Convert messages, and refuse messages with more than text: images, sound, files, tool calls, other roles.

An engine that renders messages into a text prompt cannot use such parts. Without the parts, the model would
answer a different question from the user's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import dropwhile
from typing import Any, cast

from redraft.chain import content_of, is_system, other_parts
from redraft.engines.base import EngineInfo, Message
from redraft.errors import RecordError

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
"""The roles of the OpenAI protocol; `function` is the older name of `tool`."""

FIELDS = ("name", "tool_calls", "tool_call_id", "function_call", "refusal", "audio")
"""Fields of a message besides role and content. Other fields are not sent."""

_OF_TOOLS = ("tool_calls", "tool_call_id")


def message_of(record: Mapping[str, Any]) -> Message:
    """Return a recorded message with only the fields of the protocol."""
    more = {name: record[name] for name in FIELDS if record.get(name)}
    content = record.get("content")
    content = "" if content is None and not more else content
    return cast(Message, {"role": str(record.get("role")), "content": content, **more})


def plain(messages: Iterable[Message], info: EngineInfo) -> list[Message]:
    """Convert messages for an engine that accepts only text and, with `EngineInfo.tools`, tool calls.

    Text parts are joined, `developer` becomes `system`, and names are kept. Anything else raises
    `RecordError`.
    """
    found: list[Message] = []
    for number, message in enumerate(messages, start=1):
        if more := beyond_text(message, tools=info.tools):
            refused = f"the engine {info.engine} accepts only text, but message {number} has {more}."
            hint = "Leave it out, or ask a server that accepts it: --model http://host/v1#model"
            raise RecordError(refused, hint=hint)
        kept = {name: message[name] for name in ("name", *_OF_TOOLS) if message.get(name)}  # type: ignore[literal-required]
        role = "system" if is_system(message) else message["role"]
        found.append(cast(Message, {"role": role, "content": content_of(message), **kept}))
    return found


def beyond_text(message: Mapping[str, Any], *, tools: bool = False) -> str:
    """Describe the first part of a message that is not text, or return "". `tools` allows tool calls."""
    role = str(message.get("role"))
    if role not in ("user", "assistant") and not is_system(message) and not (tools and role == "tool"):
        return f"the role {role!r:.40}"
    if kinds := other_parts(message):
        return f"a part of the type {kinds[0]!r:.40}"
    taken = (*(_OF_TOOLS if tools else ()), "name")
    return next((f"{name!r}" for name in FIELDS if name not in taken and message.get(name)), "")


def with_text(message: Message, *texts: str) -> Message:
    """Append paragraphs of text to a message, or text parts to a message whose content is a list."""
    content = message["content"]
    if isinstance(content, list):
        return {**message, "content": [*content, *({"type": "text", "text": text} for text in texts)]}
    return {**message, "content": "\n\n".join(dropwhile(lambda text: not text, (content or "", *texts)))}


def folded(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Turn system messages into user messages, drop names and join turns, for strict chat templates."""
    nameless = [cast(Message, {k: v for k, v in each.items() if k != "name"}) for each in messages]
    return joined([{**each, "role": "user"} if is_system(each) else each for each in nameless])


def why_refused(said: str) -> str:
    """Return the reason why a chat template refuses messages, without the position that llama.cpp adds."""
    return said.rpartition("Jinja Exception: ")[2].rpartition("\nError: ")[2]


def template_refuses(model: str, said: str) -> RecordError:
    """Return the error for messages that a model's chat template refuses."""
    message = f"the chat template of {model} refuses these messages: {why_refused(said)[:200].rstrip(' .')}."
    return RecordError(message, hint="Begin with a user message, and let user and assistant alternate.")


def joined(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Join consecutive text messages of one role, for strict chat templates."""
    runs: list[tuple[Message, list[str]]] = []  # joined at the end, as a run may have thousands of messages
    for message in messages:
        content = message["content"]
        alike = runs and runs[-1][0]["role"] == message["role"]
        before: Mapping[str, object] = runs[-1][0] if alike else {}
        if isinstance(content, str) and before.keys() == message.keys() == {"role", "content"}:
            runs[-1][1].append(content)
        else:
            runs.append((message, []))
    return tuple(with_text(first, *texts) if texts else first for first, texts in runs)
