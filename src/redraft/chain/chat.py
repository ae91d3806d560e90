"""Render training texts with a model's own chat template, and put loss on the parts that the model writes.

Most templates do not mark what the model writes. So this module inserts a numbered mark into the middle of
each text, where templates that trim or compare texts do not notice the mark. In the rendered text, the marks
show the position of each text. A missing mark means that the template left a text out. A turn of the model
begins after the rendered prompt and ends with a control token. If the template changes a turn once a later
message follows, for example by dropping thoughts, the turn carries no loss. Control tokens spelled out in a
text stay text: a `BREAK` in the middle hides them from the template and from the search for control tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, NamedTuple

from redraft.chain import THOUGHTS, Chain, calls_of, content_of, thoughts_of
from redraft.chain.loss_mask import WHOLE, Span, asked_span, framed, is_learnt, known_turns, last_turn
from redraft.chain.texts import answer_message, tools_of
from redraft.chain.thoughts import apart, together
from redraft.errors import RecordError, UsageError
from redraft.jobs.formats import Objective

Message = dict[str, Any]
Messages = list[Message]
Place = tuple[int, int]  # start and end

Render = Callable[..., str]
"""Renders messages and `tools` as text. `answer_follows=True` adds the generation prompt.

Raises a RecordError if the template refuses the messages.
"""

BREAK = "\ufdd3"
_OPEN, _CLOSE = "\ufdd2", "\ufdd4"
_MARK = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")
_STRANGE = re.compile("[\ufdd0-\ufdd4]")
_TAGS = re.compile("</?think>")
_TAG_BEGUN = re.compile(r"<[^<>\s]*\Z")
_OPENING = "<think>"
_OTHER = "Choose another --format: vicuna and selfee need no chat template."
_CHANGED = "the model's chat template changes the messages"
_LEFT_OUT = "the model's chat template leaves out"
_ANSWER = "the assistant's messages"

_PROBE = f"a{_OPEN}0{_CLOSE}b"


def _probe(content: str | list[Message]) -> Messages:
    return [{"role": role, "content": content} for role in ("user", "assistant")]


@dataclass(frozen=True)
class ChatTemplate:
    """A model's chat template."""

    render: Render
    controls: tuple[str, ...]  # the texts of the control tokens

    @cached_property
    def found(self) -> re.Pattern[str]:
        """A pattern that matches control tokens."""
        return re.compile("|".join(map(re.escape, sorted(self.controls, key=len, reverse=True))) or r"(?!)")

    @cached_property
    def takes_parts(self) -> bool:
        """Whether the template needs message contents as lists of parts."""
        try:
            return _PROBE not in self.render(_probe(_PROBE))
        except RecordError:
            return True

    @cached_property
    def stop(self) -> str:
        """The control token after a plain answer.

        Raises:
            UsageError: The template leaves out answers, or writes no control token after an answer.
        """
        text = self.render(_probe(_in_parts(_PROBE) if self.takes_parts else _PROBE))
        if _PROBE not in text:
            raise UsageError(f"the model's chat template leaves out {_ANSWER}.", hint=_OTHER)
        if not (stop := self.found.search(text, text.rindex(_PROBE))):
            fault = "writes no control token after an answer, so a model would never learn to stop"
            raise UsageError(f"the model's chat template {fault}.", hint=_OTHER)
        return stop[0]

    @cached_property
    def opens_thoughts(self) -> bool:
        """Whether the template begins each answer with `<think>`."""
        text = self.render(_probe(_in_parts("a") if self.takes_parts else "a")[:1], answer_follows=True)
        return text.rstrip().endswith(_OPENING)


