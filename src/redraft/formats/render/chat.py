"""Render training texts with a model's own chat template, and put loss on the assistant's texts.

Most templates do not mark the assistant's text, so its places are found here. The template is rendered with a
marker in place of each message. The model writes everything from the end of an answer's prompt to the first
control token after the marker. Messages then replace their markers, so control tokens that they spell out
stay text. The result must equal the template's own rendering of the messages, or the record is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from redraft.chain import Chain
from redraft.errors import RecordError, UsageError
from redraft.formats import Objective
from redraft.formats.render.loss_mask import WHOLE, Span, answered, asked, framed, known_turns, last_turn
from redraft.formats.texts import Turn

Messages = list[dict[str, str]]


Render = Callable[..., str]
"""Renders messages of `role` and `content`, and with `answer_follows=True` the prefix of an answer.

A template that refuses them raises a RecordError.
"""


_SPACE = "\u2003"  # white space that no template writes. If a marker lost it, the template trims messages.

_MARK = re.compile(f"({_SPACE}?)\ufdd0([0-9]+)\ufdd1({_SPACE}?)")
_OTHER = "Choose another --format: vicuna and selfee need no chat template."


@dataclass(frozen=True)
class _Place:
    """The place of message `number`, and the ends at which the template keeps white space."""

    number: int
    keeps_start: bool
    keeps_end: bool


@dataclass(frozen=True)
class _Frame:
    """Text that the template writes; `spoken` if it belongs to the assistant's text."""

    text: str
    spoken: bool = False


_Layout = list[_Place | _Frame]

_SILENT = "the model's chat template leaves out the assistant's messages."
_REWRITES = (
    "the model's chat template changes earlier text when a later message comes, so it is unknown which words "
    "a model would write."
)
_ENDLESS = (
    "the model's chat template writes no control token after an answer, so a model would never learn to stop."
)
_ONE_TURN = "Train on conversations of one question and one answer, without a system message."


@dataclass(frozen=True)
class ChatTemplate:
    """A model's template with its cached layouts."""

    render: Render
    controls: tuple[str, ...]  # the texts of the control tokens
    _layouts: dict[tuple[str, ...], _Layout] = field(default_factory=dict, repr=False, compare=False)

    def layout(self, roles: tuple[str, ...]) -> _Layout:
        """Return the text around messages of these roles, which end with the assistant's.

        Raises:
            UsageError: The template leaves out the assistant's messages, does not end them with a control
                token, or changes earlier text when a later message comes.
        """
        if roles not in self._layouts:
            if len(self._layouts) >= _MANY:
                self._layouts.clear()
            self._layouts[roles] = list(self._learn(roles))
        return self._layouts[roles]

    def _learn(self, roles: tuple[str, ...]) -> Iterator[_Place | _Frame]:
        marked = [
            {"role": role, "content": f"{_SPACE}\ufdd0{i}\ufdd1{_SPACE}"} for i, role in enumerate(roles)
        ]
        done = after = ""
        for i, role in enumerate(roles):
            if role != "assistant":
                continue
            before = self.render(marked[:i], answer_follows=True)
            after = self.render(marked[: i + 1])
            if not before.startswith(done) or not after.startswith(before):
                raise UsageError(_REWRITES, hint=f"{_ONE_TURN} {_OTHER}")
            found = _MARK.search(after, len(before))
            if found is None:
                raise UsageError(_SILENT, hint=_OTHER)
            stops = ((after.find(token, found.end()), -len(token)) for token in self.controls)
            if not (known := [stop for stop in stops if stop[0] >= 0]):
                raise UsageError(_ENDLESS, hint=_OTHER)
            at, length = min(known)  # the first, and of several there the longest
            yield from _split(before[len(done) :])
            yield _Frame(after[len(before) : found.start()], spoken=True)
            yield _place(found)
            yield _Frame(after[found.end() : at - length], spoken=True)
            done = after[: at - length]
        yield _Frame(after[len(done) :])


_MANY = 1024  # cached layouts: a file may have conversations of many lengths


def chat(chain: Chain, objective: Objective, template: ChatTemplate) -> list[Span]:
    """Render a conversation with the model's template."""
    last = last_turn(chain, objective)
    turns = answered(known_turns(chain.prompt), last)
    if last:
        turns.append(Turn("assistant", "".join(span.text for span in last)))
    spans: list[Span] = []
    for part in template.layout(tuple(turn.role for turn in turns)):
        if isinstance(part, _Place):
            own = last if last and part.number == len(turns) - 1 else None
            spans += _placed(part, turns[part.number], own, objective)
        elif part.spoken and part.text:  # trained like the assistant's text beside it
            beside = spans[-1].trained if spans and not spans[-1].given else objective in WHOLE
            spans.append(Span(part.text, beside, control=True))
        elif part.text:
            spans.append(framed(part.text))
    rendered = template.render([{"role": turn.role, "content": turn.text} for turn in turns])
    if rendered != "".join(span.text for span in spans):
        raise RecordError("the model's chat template changes the messages")
    if last and not last[-1].stop:  # an unfinished answer has no stop token, nor what the template adds
        return spans[: 1 + max(i for i, span in enumerate(spans) if not span.given and not span.control)]
    return spans


def _place(mark: re.Match[str]) -> _Place:
    return _Place(int(mark[2]), keeps_start=bool(mark[1]), keeps_end=bool(mark[3]))


def _placed(place: _Place, turn: Turn, own: Sequence[Span] | None, objective: Objective) -> list[Span]:
    """Return a message's spans; `own` are the spans of the last one."""
    if turn.role != "assistant":
        return [asked(_trimmed(turn.text, place))]
    if own is None:
        return [Span(_trimmed(turn.text, place), trained=objective in WHOLE, answer=True)]
    spans = [span for span in own if not span.stop]
    if not place.keeps_start:
        spans[0] = replace(spans[0], text=spans[0].text.lstrip())
    if not place.keeps_end:
        spans[-1] = replace(spans[-1], text=spans[-1].text.rstrip())
    return spans


def _trimmed(text: str, place: _Place) -> str:
    text = text if place.keeps_start else text.lstrip()
    return text if place.keeps_end else text.rstrip()


def _split(text: str) -> Iterator[_Place | _Frame]:
    done = 0
    for found in _MARK.finditer(text):
        yield _Frame(text[done : found.start()])
        yield _place(found)
        done = found.end()
    yield _Frame(text[done:])
