"""Read conversations and preference pairs.

If the last turn is the assistant's, that turn becomes the answer, and the earlier turns become the prompt.
User and assistant need not alternate. A preference pair becomes a chain of two steps, the rejected answer and
the chosen answer. The field `preference` of `meta` distinguishes a pair from a revision.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations
from math import inf
from typing import Any

from redraft.chain import Chain, Prompt, Step, calls_of, content_of, is_blank, other_parts, thoughts_of
from redraft.chain.read.fields import Fields, Format, Shape

_SPEAKERS = {
    "user": ("human", "user", "prompter"),
    "assistant": ("gpt", "chatgpt", "bing", "bard", "assistant", "function_call", "tool_call"),
    "system": ("system",),
    "tool": ("tool", "observation", "function_response", "tool_response"),
}
_ROLES = {name: role for role, names in _SPEAKERS.items() for name in names}
"""Maps the speakers of ShareGPT, OASST and OpenAI, in lower case, to OpenAI's roles."""


def conversation(fields: Fields) -> Chain:
    """Read ShareGPT's `conversations`, whose turns have `from` and `value`, or `role` and `content`."""
    match fields.rest["conversations"]:
        case [{"role": _, **others}, *_] if "from" not in others:
            return from_messages(fields, "conversations", message_list(fields, "conversations"))
    messages = list[dict[str, Any]]()
    for i, item in enumerate(fields.items("conversations")):
        match item:  # most turns
            case {"from": ("human" | "gpt") as speaker, "value": str(text)} if len(item) == 2:
                messages.append({"role": _ROLES[speaker], "content": text})
                continue
        turn = fields.nested(f"conversations.{i}", item)
        calls = item.get("from") in ("function_call", "tool_call") and _calls(item.get("value"))
        text, role = turn.text("value"), _role(turn, "from")
        said = {"content": None, "tool_calls": calls} if calls else {"content": text}
        messages.append({"role": role, **said, **turn.rest})
    return from_messages(fields, "conversations", messages)


def _calls(value: Any) -> list[dict[str, Any]]:
    found: Any = None
    with suppress(ValueError, TypeError):
        found = json.loads(value)
    calls = found if isinstance(found, list) else [found]
    if not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
        return []
    return [{"type": "function", "function": call} for call in calls]


def message_list(fields: Fields, name: str) -> list[dict[str, Any]]:
    """Read the list of messages in the field `name`. Roles such as `gpt` are renamed to OpenAI's roles."""
    taken = []
    for i, message in enumerate(fields.items(name)):
        inner = fields.nested(f"{name}.{i}", message)
        given = inner.text("role")
        if not isinstance(message.get("content"), str | list | None):
            inner.fail("content", "should be a text", message["content"])
        if message.get("tool_calls") is not None:
            inner.items("tool_calls")
        role = _ROLES.get(given.strip().lower(), given)
        taken.append(message if role == given else {**message, "role": role})
    return taken


def from_messages(fields: Fields, name: str, turns: Sequence[dict[str, Any]]) -> Chain:
    """Return messages as a chain. A final assistant message becomes the answer."""
    if not turns:
        fields.fail(name, "is empty")
    system = fields.rest.get("system")
    if isinstance(system, str) and system.strip() and turns[0]["role"] != "system":
        turns = [{"role": "system", "content": fields.text("system")}, *turns]
    last = turns[-1]
    return answered_by(turns[:-1], last) if last["role"] == "assistant" else Chain(prompt=asked(turns))


def answered_by(turns: Sequence[dict[str, Any]], last: dict[str, Any]) -> Chain:
    """Return a chain whose prompt is `turns`, and whose answer is the message `last`."""
    step = Step(answer=content_of(last), tool_calls=calls_of(last), reasoning=thoughts_of(last))
    more = (value for key, value in last.items() if key not in ("role", "content"))
    kept = other_parts(last) or any(value not in (None, "") for value in more)  # it has more than text
    return Chain(prompt=asked(turns), steps=(step,), best=0, meta={"message": last} if kept else {})