def chat_spans(chain: Chain, objective: Objective, template: ChatTemplate) -> list[Span]:
    """Return the spans of a conversation, rendered with the model's template.

    Raises:
        RecordError: The template refuses the messages, changes words, or leaves out a text.
    """
    own, asked_for = last_turn(chain, objective), known_turns(chain.prompt)
    given = answer_message(chain)
    if not is_learnt(given):
        own = [replace(span, trained=False) for span in own]
    answer = _without_thoughts(given) | {"role": "assistant", "content": "".join(span.text for span in own)}
    written = [*(dict(turn.message or {}) | turn.told for turn in asked_for), answer]
    single = sum(not span.stop for span in own) == 1  # one answer, not a chain of steps
    turns = [_apart(turn) if single or turn is not answer else turn for turn in written]
    in_fields = [*written, chain.meta.get("message") or {}]  # messages whose thoughts may be in fields
    failures: list[RecordError] = []
    for form in _FORMS if any(map(calls_of, turns)) else _FORMS[:1]:
        lay = partial(_Layout, template, tools=tools_of(chain), form=form)
        try:
            try:
                return lay(turns).spans(own, objective)
            except _LostThoughts:
                # For example, DeepSeek-R1's template never renders a message's thoughts.
                if template.opens_thoughts:
                    content = together(thoughts_of(turns[-1]).strip(), content_of(turns[-1]))
                    last = {**_without_thoughts(turns[-1]), "content": content}
                    return lay([*turns[:-1], last], hidden=True).spans(own, objective)
                if any(map(thoughts_of, in_fields)):
                    raise
                return lay(written).spans(own, objective)  # this template treats thoughts as text
        except RecordError as failure:
            failures.append(failure)
    raise failures[0]


class _LostThoughts(RecordError):
    """The template leaves out the thoughts of a turn."""


class _Form(NamedTuple):
    """A format of messages with tool calls. No template declares which format is required."""

    empty: str | None  # the content of a message that has calls but no text
    arguments_as_text: bool


_FORMS = tuple(_Form(empty, as_text) for as_text in (False, True) for empty in ("", None))


class _Text(NamedTuple):
    """A text of message number `turn`, or of a tool if `turn` is -1. The mark goes after `at` characters."""

    turn: int
    what: str
    text: str
    at: int


class _Leaf(NamedTuple):
    """The position of a text in the rendered text."""

    start: int
    end: int
    of: _Text
    exact: bool  # whether the template kept the text, except for white space at its ends


