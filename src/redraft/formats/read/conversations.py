"""Read conversations: ShareGPT's, messages of the OpenAI protocol, and OASST1's trees.

A last turn by the assistant is the answer; the turns before it are the prompt. Alternation is not checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import inf
from typing import Any

from redraft.chain import Prompt, Step, content_of, is_blank, other_parts
from redraft.formats.read.fields import Fields, Format, Parts, Shape, answered

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
"""Speakers of ShareGPT, OASST and the OpenAI protocol, in lower case, by role."""


def conversation(fields: Fields) -> Parts:
    """Read ShareGPT's `conversations` of `from` and `value`, or of `role` and `content`."""
    match fields.rest["conversations"]:
        case [{"role": _, **others}, *_] if "from" not in others:
            return from_messages(fields, "conversations", message_list(fields, "conversations"))
    messages = []
    for i, item in enumerate(fields.items("conversations")):
        turn = fields.nested(f"conversations.{i}", item)
        messages.append({"role": _role(turn, "from"), "content": turn.text("value"), **turn.rest})
    return from_messages(fields, "conversations", messages)


def messages(fields: Fields) -> Parts:
    """Read the OpenAI protocol's `messages` of `role` and `content`."""
    return from_messages(fields, "messages", message_list(fields, "messages"))


def message_list(fields: Fields, name: str) -> list[dict[str, Any]]:
    """Take a list of messages. Other names of roles, such as `gpt`, become the protocol's."""
    found = fields.items(name)
    for i, message in enumerate(found):
        inner = fields.nested(f"{name}.{i}", message)
        inner.text("role")
        if not isinstance(message.get("content"), str | list | None):
            inner.fail("content", "should be a text", message["content"])
    return [_with_known_role(message) for message in found]


def _with_known_role(message: dict[str, Any]) -> dict[str, Any]:
    given = message["role"]
    role = _ROLES.get(given.strip().lower(), given)
    return message if role == given else {**message, "role": role}


def from_messages(fields: Fields, name: str, turns: Sequence[dict[str, Any]]) -> Parts:
    """Return messages as a prompt, and as an answer if the assistant speaks last.

    An answer with other fields than its text, such as a weight, is kept in `meta.message`.
    """
    if not turns:
        fields.fail(name, "is empty")
    if turns[-1]["role"] != "assistant":
        return Parts(asked(turns))
    parts = answered(asked(turns[:-1]), content_of(turns[-1]))
    if not _is_text(turns[-1]):
        parts.meta = {"message": turns[-1]}
    return parts


def _is_text(message: dict[str, Any]) -> bool:
    more = {key: value for key, value in message.items() if key not in ("role", "content")}
    return not other_parts(message) and all(value in (None, "") for value in more.values())


def asked(turns: Sequence[dict[str, Any]]) -> Prompt:
    """Return messages as a prompt. A single plain question becomes its instruction."""
    single = len(turns) == 1 and turns[0]["role"] == "user" and not turns[0].get("name")
    if single and isinstance(turns[0].get("content"), str):
        return Prompt(instruction=turns[0]["content"])
    return Prompt(messages=tuple(turns)) if turns else Prompt()


def asks(prompt: Prompt) -> bool:
    """Whether a prompt has an instruction, an input, or a message that is not the assistant's.

    Answer files, such as FastChat's, have their questions in another file.
    """
    if prompt.messages is None:
        return not is_blank(prompt.text)
    others = [turn for turn in prompt.messages if turn.get("role") != "assistant"]
    return any(other_parts(turn) or not is_blank(content_of(turn)) for turn in others)


@dataclass
class TreeMessage:
    """A message of a tree with its undeleted replies, the best first.

    Attributes:
        rank: 0 is the best of its siblings; infinite if unranked.
        goes_on: Whether an answer follows at any depth.
    """

    id: str
    role: str
    text: str
    lang: str
    rank: float
    replies: list[TreeMessage] = field(default_factory=list)
    goes_on: bool = False


def best_path(fields: Fields) -> Parts:
    """Read the path of best replies in an OASST1 tree, down to the last answer."""
    return _path_parts(fields, next(_paths(_grown(fields))))


def every_path(fields: Fields) -> Iterator[tuple[str, Parts]]:
    """Read each path of an OASST1 tree to an answer without later answers, with the last message's id.

    No path ends in an unanswered question, so no path begins another. A tree without answers is its question.
    """
    for path in _paths(_grown(fields)):
        yield path[-1].id, _path_parts(fields, path)


def ranked(fields: Fields) -> Iterator[tuple[str, Parts]]:
    """Read each pair of answers to one message of an OASST1 tree that people ranked, with both ids.

    The better one is the best. Prompts of users are ranked too, and left out.
    """
    waiting: list[tuple[TreeMessage, ...]] = [(_grown(fields),)]
    while waiting:
        path = waiting.pop()
        answers = [each for each in path[-1].replies if each.role == "assistant" and each.rank < inf]
        for better, worse in combinations(answers, 2):
            if better.rank < worse.rank:
                prompt = asked([{"role": each.role, "content": each.text} for each in path])
                steps = (Step(answer=worse.text), Step(answer=better.text))
                yield f"{better.id}>{worse.id}", Parts(prompt, steps, best=1, meta={"preference": True})
        waiting += [(*path, each) for each in reversed(path[-1].replies)]


def _paths(root: TreeMessage) -> Iterator[tuple[TreeMessage, ...]]:
    """Give paths, the better first. A loop, because hostile trees may be deep."""
    waiting: list[tuple[TreeMessage, ...]] = [(root,)]
    while waiting:
        path = waiting.pop()
        if not path[-1].goes_on:
            yield path
        leading = [each for each in path[-1].replies if each.goes_on or each.role == "assistant"]
        waiting += [(*path, each) for each in reversed(leading)]


def _grown(fields: Fields) -> TreeMessage:
    """Build a record's tree. Replies to a deleted message are left out with it."""
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


def _path_parts(fields: Fields, path: Sequence[TreeMessage]) -> Parts:
    parts = from_messages(fields, "prompt", [{"role": each.role, "content": each.text} for each in path])
    parts.meta |= {"lang": path[-1].lang} if path[-1].lang else {}
    return parts


def _role(fields: Fields, name: str) -> str:
    given = fields.text(name)
    if (known := given.strip().lower()) not in _ROLES:
        fields.fail(name, f"should be one of {', '.join(_ROLES)}", given)
    return _ROLES[known]


TREE = "OASST1 tree"
CONVERSATIONS = Format(
    order=3,
    shapes=(
        Shape("ShareGPT conversation", {"conversations"}, conversation),
        Shape("messages", {"messages"}, messages),
        Shape(TREE, {"message_tree_id", "prompt"}, best_path),
    ),
)