def asked(turns: Sequence[dict[str, Any]]) -> Prompt:
    """Return messages as a prompt. A single user message in plain text becomes the instruction."""
    single = len(turns) == 1 and turns[0]["role"] == "user" and not turns[0].get("name")
    if single and isinstance(turns[0].get("content"), str):
        return Prompt(instruction=turns[0]["content"])
    return Prompt(messages=tuple(turns)) if turns else Prompt()


def asks(prompt: Prompt) -> bool:
    """Return whether a prompt contains content that is not from the assistant."""
    if prompt.messages is None:
        return not is_blank(prompt.text)
    others = [turn for turn in prompt.messages if turn.get("role") != "assistant"]
    return any(other_parts(turn) or not is_blank(content_of(turn)) for turn in others)


@dataclass
class TreeMessage:
    """A message of an OASST1 tree, with the replies that are not deleted, the best first."""

    id: str
    role: str
    text: str
    lang: str
    rank: float  # 0 is the best of its siblings; infinite if unranked
    replies: list[TreeMessage] = field(default_factory=list)
    goes_on: bool = False  # whether an answer follows at any depth


def every_path(fields: Fields) -> Iterator[tuple[str, Chain]]:
    """Yield the id of the last message, and a chain, for each path of an OASST1 tree."""
    for path in _paths(_grown(fields)):
        chain = from_messages(fields, "prompt", [{"role": each.role, "content": each.text} for each in path])
        lang = {"lang": path[-1].lang} if path[-1].lang else {}
        yield path[-1].id, chain.model_copy(update={"meta": chain.meta | lang})


def ranked(fields: Fields) -> Iterator[tuple[str, Chain]]:
    """Yield an id and a chain for each pair of ranked answers to the same message of an OASST1 tree."""
    waiting: list[tuple[TreeMessage, ...]] = [(_grown(fields),)]
    while waiting:
        path = waiting.pop()
        answers = [each for each in path[-1].replies if each.role == "assistant" and each.rank < inf]
        for better, worse in combinations(answers, 2):
            if better.rank < worse.rank:
                prompt = asked([{"role": each.role, "content": each.text} for each in path])
                yield f"{better.id}>{worse.id}", preferred(prompt, worse.text, better.text)
        waiting += [(*path, each) for each in reversed(path[-1].replies)]


def _paths(root: TreeMessage) -> Iterator[tuple[TreeMessage, ...]]:
    """Yield paths, the best first, without recursion, because a hostile tree may be too deep."""
    waiting: list[tuple[TreeMessage, ...]] = [(root,)]
    while waiting:
        path = waiting.pop()
        if not path[-1].goes_on:
            yield path
        leading = [each for each in path[-1].replies if each.goes_on or each.role == "assistant"]
        waiting += [(*path, each) for each in reversed(leading)]


def _grown(fields: Fields) -> TreeMessage:
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
        Shape("messages", {"messages"}, lambda f: from_messages(f, "messages", message_list(f, "messages"))),
        # The path of the best replies.
        Shape(TREE, {"message_tree_id", "prompt"}, lambda f: next(every_path(f))[1]),
    ),
)


_SPEAKER = re.compile(r"(?:\A|\n\n)(Human|Assistant):")


def preferred(prompt: Prompt, rejected: str, chosen: str) -> Chain:
    """Return a pair as a chain of two steps."""
    steps = (Step(answer=rejected), Step(answer=chosen))
    return Chain(prompt=prompt, steps=steps, best=1, meta={"preference": True})


