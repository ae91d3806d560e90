"""Turn the events of a chain into the objects of OpenAI's API.

Drafts and feedback are reasoning, and the best answer is content. Sent content cannot be taken back, so only
a text that is certain to be the answer is streamed as content. Any other text is streamed as reasoning, and
the best answer follows as content at the end.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, ClassVar, Literal, NamedTuple

from redraft.chain import Chain, Feedback, Finish, Step, Usage, has_answer
from redraft.chain.thoughts import apart, together
from redraft.checks.json_reading import text_of
from redraft.engines.remote.wire import estimated_counts
from redraft.revision.calls import NONE
from redraft.revision.ops import DraftDone, Event, Finished, Interrupted, Progress, StepDone, Text, Thought
from redraft.revision.state import complete_drafts, complete_steps
from redraft.revision.words import written
from redraft.serve.errors import Refusal
from redraft.serve.logprobs import of_chat
from redraft.serve.requests import Accepted

_log = logging.getLogger(__name__)

FINISHES: Mapping[Finish, str] = {"stop": "stop", "filtered": "content_filter"}
"""OpenAI's `finish_reason` by redraft's `finish`. All others become `length`: the answer was cut."""

DONE = b"data: [DONE]\n\n"
BROKEN_OFF = "\n\n(This text broke off, and is written again.)"
PING = b": still at work\n\n"


class Piece(NamedTuple):
    """New text of an answer's message."""

    field: Literal["reasoning_content", "content"]
    text: str


Place = tuple[str, int, int]
"""The position of a text in a chain: its kind, its index, and the number of drafts before the text."""


def _heading(place: Place) -> str:
    kind, index, _ = place
    if kind == "thought":
        return ""
    return "Feedback:\n" if kind == "feedback" else f"Revision {index}:\n" if index else "Draft:\n"


