"""Conversations: ShareGPT's, messages of the OpenAI protocol, and OASST1's trees.

The last turn, if it is the assistant's, is the answer; all turns before it are the prompt. Whether roles take
turns is not judged here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from redraft.chain import Prompt, content_of
from redraft.formats.read.fields import Fields, Parts, answered

_ROLES = {
    "human": "user",
    "user": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "assistant": "assistant",
    "system": "system",
}
"""Who speaks, as ShareGPT's records and OASST's name them, and as the OpenAI protocol does, in any case."""


def conversation(fields: Fields) -> Parts:
    """ShareGPT: `conversations`, of `from` and `value`; of `role` and `content` they are messages."""
    first = next(iter(_list(fields.rest["conversations"])), None)
    if isinstance(first, dict) and "from" not in first and "role" in first:
        return talk(fields, "conversations", message_list(fields, "conversations"))
    messages = []
    for i, item in enumerate(fields.items("conversations")):
        turn = fields.nested(f"conversations.{i}", item)
        messages.append({"role": _role(turn, "from"), "content": turn.text("value"), **turn.rest})
    return talk(fields, "conversations", messages)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def messages(fields: Fields) -> Parts:
    """The OpenAI protocol: `messages`, of `role` and `content`."""
    return talk(fields, "messages", message_list(fields, "messages"))


def message_list(fields: Fields, name: str) -> list[dict[str, Any]]:
    """Takes a list of messages, kept as they are but for other names of their roles, such as `gpt`."""
    said = fields.items(name)
    for i, message in enumerate(said):
        inner = fields.nested(f"{name}.{i}", message)
        inner.text("role")
        if not isinstance(message.get("content"), str | list | None):
            inner.fail("content", "should be a text", message["content"])
    return [_with_known_role(message) for message in said]


def _with_known_role(message: dict[str, Any]) -> dict[str, Any]:
    said = message["role"]
    role = _ROLES.get(said.strip().lower(), said)
    return message if role == said else {**message, "role": role}


def talk(fields: Fields, name: str, said: Sequence[dict[str, Any]]) -> Parts:
    """A talk is a prompt, and an answer if the assistant has the last word.

    What the answer's message has beside its text, such as a weight, is kept in `meta.message`.
    """
    if not said:
        fields.fail(name, "is empty")
    if said[-1]["role"] != "assistant":
        return Parts(asked(said))
    parts = answered(asked(said[:-1]), content_of(said[-1]))
    if not _is_text(said[-1]):
        parts.meta = {"message": said[-1]}
    return parts


def _is_text(message: dict[str, Any]) -> bool:
    """Whether a message is its role and its text, and nothing else that would be lost."""
    more = {key: value for key, value in message.items() if key not in ("role", "content")}
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    kinds = {part.get("type", "text") if isinstance(part, dict) else "" for part in parts}
    return kinds <= {"text"} and all(value in (None, "") for value in more.values())


def asked(said: Sequence[dict[str, Any]]) -> Prompt:
    """The prompt of some messages: of a single question in plain text, that text as the instruction."""
    single = len(said) == 1 and said[0]["role"] == "user" and not said[0].get("name")
    if single and isinstance(said[0].get("content"), str):
        return Prompt(instruction=said[0]["content"])
    return Prompt(messages=tuple(said)) if said else Prompt()


def asks(prompt: Prompt) -> bool:
    """Whether a prompt has an instruction, an input, or a message that is not the assistant's.

    Files of answers, such as FastChat's, have their questions in another file.
    """
    if prompt.messages is None:
        return bool(prompt.text.strip())
    return any(each.get("role") != "assistant" and _holds(each.get("content")) for each in prompt.messages)


def _holds(content: Any) -> bool:
    return bool(content.strip() if isinstance(content, str) else content)


@dataclass
class TreeMessage:
    """A message of a tree. Its replies stand best first; those that were deleted are not among them.

    Attributes:
        rank: 0 is the best of its siblings; infinite where it has none.
        goes_on: Whether an answer follows it, at whatever depth.
    """

    id: str
    role: str
    text: str
    lang: str
    rank: float
    replies: list[TreeMessage] = field(default_factory=list)
    goes_on: bool = False


def best_path(fields: Fields) -> Parts:
    """OASST1: from the root, the best reply to each message, down to the last answer."""
    return _said_along(fields, next(_paths(_grown(fields))))


def every_path(fields: Fields) -> Iterator[tuple[str, Parts]]:
    """OASST1: each path from the root to an answer that no other answer follows, with the last message's id.

    Questions that nobody answered end no path, so that no path is the beginning of another. A tree without
    any answer is its question.
    """
    for path in _paths(_grown(fields)):
        yield path[-1].id, _said_along(fields, path)


def _paths(root: TreeMessage) -> Iterator[tuple[TreeMessage, ...]]:
    """Better ones first. Without recursion, because trees of others may be deep."""
    waiting: list[tuple[TreeMessage, ...]] = [(root,)]
    while waiting:
        path = waiting.pop()
        if not path[-1].goes_on:
            yield path
        leading = [each for each in path[-1].replies if each.goes_on or each.role == "assistant"]
        waiting += [(*path, each) for each in reversed(leading)]


def _grown(fields: Fields) -> TreeMessage:
    """The tree of a record. What follows a deleted message goes with it."""
    root = fields.inner("prompt")
    if root.rest.get("deleted"):
        fields.fail("prompt", "was deleted")
    grown = [_message(root)]
    waiting = [(grown[0], root)]
    while waiting:
        parent, inner = waiting.pop()
        kept = [each for each in inner.items_or("replies") if not each.get("deleted")]
        below = [Fields(dict(each), f"{inner.where}.replies") for each in kept]
        parent.replies = [_message(each) for each in below]
        waiting += zip(parent.replies, below, strict=True)
        grown += parent.replies
        parent.replies = sorted(parent.replies, key=lambda each: each.rank)
    for each in reversed(grown):
        each.goes_on = any(reply.role == "assistant" or reply.goes_on for reply in each.replies)
    return grown[0]


def _message(fields: Fields) -> TreeMessage:
    rank = fields.rest.get("rank")
    return TreeMessage(
        id=fields.text_or("message_id"),
        role=_role(fields, "role"),
        text=fields.text("text"),
        lang=fields.text_or("lang"),
        rank=rank if isinstance(rank, int) else float("inf"),
    )


def _said_along(fields: Fields, path: Sequence[TreeMessage]) -> Parts:
    parts = talk(fields, "prompt", [{"role": each.role, "content": each.text} for each in path])
    parts.meta |= {"lang": path[-1].lang} if path[-1].lang else {}
    return parts


def _role(fields: Fields, name: str) -> str:
    said = fields.text(name)
    if (known := said.strip().lower()) not in _ROLES:
        fields.fail(name, f"should be one of {', '.join(_ROLES)}", said)
    return _ROLES[known]