def chosen_rejected(fields: Fields) -> Chain:
    """Read `chosen` and `rejected`: two HH-RLHF dialogues, two message lists, or two answers to `prompt`.

    Instead of `prompt`, a record may have `instruction` and, optionally, `input`.
    """
    if isinstance(fields.rest["chosen"], list):
        return _message_lists(fields)
    chosen, rejected = fields.text("chosen"), fields.text("rejected")
    if isinstance(fields.rest.get("prompt"), list):
        return preferred(asked(message_list(fields, "prompt")), rejected, chosen)
    if "prompt" in fields.rest:
        return preferred(Prompt(instruction=fields.text("prompt")), rejected, chosen)
    if "instruction" in fields.rest:
        more = fields.text("input") if "input" in fields.rest else ""
        return preferred(Prompt(instruction=fields.text("instruction"), input=more), rejected, chosen)
    # A sampled answer may continue the dialogue for both speakers. It stays one text, as it was judged.
    ours, theirs = _turns(fields, "chosen", chosen), _turns(fields, "rejected", rejected)
    same = _shared([turn for turn, _ in ours], [turn for turn, _ in theirs])
    for name, turns in (("chosen", ours), ("rejected", theirs)):
        if turns[same][0]["role"] != "assistant":
            fields.fail(name, "should first differ from the other dialogue in an assistant's turn")
    prompt = asked([turn for turn, _ in ours[:same]])
    return preferred(prompt, rejected[theirs[same][1] :].strip(), chosen[ours[same][1] :].strip())


def shp(fields: Fields) -> Chain:
    """Read SHP: two comments on a post, A and B. If `labels` is 1, A is preferred."""
    a, b, label = fields.text("human_ref_A"), fields.text("human_ref_B"), fields.number("labels")
    if label not in (0, 1):
        fields.fail("labels", "should be 0 or 1", label)
    rejected, chosen = (b, a) if label else (a, b)
    return preferred(Prompt(instruction=fields.text("history")), rejected, chosen)


def _message_lists(fields: Fields) -> Chain:
    before = message_list(fields, "prompt") if isinstance(fields.rest.get("prompt"), list) else []
    chosen, rejected = message_list(fields, "chosen"), message_list(fields, "rejected")
    question = {"role": "user", "content": fields.rest.get("prompt")}
    if "prompt" in fields.rest and chosen[:1] != [question]:
        before = [{**question, "content": fields.text("prompt")}]
    same = _shared(chosen, rejected)
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        if len(turns) != same + 1 or turns[-1]["role"] != "assistant":
            fields.fail(name, f"should add one assistant message to the shared messages (shared: {same})")
    if any(calls_of(last) or thoughts_of(last) or other_parts(last) for last in (chosen[-1], rejected[-1])):
        fields.rest |= {"chosen": chosen, "rejected": rejected}  # with the parts that are not text
    return preferred(asked([*before, *chosen[:same]]), content_of(rejected[-1]), content_of(chosen[-1]))


def _turns(fields: Fields, name: str, text: str) -> list[tuple[dict[str, Any], int]]:
    marks = list(_SPEAKER.finditer(text))
    if not marks or text[: marks[0].start()].strip():
        fields.fail(name, r"should have turns that begin with '\n\nHuman: ' and '\n\nAssistant: '", text)
    return [
        ({"role": _ROLES[mark[1].lower()], "content": text[mark.end() : end].strip()}, mark.end())
        for mark, end in zip(marks, [mark.start() for mark in marks[1:]] + [len(text)], strict=True)
    ]


def _shared(ours: Sequence[Any], theirs: Sequence[Any]) -> int:
    most = min(len(ours), len(theirs)) - 1
    return next((i for i in range(max(most, 0)) if ours[i] != theirs[i]), max(most, 0))


_PAIR = "a pair of answers (redraft train reward reads pairs, redraft data import turns them into chains)"

_CHOSEN = Shape("chosen and rejected", {"chosen"}, chosen_rejected, _PAIR)
PAIRS = Format(order=1, shapes=(_CHOSEN, Shape("SHP", {"human_ref_A"}, shp, _PAIR)))
