"""Chains as others read them: SelFee's and Alpaca's records, conversations, messages, preference pairs.

What is written can be read back (`formats.records`), and written again from that it is the same. Each format
holds less than a chain; its function says what is lost. A chain that a format cannot hold is left out, with
the reason. Texts are written as they are: cleaning is not done here.

What has a gold answer and no other, such as a problem of mathematics, is written with that as its answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, Literal, NamedTuple

from redraft.chain import Chain, content_of
from redraft.collect.clean.dropped import Drop
from redraft.collect.read.records import Line, chain_in
from redraft.collect.view.text import answer_of
from redraft.collect.view.turns import turns_of
from redraft.formats.read.conversations import asks
from redraft.formats.read.files import to_line
from redraft.formats.read.records import Ids, to_selfee_chain
from redraft.formats.selfee import instruction_of

Format = Literal["selfee", "alpaca", "sharegpt", "messages", "preference"]

Record = dict[str, Any]


@dataclass(frozen=True)
class Unfit:
    """Why a format cannot hold a chain: the rule that leaves it out, and the reason in words."""

    rule: str
    reason: str


NO_QUESTION = Unfit("no-question", "there is no question")
NO_ANSWER = Unfit("no-answer", "there is no answer to write")
NOT_TEXT = Unfit("not-text", "a message with more than a text, such as a picture, or the call of a tool")
NO_PAIR = Unfit("no-pair", "the best answer is the first one, or says the same")

_SELFEE = ("iteration_truncated", "output", "instruction", "input", "iteration", "outputs", "dataset")
_SPEAKERS = {"user": "human", "assistant": "gpt", "system": "system"}


def to_selfee(chain: Chain) -> Record | Unfit:
    """A record of SelFee's training data, as JSON lines. Its own fields come back as they were.

    Lost: the id; who spoke in a prompt of several messages, which becomes one text; verdicts (they are read
    from the feedback anew), checks and which answer is best; cost, model and settings; all other `meta`.
    """
    if not any(step.answer.strip() for step in chain.steps):
        return NO_ANSWER
    if _shows(chain):
        return NOT_TEXT
    record = to_selfee_chain(chain)
    dataset = _origin(chain).get("dataset")
    if "dataset" not in record and isinstance(dataset, str):
        record["dataset"] = dataset
    return {name: record[name] for name in _SELFEE if name in record}


def to_alpaca(chain: Chain) -> Record | Unfit:
    """A record of Alpaca's, in a JSON array. The output is the best answer, else the gold one.

    Lost: all but the prompt as one text with its input, and that answer, which is read back as a gold answer.
    """
    output = answer_of(chain)
    if not output:
        return NO_ANSWER
    if _shows(chain):
        return NOT_TEXT
    extra = "" if chain.prompt.messages else chain.prompt.input
    return {"instruction": instruction_of(chain.prompt), "input": extra, "output": output}


def to_sharegpt(chain: Chain) -> Record | Unfit:
    """A conversation of ShareGPT's form, in a JSON array. It ends in the best answer, else the gold one.

    Lost: all but the id and what is said: drafts, feedback, fields of turns, where an input began; names of
    speakers such as bard. A conversation with a tool or a picture is left out.
    """
    turns = turns_of(chain.model_copy(update={"steps": ()}))
    if strange := next((turn.role for turn in turns if turn.role not in _SPEAKERS), None):
        return Unfit("role", f"a turn of the role {strange!r:.40}, which conversations of this form lack")
    answer = answer_of(chain)
    if not answer:
        return NO_ANSWER
    if _shows(chain):
        return NOT_TEXT
    said = [{"from": _SPEAKERS[turn.role], "value": turn.text} for turn in turns]
    return {"id": _id(chain), "conversations": [*said, {"from": "gpt", "value": answer}]}


def to_messages(chain: Chain) -> Record | Unfit:
    """The messages of a chat, as JSON lines. They end in the best answer, else the gold one.

    Lost: drafts, feedback, where an input began, cost, model and settings, and of `meta` all but the tools
    that may be called and what the answer's message has beside its text; on reading, what that of a single
    question has.
    """
    messages, answer = _asked(chain), answer_of(chain)
    if not all(isinstance(each.get("role"), str) for each in messages):
        return Unfit("role", "a message without a role")
    if not answer:
        return NO_ANSWER
    said = {**_message_of(chain), "role": "assistant", "content": answer}
    return {"id": _id(chain), "messages": [*messages, said], **_tools(chain)}


def to_preference(chain: Chain) -> Record | Unfit:
    """A pair for preference training, as JSON lines: the first answer is rejected, the best is chosen.

    `prompt`, `chosen` and `rejected` are lists of messages, as TRL's trainers take them. Lost: answers
    between the two, all feedback, cost, model, settings and `meta`.
    """
    if not chain.best or chain.steps[0].answer.strip() == chain.answer.strip():
        return NO_PAIR if chain.steps else NO_ANSWER
    chosen, rejected = chain.answer, chain.steps[0].answer
    return {
        "id": _id(chain),
        "prompt": _asked(chain),
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        **_tools(chain),
    }


MAKERS: dict[Format, Callable[[Chain], Record | Unfit]] = {
    "selfee": to_selfee,
    "alpaca": to_alpaca,
    "sharegpt": to_sharegpt,
    "messages": to_messages,
    "preference": to_preference,
}

ARRAYS: frozenset[Format] = frozenset({"alpaca", "sharegpt"})
"""The formats that are one JSON array, as they were published. The others have a record a line."""


Loss = Literal["turns", "tools", "fields"]
"""Part of a chain that a record is written without: who said what, the tools, other fields of messages."""

_LOSSES: dict[Format, frozenset[Loss]] = {
    "selfee": frozenset({"turns", "tools", "fields"}),
    "alpaca": frozenset({"turns", "tools", "fields"}),
    "sharegpt": frozenset({"tools", "fields"}),
    "messages": frozenset(),
    "preference": frozenset(),
}
"""What a format cannot hold though a chain may have it."""


class Exported(NamedTuple):
    """A record in another format, as JSON with a line feed.

    Attributes:
        own: The id that it is written with; None where the format has none.
        id: That of the chain.
        lost: Parts of the chain that the format cannot hold.
    """

    data: bytes
    own: str | int | None
    id: str
    lost: frozenset[Loss] = frozenset()


def export_line(line: Line, *, to: Format, strict: bool) -> Exported | Drop:
    """A record of a file in another format, or why it is left out.

    Raises:
        RecordError: With `strict`, it cannot be read.
    """
    chain = chain_in(line, strict=strict)
    if isinstance(chain, Drop):
        return chain
    record = MAKERS[to](chain) if asks(chain.prompt) else NO_QUESTION
    if isinstance(record, Unfit):
        return Drop(record.rule, record.reason, line.where, chain.id, chain.model_dump(mode="json"))
    return Exported(to_line(record), record.get("id"), chain.id, _LOSSES[to] & _parts(chain))


def _parts(chain: Chain) -> set[Loss]:
    """Return the parts that a chain has, of those that a format may lose."""
    asked = chain.prompt.messages or ()
    has_fields = any(
        value not in (None, "")
        for message in (*asked, _message_of(chain))
        for name, value in message.items()
        if name not in ("role", "content")
    )
    found: dict[Loss, bool] = {"turns": len(asked) > 1, "tools": bool(_tools(chain)), "fields": has_fields}
    return {name for name, held in found.items() if held}


def with_unique_ids(records: Iterable[Exported]) -> Iterator[bytes]:
    """The records. One whose id another had in its own file too is written with the id of its chain."""
    ids = Ids()
    for each in records:
        own = str(each.own)
        name = own if each.own is None else ids.new(own)
        if name == own:
            yield each.data
        else:
            name = name if each.id == own else ids.new(each.id)
            yield to_line({**json.loads(each.data), "id": name})


def write_records(sink: IO[bytes], records: Iterable[bytes], *, array: bool) -> int:
    """Writes records of a line each, as they come, and says how many. An array has a record a line too."""
    count = 0
    for count, record in enumerate(records, start=1):
        if array:
            sink.write((b"[\n" if count == 1 else b",\n") + record.removesuffix(b"\n"))
        else:
            sink.write(record)
    if array:
        sink.write(b"\n]\n" if count else b"[]\n")
    return count


def _asked(chain: Chain) -> list[dict[str, Any]]:
    """The prompt's messages as they are, but for a content that no message can have."""
    if chain.prompt.messages is None:
        return [{"role": "user", "content": chain.prompt.text}] if chain.prompt.text else []
    return [
        message
        if isinstance(message.get("content"), str | list | None)
        else {**message, "content": content_of(message)}
        for message in chain.prompt.messages
    ]