@dataclass
class AnswerMessage:
    """The assistant message made from one chain."""

    sure: bool  # the first answer is certain to be the final one
    begins: re.Pattern[str] | None  # the pattern for the answer's beginning, if it must be JSON
    checked: bool  # the request or its model has checks
    chain: Chain | None = None
    _counted: Usage = field(default_factory=Usage)
    _pieces: int = 0
    _sections: list[tuple[Place, list[str]]] = field(default_factory=list)
    sent: str = ""  # the part of the answer that was sent
    _held: str = ""
    _whole: bool = False  # the JSON has ended
    _depth: int = 0  # how deep its brackets are nested
    _quoted: bool = False  # inside a string of the JSON
    _escaped: bool = False
    _drafts: int = 0
    _tokens: dict[str, int] = field(default_factory=dict)
    _thought: bool = False

    def take(self, event: Event) -> Iterator[Piece]:
        """Process an event of the chain, and yield the new text of the message."""
        if isinstance(event, Text) and event.kind != "patch":  # the patched answer comes at the end
            live = self.sure and event.kind == "answer"
            yield from self._answer(event.text) if live else self._think(event)
        elif isinstance(event, Thought):
            yield from self._think(event)
        elif isinstance(event, DraftDone):
            self._drafts += 1
        elif isinstance(event, StepDone) and event.step.feedback is not None:
            calls, said = written("", event.step.tool_calls), _said_by_checks(event.step.feedback)
            said = f"{calls}\n{said}" if calls and said else said
            if said and not (calls and self._sections and self._sections[-1][1] == [said]):  # not twice
                yield from self._think(Text("feedback", event.index, said))
        elif isinstance(event, Interrupted):
            _log.warning("a reply broke off, but the chain continues: %s", event.error.for_log)
            yield from self._begin_again(event.chain)
        elif isinstance(event, Finished):
            self.chain, answer = event.chain, final_answer(event.chain)
            if answer.startswith(self.sent) and (rest := answer[len(self.sent) :]):
                yield Piece("content", rest)
        self._count(event)

    def streamed(self, event: Event) -> Iterator[Piece]:
        """Process an event, and yield the new text for a client.

        Raises:
            EngineError: The answer has to restart, but a part was already sent.
        """
        if isinstance(event, Interrupted) and self.sent:
            raise event.error
        yield from self.take(event)

    def _begin_again(self, chain: Chain) -> Iterator[Piece]:
        self.sent, self._held, self._whole, self._depth, self._quoted = "", "", False, 0, False
        steps = complete_steps(chain)
        while self._sections:
            kind, index, drafts = self._sections[-1][0]
            if kind != "feedback":
                complete = index + drafts < len(steps) + len(complete_drafts(chain))
            else:
                complete = index < len(steps) and steps[index].feedback is not None
            if complete:
                break
            self._sections.pop()
        if self._thought:
            yield Piece("reasoning_content", BROKEN_OFF)

    def _think(self, event: Text | Thought) -> Iterator[Piece]:
        place = ("thought" if isinstance(event, Thought) else event.kind, event.index, self._drafts)
        if not self._sections or self._sections[-1][0] != place:
            between = "\n\n" if self._thought else ""
            self._sections.append((place, []))
            self._thought = True
            if begun := between + _heading(place):
                yield Piece("reasoning_content", begun)
        self._sections[-1][1].append(event.text)
        yield Piece("reasoning_content", event.text)

    def _answer(self, text: str) -> Iterator[Piece]:
        text = self._held + text
        text = text if self.sent else text.lstrip()
        begun = self.sent or not self.begins or self.begins.match(text)
        new = text.rstrip() if begun and not self._whole else ""
        new = new[: self._end_of_json(new)] if self.begins else new
        self._held = text[len(new) :]
        if new:
            self.sent += new
            yield Piece("content", new)

    def _end_of_json(self, text: str) -> int:
        for at, char in enumerate(text, start=1):
            if self._quoted:
                self._quoted = char != '"' or self._escaped
                self._escaped = char == "\\" and not self._escaped
            elif char in '"{}[]':
                self._quoted = char == '"'
                self._depth += (char in "{[") - (char in "}]")
                self._whole = not self._depth and not self._quoted
                if self._whole:
                    return at
        return len(text)

    def _count(self, event: Event) -> None:
        if isinstance(event, Text | Thought):
            self._pieces += 1
        elif isinstance(event, Progress | Finished):
            self._counted, self._pieces = event.chain.usage, 0
            for step in event.chain.steps:
                self._tokens.setdefault(step.answer, step.usage.completion_tokens)

    @property
    def finished(self) -> Chain:
        """The chain, which must be finished."""
        assert self.chain is not None  # noqa: S101  (`make` always ends with `Finished`)
        return self.chain

    @property
    def usage(self) -> Usage:
        """Usage of all attempts so far. Each piece after the last reported usage counts as one token."""
        return self._counted + Usage(completion_tokens=self._pieces)

    @property
    def reasoning(self) -> str:
        """The text that was streamed before the answer."""
        answer, said = final_answer(self.finished), [apart(self.sent + self._held)[0]]
        for number, (place, texts) in enumerate(self._sections, start=1):
            thoughts, text = apart("".join(texts).strip())  # for engines that do not separate thoughts
            repeats = text.strip() == answer and number == len(self._sections)
            said += [thoughts, "" if repeats else _heading(place) + text.strip()]
        return "\n\n".join(filter(None, said))

    @property
    def reasoning_tokens(self) -> int:
        """The number of tokens outside the final answer, which may be an estimate."""
        chain, step = self.finished, _final(self.finished)
        letters = len(step.answer) / max(len(step.answer + step.reasoning), 1)
        answer = round(self._tokens.get(step.answer, 0) * letters)
        if step.steered:
            answer = min(answer, estimated_counts({"prompt": step.answer}, 0).prompt)
        return max(chain.usage.completion_tokens - answer, 0)

    @property
    def finish_reason(self) -> str:
        """Why the answer ended, as OpenAI's `finish_reason`."""
        step = _final(self.finished)
        if _calls_cut(step):
            return "length"
        if step.tool_calls or step.complete:  # the criticism of a complete answer may have been cut
            return "tool_calls" if step.tool_calls else "stop"
        return FINISHES.get(step.finish, "length")

    @property
    def unmet(self) -> dict[str, Any]:
        """The field `unmet`: messages of failed checks of the final answer or tool call. {} without any."""
        found = _unmet(self.finished, checked=self.checked) + [CALLS_CUT] * _calls_cut(_final(self.finished))
        return {"unmet": found} if found else {}

    @property
    def tool_calls(self) -> tuple[dict[str, Any], ...]:
        """The tool calls of the answer."""
        return _final(self.finished).tool_calls

    def as_json(self, *, think_tags: bool = False) -> dict[str, Any]:
        """Return the whole message. With `think_tags`, thoughts are part of the content."""
        reasoning, answer = self.reasoning, final_answer(self.finished)
        answer = together(reasoning, answer).rstrip() if think_tags else answer
        calls = [dict(call) for call in self.tool_calls]
        content = answer or (None if calls else "")
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if reasoning and not think_tags:
            message["reasoning_content"] = reasoning
        if calls:
            message["tool_calls"] = calls
        return message