class _Layout:
    """Rendered messages, with the position of each text."""

    def __init__(
        self,
        template: ChatTemplate,
        messages: Sequence[Message],
        *,
        tools: Sequence[Message],
        form: _Form,
        hidden: bool = False,  # whether to hide the thought tags of the last message from the template
    ) -> None:
        self._template, self._form, self._hidden = template, form, hidden
        self._stop, self._last = template.stop, len(messages) - 1
        self._texts: list[_Text] = []
        self._given = messages
        self._answers = [turn for turn, message in enumerate(messages) if message["role"] == "assistant"]
        self._messages = [self._marked(number, message) for number, message in enumerate(messages)]
        self._tools = [self._marked_tool(tool) for tool in tools] or None
        self.text = self._render()
        if _MARK.sub("", self.text) != template.render(_bare(self._messages), tools=_bare(self._tools)):
            raise RecordError(_CHANGED)
        self.leaves = list(self._leaves())

    def _render(self, count: int | None = None, *, answer_follows: bool = False) -> str:
        return self._template.render(self._messages[:count], tools=self._tools, answer_follows=answer_follows)

    # The marks.

    def _plain(self, text: str) -> str:
        if strange := _STRANGE.search(text):
            raise RecordError(f"a text has U+{ord(strange[0]):04X}, which is not a character")
        return self._template.found.sub(_broken, text)

    def _mark(self, turn: int, what: str, text: str) -> str:
        text = self._plain(text)
        if self._hidden and turn == self._last:
            text = _TAGS.sub(_broken, text)
        if not (inner := text.strip()):
            return text
        at = text.index(inner) + (len(inner) + 1) // 2
        self._texts.append(_Text(turn, what, text, at))
        return f"{text[:at]}{_OPEN}{len(self._texts) - 1}{_CLOSE}{text[at:]}"

    def _marked(self, turn: int, message: Message) -> Message:
        calls = [self._call(turn, call) for call in calls_of(message)]
        thoughts = self._mark(turn, "thoughts", thoughts_of(message))
        rest = {key: value for key, value in message.items() if value is not None and key != "function_call"}
        made: Message = _mapped(rest, self._plain)
        role = message["role"]
        what = _ANSWER if role == "assistant" else f"a message with the role {role!r:.40}"
        content = self._mark(turn, what, content_of(message)) or (self._form.empty if calls else "")
        made["content"] = _in_parts(content) if self._template.takes_parts else content
        made |= {"tool_calls": calls} if calls else {}
        return made | (dict.fromkeys(THOUGHTS, thoughts) if thoughts else {})

    def _call(self, turn: int, call: Message) -> Message:
        function = call.get("function")
        inner = dict(function if isinstance(function, Mapping) else call)
        mark = partial(self._mark, turn, "a tool call")
        name = mark(str(inner.get("name") or ""))
        arguments: Any = inner.get("arguments") or {}
        with suppress(ValueError, TypeError):
            found = json.loads(arguments)
            arguments = found if isinstance(found, dict) else arguments
        arguments = _mapped(arguments, mark, self._plain)
        if self._form.arguments_as_text and not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        given = {"id": self._plain(str(call["id"]))} if "id" in call else {}
        return {"type": "function", **given, "function": {"name": name, "arguments": arguments}}

    def _marked_tool(self, tool: Message) -> Message:
        made: Message = _mapped(tool, self._plain)
        function = tool.get("function")
        if isinstance(function, Mapping):
            texts = [key for key in ("name", "description") if isinstance(function.get(key), str)]
            made["function"] |= {key: self._mark(-1, "tools", function[key]) for key in texts}
        return made

    def _leaves(self) -> Iterator[_Leaf]:
        seen = set()
        for mark in _MARK.finditer(self.text):
            if (number := int(mark[1])) in seen:
                continue
            seen.add(number)
            of = self._texts[number]
            start, end = mark.span()
            left = _same(of.text[: of.at][::-1], self.text[max(0, start - of.at) : start][::-1])
            right = _same(of.text[of.at :], self.text[end : end + len(of.text) - of.at])
            exact = len(of.text.strip()) <= len(of.text[of.at - left : of.at + right])
            yield _Leaf(start - left, end + right, of, exact) if exact else _Leaf(start, end, of, exact)

    # What the model writes.

    def regions(self) -> dict[int, Place]:
        """Return the start and end of each turn of the model, without turns that the template rewrites."""
        found = {turn: region for turn in self._answers if (region := self._region(turn))}
        shown = {leaf.of for leaf in self.leaves}
        for text in self._texts:
            if text not in shown and (text.what != "thoughts" or text.turn in found):  # not a rewritten turn
                raise RecordError(f"{_LEFT_OUT} {text.what}")
        if self._last not in found:
            raise RecordError("the model's chat template changes earlier text when the last message is added")
        return found

    def _region(self, turn: int) -> Place | None:
        before = self._render(turn, answer_follows=True)
        if self._hidden:
            head, tag, tail = before.rpartition(_OPENING)
            before = f"{head}{_broken(tag)}{tail}" if tag else tail
        after = self._render(turn + 1) if turn < self._last else self.text
        own = [leaf for leaf in self.leaves if leaf.of.turn == turn]
        if not self._keeps(after, turn) or not own:
            return None
        earlier = max((leaf.end for leaf in self.leaves if leaf.of.turn < turn), default=0)
        if self.text.startswith(before):
            start = len(before)
        else:  # for example, the prompt opens thoughts, but the turn is a tool call
            start = len(_TAG_BEGUN.sub("", self.text[: min(_same(before, self.text), own[0].start)]))
        last = max(leaf.end for leaf in own)
        others = any(start < leaf.start < last and leaf.of.turn != turn for leaf in self.leaves)
        if others or start < earlier or self.text[start:last] != after[start:last]:
            return None
        end = self._end(turn, last)
        # gpt-oss's template ends earlier turns with a token that the model does not write.
        return start, end if self.text[last:end] == after[last:end] else last

    def _keeps(self, after: str, turn: int) -> bool:
        kept = {int(mark[1]) for mark in _MARK.finditer(after)}
        lost = [text for n, text in enumerate(self._texts) if text.turn == turn and n not in kept]
        if other := next((text.what for text in lost if text.what != "thoughts"), ""):
            raise RecordError(f"{_LEFT_OUT} {other}")
        if lost and (turn == self._last or not self._template.opens_thoughts):
            raise _LostThoughts(f"{_LEFT_OUT} thoughts")
        return not lost

    def _end(self, turn: int, at: int) -> int:
        later = (leaf.start for leaf in self.leaves if leaf.of.turn > turn and leaf.start >= at)
        limit = min(later, default=len(self.text))
        if (start := self.text.find(self._stop, at, limit)) >= 0:
            return start + len(self._stop)
        if found := self._template.found.search(self.text, at, limit):
            return found.end()
        raise RecordError("the model's chat template writes no control token after an answer")

    # The spans.

    def spans(self, own: Sequence[Span], objective: Objective) -> list[Span]:
        """Return the spans of the rendered text. `own` are the spans of the last message's content."""
        regions, last = self.regions(), self._last
        if any(leaf.of.turn == last and leaf.of.what == _ANSWER and not leaf.exact for leaf in self.leaves):
            raise RecordError(_CHANGED)
        frames = {turn: objective in WHOLE and is_learnt(self._given[turn]) for turn in regions}
        learnt = frames | {last: own[0].trained}
        spans: list[Span] = []
        beside: dict[int, bool] = {}
        ended = 0  # number of spans up to the end of the last content
        for start, end, turn, leaf in self._cuts(regions):
            text = _MARK.sub("", self.text[start:end])
            if turn is None:
                rewritten = leaf is not None and leaf.of.turn in self._answers and leaf.of.turn not in regions
                spans.append(replace(asked_span(_mended(text)), answer=rewritten) if leaf else framed(text))
            elif leaf is None:
                spans.append(Span(text, beside.get(turn, frames[turn]), control=True))
            else:
                says = leaf.of.what == _ANSWER
                content = [span for span in own if not span.stop] if turn == last and says else []
                if len(content) > 1:
                    spans += _parted(text, content)
                else:
                    spans.append(Span(_mended(text), learnt[turn], answer=says))
                beside[turn] = spans[-1].trained
                ended = len(spans) if turn == last else ended
        # After an unfinished answer, the stop token and the template's further text are left out.
        return spans if own[-1].stop else spans[:ended]

    def _cuts(self, regions: Mapping[int, Place]) -> Iterator[tuple[int, int, int | None, _Leaf | None]]:
        exact = [leaf for leaf in self.leaves if leaf.exact]
        places = [*regions.values(), *((leaf.start, leaf.end) for leaf in exact)]
        ordered = sorted({0, len(self.text), *(edge for place in places for edge in place)})
        spoken, texts = sorted((*place, turn) for turn, place in regions.items()), iter(exact)
        leaf = next(texts, None)
        for start, end in pairwise(ordered):
            while spoken and spoken[0][1] <= start:
                spoken.pop(0)
            while leaf and leaf.end <= start:
                leaf = next(texts, None)
            turn = spoken[0][2] if spoken and spoken[0][0] <= start else None
            yield start, end, turn, leaf if leaf and leaf.start <= start else None