def _shows(chain: Chain) -> bool:
    """Whether a message has more than a text that a model is to see: a picture, or the call of a tool."""
    asked = chain.prompt.messages or ()
    return any(
        message.get("tool_calls")
        or any(isinstance(part, Mapping) and "text" not in part for part in _parts_of(message))
        for message in (*asked, _message_of(chain))
    )


def _parts_of(message: Mapping[str, Any]) -> list[Any]:
    content = message.get("content")
    return content if isinstance(content, list) else []


def _message_of(chain: Chain) -> dict[str, Any]:
    """What the answer's message was, where it had more than a text."""
    message = chain.meta.get("message")
    return message if isinstance(message, dict) else {}


def _tools(chain: Chain) -> Record:
    """The tools that may be called, where the record named them."""
    source = chain.meta.get("source")
    tools = source.get("tools") if isinstance(source, dict) else None
    return {"tools": tools} if tools else {}


def _id(chain: Chain) -> str | int:
    """The id that a record had where it was published, if it is only the file's name that was put before."""
    source = chain.meta.get("source")
    own = source.get("id") if isinstance(source, dict) else None
    if isinstance(own, bool) or not isinstance(own, str | int) or own == "":
        return chain.id
    return own if chain.id.endswith(f"/{own}") else chain.id


def _origin(chain: Chain) -> dict[str, Any]:
    origin = chain.meta.get("origin")
    return origin if isinstance(origin, dict) else {}
