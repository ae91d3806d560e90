"""An engine that returns canned replies and faults, for tests without a model.

    engine = ScriptedEngine(["A first answer.", "Too short. Revision is needed.", "A longer answer."])

Replies are used in order, for chats and raw text, and start again after the last reply. Text is cut into
pieces of any size. A token is a character, and a token id is a code point. A `ScriptedReply` may fail or call
tools. `calls` records every call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from typing import Any, Literal, cast

from redraft.chain import Finish, content_of
from redraft.chain.read.files import decode, read_lines
from redraft.chain.thoughts import Splitter
from redraft.engines import base
from redraft.engines.base import Delta, EngineInfo, Message, Price, PromptText, Replies, Sampling, Tokens
from redraft.errors import ContextError, EngineError, RecordError, ServerError, UsageError, shown
from redraft.options import OptionModel, option


@dataclass(frozen=True)
class ScriptedReply:
    """A canned reply that may fail, stall, be cut off or call tools.

    Attributes:
        error: The error to raise; None for a reply that ends with `finish`.
        stall: Seconds of silence after the text.
        tool_calls: Calls of `Sampling.tools`, as in an assistant message.
    """

    text: str = ""
    error: EngineError | None = None
    finish: Finish = "stop"
    stall: float = 0.0
    tool_calls: Sequence[dict[str, Any]] = ()

    def __post_init__(self) -> None:
        if wrong := [call for call in self.tool_calls if not isinstance(call.get("function"), dict)]:
            hint = '{"id": "1", "type": "function", "function": {"name": "search", "arguments": "{}"}}'
            raise UsageError(f"the scripted call {wrong[0]!r:.80} has no function.", hint=hint)


Call = PromptText | tuple[Message, ...]


@dataclass
class ScriptedEngine(base.Engine):
    """An engine that returns canned replies.

    Attributes:
        replies: Replies in order, or a function from a prompt (text or messages) to a reply. A reply is a
            text, which ends normally, or a `ScriptedReply`, which says how it ends.
        chunk: Characters per delta, or a sequence of lengths to cycle through.
        context: Length of the context in characters; None for no limit.
        delay: Seconds before each delta.
        resumes: Whether a reply may continue a given beginning of an answer.
        keeps_calls: Whether to record `calls`.
    """

    replies: Sequence[str | ScriptedReply] | Callable[[Call], str | ScriptedReply]
    chunk: int | Sequence[int] = 4
    context: int | None = None
    continues: bool = True
    token_ids: bool = True
    native: bool = False
    resumes: bool = False
    delay: float = 0.0
    name: str = "scripted"
    keeps_calls: bool = True
    price: Price | None = None
    calls: list[Call] = field(default_factory=list)
    _count: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if callable(self.replies):
            return
        several = isinstance(self.replies, Sequence) and not isinstance(self.replies, str)
        replies = self.replies if several else ()
        wrong = [each for each in replies if not isinstance(each, str | ScriptedReply)]
        if wrong or not several or not self.replies:
            found = shown(wrong[0] if wrong else self.replies) if self.replies else "no replies"
            raise UsageError(f"the scripted engine was given {found}.", hint='ScriptedEngine(["An answer."])')

    @property
    def info(self) -> EngineInfo:
        """The model and its capabilities."""
        return EngineInfo(
            name=self.name,
            engine="scripted",
            context=self.context,
            continues=self.continues,
            token_ids=self.token_ids,
            native=self.native,
            resumes=self.resumes,
            any_message=True,
            any_request=True,
            tools=True,
            price=self.price,
        )

    async def encode(self, text: str, *, special: bool = False) -> Tokens:  # noqa: ARG002  (has no special tokens)
        """Return the code points of the characters."""
        return tuple(map(ord, text))

    async def decode(self, tokens: Sequence[int]) -> str:
        """Return the characters of code points."""
        return "".join(map(chr, tokens))

    def stream(self, prompt: PromptText, sampling: Sampling, stop: Sequence[str] = ()) -> Replies:
        """Stream the next canned reply, whatever the prompt."""
        return self._reply(prompt, sampling, stop)

    def chat(self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str] = ()) -> Replies:
        """Stream the next canned reply, whatever the messages."""
        return base.thoughts_apart(self._reply(tuple(messages), sampling, stop), Splitter())

    def resume(
        self, asked: PromptText | Sequence[Message], sampling: Sampling, stop: Sequence[str], said: Tokens
    ) -> Replies:
        """Stream the rest of the first canned reply that begins with `said`, or else the next reply."""
        call = asked if isinstance(asked, str) else cast("Call", tuple(asked))
        return self._reply(call, sampling, stop, "".join(map(chr, said)))

    async def _reply(self, asked: Call, sampling: Sampling, stop: Sequence[str], begun: str = "") -> Replies:
        messages = [each for each in asked if isinstance(each, dict)] if isinstance(asked, tuple) else []
        length = len("".join(map(content_of, messages)) if messages else asked) + len(begun)
        if self.context is not None and length >= self.context:
            raise ContextError(length, self.context)
        canned = map(_reply_of, () if callable(self.replies) or not begun else self.replies)
        found = next((each for each in canned if each.text.startswith(begun)), None)
        reply = replace(found, text=found.text[len(begun) :]) if found else self._next(asked)
        most = sampling.max_tokens - len(begun)
        room = most if self.context is None else min(most, self.context - length)
        end, stop_text = base.first_stop(reply.text, stop) or (None, None)
        text = reply.text[:end]
        finish: Finish = "stop" if stop_text else reply.finish
        if len(text) > room:
            finish = "max_tokens" if room == most else "context"
            text, stop_text = text[:room], None
        logging.getLogger(__name__).debug("%s answers %r: %r", self.name, asked, text)
        for piece in self._pieces(text):
            await asyncio.sleep(self.delay)
            yield Delta(text=piece, tokens=tuple(map(ord, piece)) if self.token_ids else ())
        if reply.stall and not stop_text:
            await asyncio.sleep(reply.stall)
        if reply.error and not stop_text:
            raise reply.error
        count = len(text) + len(stop_text or "")
        last = Delta(prompt_tokens=length, cached_tokens=0, completion_tokens=count)
        yield replace(last, finish=finish, stop_text=stop_text, tool_calls=tuple(reply.tool_calls))

    def _next(self, asked: Call) -> ScriptedReply:
        number = self._count
        self._count += 1
        if self.keeps_calls:
            self.calls.append(asked)
        reply = self.replies(asked) if callable(self.replies) else self.replies[number % len(self.replies)]
        return _reply_of(reply)

    def _pieces(self, text: str) -> Iterator[str]:
        sizes, start = cycle([self.chunk] if isinstance(self.chunk, int) else list(self.chunk) or [1]), 0
        while start < len(text):
            size = max(1, next(sizes))
            yield text[start : start + size]
            start += size


def _reply_of(reply: str | ScriptedReply) -> ScriptedReply:
    return ScriptedReply(reply) if isinstance(reply, str) else reply


def read_script(path: Path) -> ScriptedEngine:
    """Read a script: one reply per line, as a JSON string or as an object with the fields of `ScriptedReply`.

    An object with `settings` sets the engine's `delay` and `chunk`.
    """
    settings: dict[str, Any] = {}
    replies: list[str | ScriptedReply] = []
    try:
        records = [(where, decode(line, where)) for where, line in read_lines(path)]
    except RecordError as error:
        raise RecordError(error.message, hint=_SCRIPT_HINT) from None
    for where, record in records:
        if isinstance(record, dict) and "settings" in record:
            settings = _read(record["settings"], _ScriptSettings, where)
        elif isinstance(record, str):
            replies.append(record)
        else:
            reply = _read(record, _ScriptReply, where)
            broken = reply.pop("error", None)
            replies.append(ScriptedReply(**reply, error=ServerError(broken) if broken else None))
    if not replies:
        raise RecordError(f"{path}: the script has no replies.", hint=_SCRIPT_HINT)
    return ScriptedEngine(replies, name=path.stem, keeps_calls=False, **settings)


_SCRIPT_HINT = 'Write one reply per line, as a JSON string: "An answer." Quote a reply that is itself JSON.'


class _ScriptSettings(OptionModel):
    delay: float | None = option("", ge=0)
    chunk: int | list[int] | None = option("", what="a whole number, or a list of them")


class _ScriptReply(OptionModel):
    text: str | None = option("")
    error: str | None = option("")
    finish: Literal["stop", "max_tokens", "context", "filtered"] | None = option("")
    stall: float | None = option("", ge=0)
    tool_calls: list[dict[str, Any]] | None = option("")


def _read(record: object, group: type[OptionModel], where: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        message = f"{where}: a reply must be a string or an object, not {record!r:.60}."
        raise RecordError(message, hint=_SCRIPT_HINT)
    try:
        return group.read(record, where=f"{where}: ").explicit
    except UsageError as error:
        raise RecordError(error.message, hint=f"{error.hint}\n{_SCRIPT_HINT}") from None