def _final(chain: Chain) -> Step:
    if chain.best is None and chain.steps and not has_answer(chain.steps):
        return next((step for step in chain.steps if step.checks), chain.steps[-1])
    return Step(answer="", finish="cancelled") if chain.best is None else chain.steps[chain.best]


CALLS_CUT = "The reply was cut at its token limit, so its answer or further tool calls may be missing."


def _calls_cut(step: Step) -> bool:
    return bool(step.tool_calls or not step.answer) and step.finish in ("max_tokens", "context")


def _unmet(chain: Chain, *, checked: bool) -> list[str]:
    step = _final(chain)
    late = chain.stop != "tool_calls" if step.tool_calls else checked and chain.stop == "budget"
    if late and not step.checks:
        return [f"The budget ran out before the {'call' if step.tool_calls else 'answer'} was checked."]
    failed = [check.message for check in step.checks if not check.passed]
    return [*dict.fromkeys((*failed, *(each["wish"] for each in chain.unchanged)))]


def final_answer(chain: Chain) -> str:
    """Return the final answer or, if JSON was asked for, only its JSON."""
    return text_of(chain, _final(chain).answer.strip())


def allowed(event: Event, asked: Accepted) -> Event | None:
    """Return the part of an event that a client may see, or None.

    If the model withholds failing answers, the client never sees drafts, thoughts or criticism.

    Raises:
        Refusal: The answer does not fit its schema, or a call does not fit its tool.
    """
    if isinstance(event, Finished):
        step = _final(event.chain)
        broken = [each for each in step.checks if not each.passed]
        if asked.withheld:
            if broken or not step.checks or step.finish != "stop":  # a cut answer may pass by chance
                bare = Step(answer=asked.withheld, finish="filtered")
            else:
                results = [each.model_copy(update={"message": ""}) for each in step.checks]
                accepted = Feedback(text="", verdict="accept", by="checks", checks=tuple(results))
                shown = {"answer": final_answer(event.chain), "reasoning": "", "feedback": accepted}
                bare = step.model_copy(update=shown)
            blank, last = Step(answer=""), event.chain.revisions  # for the log's count
            alone = {"drafts": (), "steps": (*[blank] * last, bare), "best": last}
            return Finished(event.chain.model_copy(update=alone))
        called = step.tool_calls or NONE in broken
        if asked.strict_tools and called and (wrong := _unmet(event.chain, checked=True)):
            message = f"the model's tool call stays wrong: {' '.join(wrong)}"
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "call_failed", message)
        if asked.strict and step.finish in ("stop", "lost") and not step.tool_calls:
            judged = next((each for each in step.checks if each.name == asked.strict), None)
            if judged is None or not judged.passed:
                why = judged.message if judged else "the budget ran out before it was checked."
                message = f"the answer does not fit the schema: {why}"
                raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "schema_failed", message)
    return None if asked.withheld and isinstance(event, Text | Thought | DraftDone | StepDone) else event


