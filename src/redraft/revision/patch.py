"""A revision that writes only what failed: the sentence, item or line, or the value of an object.

Checks say where (`CheckResult.places`). What stands outside such a place is kept to the byte. An engine that
goes on with an answer (`EngineInfo.resumes`) writes on behind what stands before a place, and does not read
what stands behind it; a text that was ended at a fault goes on from there to its end. Any other engine is
shown the answer and its faulty parts by number, and asked for these anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from redraft.chain import Finish, Place, Step, Usage
from redraft.checks.json_reading import NotJson, keys_of, pointer, read_json, span_of
from redraft.checks.schema import list_of_one
from redraft.engines.base import Message
from redraft.engines.messages import joined
from redraft.engines.steering.draft import LONG, ends_of, segment_of
from redraft.engines.steering.form import Form
from redraft.revision import ops, prompts
from redraft.revision import stop as rules
from redraft.revision.state import State

TRIES = 4
ROOM = 48
"""Tokens that a new sentence or value may have, and half as many as the old one has characters. Each try
has twice as many."""
_MARK = re.compile(r"^[ \t*]*\[(\d{1,3})\][*:]*[ \t]*", re.M)


@dataclass(frozen=True)
class Edit:
    """What is written anew: the characters from `begin` to `end` of an answer.

    Attributes:
        lead: What comes before it: the name of a property that is missing.
        pointer: Points to the value; None for a piece of text.
        schema: That of a list with the value.
        open: It goes on to the end of the answer.
    """

    begin: int
    end: int
    lead: str = ""
    pointer: str | None = None
    schema: Mapping[str, Any] | None = None
    open: bool = False


def edits_of(state: State) -> list[Edit]:
    """Return what a patch of the last answer writes anew, in order; nothing if there should be none.

    All that failed must have a place, and all places together less than half of the text. A patch follows
    another only if that came closer.
    """
    plan, steps = state.plan, state.steps or [Step(answer="")]
    *_, before, step = [steps[0], *steps]
    failed = [result for result in step.checks if not result.passed]
    same = step.finish == before.finish  # a text that was ended and is whole now came closer
    in_vain = step.patch and same and (step.score or 0) <= (before.score or 0)
    known = failed and all(result.places for result in failed)
    resumes = plan.info.resumes
    whole = step.finish == "stop" or (step.finish == "lost" and resumes)
    if in_vain or not plan.patches or not known or step.echo or not whole:
        return []
    places = {place for result in failed for place in result.places}
    pointers = [place for place in places if isinstance(place, str)]
    spans = [place for place in places if not isinstance(place, str)]
    if plan.json:
        values = plan.schema is not None and not spans and step.finish == "stop" and resumes
        return _values(step.answer, pointers, plan.schema) if values else []
    size = len(step.answer)
    found = [segment_of(step.answer, *span, led=resumes) for span in spans if 0 <= span[0] <= span[1] <= size]
    if not found or pointers:
        return []
    if step.finish == "lost":
        begin = min(found)[0]
        return [Edit(begin, size, open=True)] if begin else []
    return _apart([Edit(*each) for each in found], size)


def _values(answer: str, pointers: Iterable[str], schema: Any) -> list[Edit]:
    try:
        text, found = read_json(answer)[1], list[Edit]()
    except NotJson:  # it was a check of the user's that saw values
        return []
    start = answer.find(text)
    for each in sorted(pointers):
        part = list_of_one(schema, keys_of(each))
        keys = keys_of(each)[: part[0]] if part else []
        span = span_of(text, keys) if start >= 0 else None  # an answer may have other line breaks
        if part is None or span is None:
            return []
        begin, end, lead = span
        found.append(Edit(start + begin, start + end, lead, pointer(keys), part[1]))
    return _apart(found, len(text))


def _apart(edits: Iterable[Edit], size: int) -> list[Edit]:
    """Return edits in order, those that overlap as one; none if they are half of a text of this size."""
    found: list[Edit] = []
    for edit in sorted(edits, key=lambda edit: (edit.begin, -edit.end)):
        if found and (edit.begin < found[-1].end or edit == found[-1]):
            found[-1] = replace(found[-1], end=max(edit.end, found[-1].end))
        else:
            found.append(edit)
    return found if 2 * sum(edit.end - edit.begin for edit in found) < size else []


def written(
    state: State, base: Step, edits: Sequence[Edit], messages: tuple[Message, ...], number: int
) -> ops.Loop[Step]:
    """Write places of an answer anew, each behind all that stands before it. Return the new step.

    A place at which nothing new came stays as it was. `number` is that of the try, from 0.
    """
    answer, at, text, usage = base.answer, 0, "", Usage()
    places: list[Place] = []
    finish: Finish = "stop"
    for edit in edits:
        text, at = text + answer[at : edit.begin], edit.begin
        if places and rules.spent(state):
            finish = "max_tokens"
            break
        lead = ("" if text.rstrip().endswith("{") else ",") + edit.lead if edit.lead else ""
        reply = yield from ops.ask_model(
            state, _ask(state, edit, text + lead, messages, number), "answer", state.last + 1
        )
        usage += reply.usage
        goes_on = (text + lead).rstrip()[-1:].isalnum() and reply.text[:1].isalnum()  # with a word
        piece = None if goes_on else _piece(edit, reply)
        if piece and (edit.pointer is not None or piece not in answer):
            text, at = text + lead, edit.end
            places.append((len(text), len(text) + len(piece)) if edit.pointer is None else edit.pointer)
            text += piece
        if reply.finish != "stop" and (edit.open or not piece):
            finish = reply.finish
            break
    return Step(answer=text + answer[at:], finish=finish, usage=usage, patch=tuple(places))


def _ask(state: State, edit: Edit, before: str, messages: tuple[Message, ...], number: int) -> ops.Ask:
    """Return the request for what follows a beginning of the answer."""
    form, given = None, state.plan.form or Form()
    if edit.pointer is None:
        form = Form(without=given.without, case=given.case, lacks=given.lacks, one=not edit.open)
    most = min((ROOM + (edit.end - edit.begin) // 2) << number, state.plan.sampling.max_tokens)
    room = state.length(most=None if edit.open else most)
    schema, stop = edit.schema, tuple[str, ...]()
    if schema and schema["items"].get("type") in ("integer", "number"):
        schema, stop = {**schema, "maxItems": 2}, (",",)  # without a comma, more digits would be likelier
    return ops.Ask(messages, room, schema=schema, form=form, stop=stop, begun=before.rstrip(" "))


def _piece(edit: Edit, reply: ops.Generated) -> str | None:
    """Return what goes into the place of an edit; None if the reply has nothing whole."""
    text, whole = reply.text.lstrip(), reply.finish == "stop"
    if edit.open:
        return text
    if edit.pointer is not None:
        text = text.removeprefix("[")
        try:
            end = json.JSONDecoder().raw_decode(text)[1]
        except ValueError:
            return None
        return text[:end] if whole or end < len(text) else None
    line = text.partition("\n")[0]
    ends = ends_of(line)
    return line[: ends[0]] if ends else line if whole or line != text else None


def asked(
    state: State,
    base: Step,
    edits: Sequence[Edit],
    messages: tuple[Message, ...],
    number: int,  # noqa: ARG001
) -> ops.Loop[Step]:
    """Ask for places of an answer anew, by number. Return the new step.

    A reply that is another answer is that of the step, which has no `patch`. One of no use changes nothing.
    """
    answer = base.answer
    parts = [(answer[edit.begin : edit.end], _said_of(base, edit)) for edit in edits]
    said: Message = {"role": "assistant", "content": answer}
    request: Message = {"role": "user", "content": prompts.by_number(parts)}
    room, stop = state.length(), tuple(state.plan.options.stop)
    ask = ops.Ask(joined([*messages, said, request]), room, stop=stop, begun="")
    reply = yield from ops.ask_model(state, ask, "answer", state.last + 1)
    half = 2 * len(reply.text) >= len(answer)
    alone = len(parts) == 1 and not half and not _MARK.search(reply.text)
    numbered = f"[1] {reply.text}" if alone else reply.text
    pieces = pieces_of(numbered, [old for old, _ in parts], whole=reply.finish == "stop")
    ends = pairwise([0, *ends_of(answer)])
    outside = [answer[a:b].strip() for a, b in ends if not any(a < e.end and e.begin < b for e in edits)]
    text, at, places = "", 0, list[Place]()
    if not any(each in piece for each in outside if LONG.search(each) for piece in pieces.values()):
        for place, edit in enumerate(edits, start=1):
            text, at = text + answer[at : edit.begin], edit.begin
            if (piece := pieces.get(place, "")) and piece not in answer:
                places.append((len(text), len(text) + len(piece)))
                text, at = text + piece, edit.end
    more: dict[str, Any] = {"usage": reply.usage, "reasoning": reply.reasoning}
    if places:
        return Step(answer=text + answer[at:], patch=tuple(places), **more)
    if half:
        bare = reply.text if _MARK.search(answer) else _MARK.sub("", reply.text)
        return Step(answer=bare, finish=reply.finish, **more)
    return Step(answer=answer, finish=reply.finish, **more)


def _said_of(step: Step, edit: Edit) -> str:
    """Return what checks say of a place of an answer, each message once."""
    found = [
        result.message
        for result in step.checks
        if any(not isinstance(at, str) and at[0] <= edit.end and edit.begin <= at[1] for at in result.places)
    ]
    return " ".join(dict.fromkeys(found))


def pieces_of(reply: str, olds: Sequence[str], *, whole: bool = True) -> dict[int, str]:
    """Return the new text of the parts that a reply has, by number; nothing if it has another form.

    The new text of a line is one, whatever is remarked below it. In a reply that is not `whole`, the last
    part is cut.
    """
    lead, *found = _MARK.split(reply)
    numbers = [*map(int, found[::2])]
    led = not lead.strip() or (lead.rstrip().endswith(":") and "\n" not in lead.strip())
    if not led or len({*numbers}) < len(numbers) or not {*numbers} <= {*range(1, len(olds) + 1)}:
        return {}
    texts = [
        text.strip().partition("\n\n" if "\n" in olds[number - 1] else "\n")[0].rstrip()
        for number, text in zip(numbers, found[1::2], strict=True)
    ]
    pieces = dict(zip(numbers, texts, strict=True))
    return pieces if whole else dict([*pieces.items()][:-1])