def _parted(text: str, content: Sequence[Span]) -> Iterator[Span]:
    text = _mended(text)
    whole = "".join(span.text for span in content)
    begins = whole.find(text)
    if begins < 0:
        raise RecordError(_CHANGED)
    done = 0
    for span in content:
        start, end = max(begins, done), min(begins + len(text), done + len(span.text))
        done += len(span.text)
        if start < end:
            yield replace(span, text=whole[start:end])


def _apart(message: Message) -> Message:
    if message["role"] != "assistant" or thoughts_of(message):
        return message
    thoughts, content = apart(content_of(message))
    return {**message, "content": content, THOUGHTS[0]: thoughts} if thoughts else message


def _without_thoughts(message: Message) -> Message:
    return {key: value for key, value in message.items() if key not in THOUGHTS}


def _broken(text: str | re.Match[str]) -> str:
    text = text if isinstance(text, str) else text[0]
    return f"{text[:1]}{BREAK}{text[1:]}"


def _mended(text: str) -> str:
    return text.replace(BREAK, "")


def _same(one: str, other: str) -> int:
    most = min(len(one), len(other))
    return next((k for k in range(most) if one[k] != other[k]), most)


def _mapped(value: Any, change: Callable[[str], str], names: Callable[[str], str] | None = None) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {(names or change)(key): _mapped(inner, change, names) for key, inner in value.items()}
    return [_mapped(inner, change, names) for inner in value] if isinstance(value, list | tuple) else value


def _bare(value: Any) -> Any:
    return _mapped(value, lambda text: _MARK.sub("", text))


def _in_parts(content: str | None) -> list[Message]:
    return [{"type": "text", "text": content}] if content else []