def _said_by_checks(feedback: Feedback) -> str:
    if feedback.by in ("checks", "person"):  # a person's wish is not part of the reasoning
        return feedback.text * (feedback.by == "checks")
    return "".join(f"\n{check.message}" for check in feedback.checks if not check.passed)


class Reply(ABC):
    """Builds the reply to one request, whole or streamed."""

    asked_in: ClassVar[str]  # the field of the request that contains the prompt
    kinds: ClassVar[tuple[str, str]] = ("", "")  # the `object` of a whole reply, and of a streamed piece

    def __init__(self, asked: Accepted, messages: Sequence[Any], prefix: str = "") -> None:
        self.asked, self.messages = asked, messages
        self._id, self._created = f"{prefix}{secrets.token_hex(12)}", int(time.time())

    @abstractmethod
    def whole(self) -> dict[str, Any]:
        """Return the whole reply."""

    @abstractmethod
    def events(self, index: int, event: Any) -> Iterator[bytes]:
        """Process an event of an answer, and yield the server-sent events."""

    def end(self) -> Iterator[bytes]:
        """Yield the end of a stream."""
        if self.asked.with_usage:
            yield event_of({**self._head(1), "choices": [], "usage": self._usage()})
        yield DONE

    def waiting(self) -> bytes:
        """Return the server-sent event for a request in the queue, or b"" without `include_steps`."""
        return b""

    def failed(self, refusal: Refusal) -> bytes:
        """Return the server-sent event of an error after the stream has begun."""
        return event_of(refusal.body)

    def _head(self, streamed: int = 0) -> dict[str, Any]:
        kind = self.kinds[streamed]
        return {"id": self._id, "object": kind, "created": self._created, "model": self.asked.model}

    def _piece(self, choice: dict[str, Any], **more: Any) -> bytes:
        usage = {"usage": None} if self.asked.with_usage else {}
        return event_of({**self._head(1), "choices": [choice], **usage, **more})

    def _usage(self) -> dict[str, Any]:
        return counts_of(sum((message.usage for message in self.messages), Usage()))


class ChatReply(Reply):
    """Builds the reply to one chat request, whole or streamed."""

    asked_in = "messages"
    kinds = ("chat.completion", "chat.completion.chunk")
    messages: Sequence[AnswerMessage]

    def __init__(self, asked: Accepted) -> None:
        how = (asked.sure, asked.begins, bool(asked.options.checks))
        super().__init__(asked, [AnswerMessage(*how) for _ in asked.inputs], "chatcmpl-")
        self._begun: set[int] = set()
        self._thinking: set[int] = set()  # the answers with an open `<think>`
        self._frames: dict[tuple[int, str], tuple[bytes, bytes]] = {}

    def whole(self) -> dict[str, Any]:
        """Return the whole reply."""
        choices = [
            {
                "index": index,
                "message": message.as_json(think_tags=self.asked.think_tags),
                "logprobs": self._new_logprobs(index),
                "finish_reason": message.finish_reason,
                **message.unmet,
            }
            for index, message in enumerate(self.messages)
        ]
        return {**self._head(), "choices": choices, "usage": self._usage(), **self._chain()}

    def events(self, index: int, event: Event) -> Iterator[bytes]:
        """Process an event of an answer's chain, and yield the server-sent events."""
        message, steps = self.messages[index], self.asked.with_steps
        if steps and (said := step_event(event, live=message.sure)):
            yield self._chunk(index, {"redraft": said})
        for piece in message.streamed(event):
            if not steps or piece.field == "content":
                yield from self._tagged(index, piece)
        if isinstance(event, Finished):
            if index in self._thinking:
                yield from self._tagged(index, Piece("content", ""))
            if message.tool_calls:
                calls = [{"index": number, **call} for number, call in enumerate(message.tool_calls)]
                yield self._chunk(index, {"tool_calls": calls})
            yield self._chunk(index, {}, message.finish_reason, **self._chain())

    def _tagged(self, index: int, piece: Piece) -> Iterator[bytes]:
        thinks, field, tags = piece.field != "content", piece.field, list[str]()
        if self.asked.think_tags:
            if thinks and self.messages[index].sent:  # thoughts must come before the content
                return
            field = "content"
            if thinks != (index in self._thinking):
                self._thinking ^= {index}
                tags = ["<think>", "\n"] if thinks else ["\n", "</think>", "\n\n" * bool(piece.text)]
        for text in filter(None, (*tags, piece.text)):
            yield self._said(index, Piece(field, text))

    def waiting(self) -> bytes:
        """Return the server-sent event for a request in the queue, or b"" without `include_steps`."""
        return self._chunk(0, {"redraft": {"type": "waiting"}}) if self.asked.with_steps else b""

    def _chain(self) -> dict[str, Any]:
        return {"redraft": json.loads(self.messages[0].finished.to_json())} if self.asked.with_chain else {}

    def _usage(self) -> dict[str, Any]:
        return usage_of(self.messages)

    def _new_logprobs(self, index: int) -> dict[str, Any] | None:
        return of_chat(self.asked.noted.take(index)[1]) if self.asked.noted else None

    def _said(self, index: int, piece: Piece) -> bytes:
        if index not in self._begun or self.asked.noted:
            return self._chunk(index, {piece.field: piece.text})
        place = (index, piece.field)
        if place not in self._frames:
            empty = f'"{piece.field}": "'.encode()
            before, _, after = self._chunk(index, {piece.field: ""}).partition(empty + b'"')
            self._frames[place] = (before + empty[:-1], after)
        before, after = self._frames[place]
        return before + _encode(piece.text).encode() + after

    def _chunk(self, index: int, delta: Mapping[str, Any], finish: str | None = None, **more: Any) -> bytes:
        if index not in self._begun:
            self._begun.add(index)
            delta = {"role": "assistant", **delta}
        logprobs = self._new_logprobs(index)
        unmet = self.messages[index].unmet if finish else {}
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish, **unmet}
        return self._piece(choice, **more)


def step_event(event: Event, *, live: bool) -> dict[str, Any] | None:
    """Return an event of a chain as JSON for clients that show the steps, or None for events without a step.

    Set `live` if the text of the answer is streamed as content.
    """
    match event:
        case Text("patch", index, text):
            return {"type": "patch", "index": index, "text": text, "place": event.place}
        case Text(kind, index, text) if not (live and kind == "answer"):
            return {"type": "text", "kind": kind, "index": index, "text": text}
        case Thought(kind, index, text):
            return {"type": "thought", "kind": kind, "index": index, "text": text}
        case DraftDone(index, step):
            return {"type": "draft", "index": index, "step": step.model_dump(mode="json")}
        case StepDone(index, step):
            return {"type": "step", "index": index, "step": step.model_dump(mode="json")}
        case Interrupted(kept):
            return {"type": "again", "steps": len(complete_steps(kept)), "drafts": len(complete_drafts(kept))}
    return None


_encode = json.JSONEncoder(ensure_ascii=False).encode


def event_of(record: Mapping[str, Any]) -> bytes:
    """Return a JSON object as a server-sent event."""
    return b"data: " + _encode(record).encode() + b"\n\n"


def usage_of(messages: Sequence[AnswerMessage]) -> dict[str, Any]:
    """Return the usage of all attempts of all answers, in the format of chat completions."""
    thought = sum(message.reasoning_tokens for message in messages)
    used = sum((message.finished.usage for message in messages), Usage())
    return {**counts_of(used), "completion_tokens_details": {"reasoning_tokens": thought}}


def counts_of(used: Usage) -> dict[str, Any]:
    """Return token counts as OpenAI's `usage` object."""
    return {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.prompt_tokens + used.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": used.cached_tokens},
    }
