"""Revise only the part that failed: a sentence, item or line, or a value of a JSON object.

The parts to rewrite come from checks (`CheckResult.places`) or from a person. Other text is kept byte for
byte. An engine that can continue an answer (`EngineInfo.resumes`) continues the text before a part, without
reading the text after the part. If a check ended the answer early, the engine continues from the fault. Any
other engine sees the answer and its numbered faulty parts, and is asked for new parts or JSON values.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from redraft.chain import CheckResult, Finish, Place, Step, Usage
from redraft.checks import json_reading
from redraft.checks.json_reading import keys_of, pointer, pointer_at, span_of
from redraft.checks.schema import OPEN, object_of, schema_at
from redraft.engines.base import Message
from redraft.engines.messages import joined
from redraft.engines.steering.draft import LONG, STOPS, ends_of, segment_of
from redraft.engines.steering.form import Form, Gap, number_in
from redraft.revision import ops, prompts
from redraft.revision import stop as rules
from redraft.revision.articles import with_article
from redraft.revision.state import State

Messages = tuple[Message, ...]
TRIES = 4
WORDS = 6  # a faulty part of at most this many words is replaced alone; the rest of its sentence stays
NEAR = 6  # words before and after a replaced word; the new word repeats none of them
ROOM = 48
"""A new sentence or value may have this many tokens, and one more for every two characters of the old text.
Each further try doubles the limit, up to the fourth."""
LISTED = re.compile(r"(?i)\b(?:list|bullet|item|step|number)")  # words that ask for a list

_TEXT = r'"(?:[^"\\]|\\.)*"'
_MEMBER = re.compile(rf"((?:{_TEXT}\s*:\s*)?(?:{_TEXT}(?!\s*:)|-?\d[\d.eE+-]*|true|false|null))|{_TEXT}")
_PAIRS = dict(zip('(["“`*_~', ')]"”`*_~', strict=True))  # marks around a passage
_LINK = re.compile(r"\](?:\([^)\n]*\)|\[[^]\n]*\])")  # behind the text of a link
_ASIDE = re.compile(
    r"(?i)(?:however|moreover|therefore|thus|indeed|though|in (?:fact|short|turn)|of course"
    r"|at l(?:a|ea)st|for (?:example|instance)|by the way|wh(?:o|ich|ose)\b.*)\Z"
)
TYPES = {'"': "string", "t": "boolean", "f": "boolean", **dict.fromkeys("-0123456789", "number")}

_DETERMINER = re.compile(
    r"(?i)\b(?:an?|the|my|our|your|his|her|its|their|this|that|these|those|some|more|most)$"
)
_OTHERS = {"!": ".", "?": ".", ";": ",", ",": "", "*": ""}  # replacements for forbidden punctuation
_GAP = re.compile(r"\n(?=[ \t\r]*\n|[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t])")  # before a blank line or an item
GONE = "\0"  # in a reply: a part to remove
SAME, CUT, NOTHING = "the same text came back", "the reply was cut", "the reply has no new text"


@dataclass(frozen=True)
class Edit:
    """A part of an answer to rewrite: the characters from `begin` to `end`."""

    begin: int
    end: int
    lead: str = ""  # the text to put before the new text: the name of a missing property
    pointer: str | None = None  # the JSON pointer of the value; None for a piece of text
    schema: Mapping[str, Any] | None = None  # the JSON schema of the value
    gap: Gap | None = None  # the faulty word in the part, if replacing it may suffice
    open: bool = False  # whether the part extends to the end of the answer
    wish: str = ""  # a person's wish for the part
    passage: str = ""  # the text that a person wants removed; the part may be longer
    anywhere: bool = False  # whether the part may stay, because the wish may concern other parts
    made: str | None = None  # the new text if it is known, as from an earlier try; "" removes the part
    code: bool = False  # whether the part is code; the model then sees the faults
    last: int = 0  # the end of the sentence, if it has another edit

    @property
    def place(self) -> Place:
        """The JSON pointer of the part, or its character range."""
        return self.pointer if self.pointer is not None else (self.begin, self.end)

    def touches(self, places: Iterable[Place]) -> bool:
        """Return whether a place overlaps the part or is next to it."""
        return any(_touch(place, self.place) for place in places)


def faults_of(result: CheckResult, step: Step, before: str) -> list[tuple[int, int]]:
    """Return the ranges of faults in the step's patch. Leave out a word that `before` contains, too."""
    spans = [json_reading.characters_of(step.answer, each) for each in result.places * (not result.passed)]
    own = [json_reading.characters_of(step.answer, each) for each in step.patch]
    mine = [span for span in spans if span and any(each and _touch(span, each) for each in own)]
    return [(a, b) for a, b in mine if not re.search(rf"(?<!\w){re.escape(step.answer[a:b])}(?!\w)", before)]


def _touch(one: Place, other: Place) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return f"{one}/".startswith(f"{other}/")
    return one[0] <= other[1] and other[0] <= one[1]


def edits_of(state: State) -> list[Edit]:
    """Return the parts to rewrite in the last answer, in order, or [] if the answer should not be patched.

    Every failed check must name places. The parts that a model rewrites must be less than half of the text,
    unless the option `places` is set. After a patch that does not raise the score, no other patch follows.
    """
    plan, steps = state.plan, state.steps or [Step(answer="")]
    *_, before, step = [steps[0], *steps]
    failed = [result for result in step.checks if not result.passed]
    same = step.finish == before.finish  # a cut text that is complete now is progress
    by_person = before.feedback is not None and before.feedback.by == "person"
    in_vain = step.patch and same and not by_person and (step.score or 0) <= (before.score or 0)
    known = failed and all(result.places for result in failed)
    resumes = plan.info.resumes
    whole = step.finish == "stop" or (step.finish == "lost" and resumes)
    asks = resumes or plan.wording.name != "own"  # a patch would not use the user's own templates
    if in_vain or not (plan.patches and asks and known and whole) or state.unpatched or step.echo:
        return []
    places, patch_only = {at for each in failed for at in each.places}, plan.options.places is not None
    pointers = [place for place in places if isinstance(place, str)]
    spans = [place for place in places if not isinstance(place, str)]
    if plan.json is not None:
        held = [pointer_at(step.answer, *span) for span in spans] if step.finish == "stop" else [None]
        given = {*pointers, *filter(None, held)}
        kept = {*filter(None, held)}.difference(pointers)
        found = values_of(step.answer, given, plan.json, kept) if all(held) else []
        return found if patch_only or _is_small(found, step.answer) else []
    size = len(step.answer)
    code = any(result.name.startswith("code,") for result in failed)
    plain = not (code or is_json(step.answer))
    inside = [_trimmed(step.answer, *span) for span in spans if 0 <= span[0] <= span[1] <= size]
    case = {result.name for result in failed} & {"uppercase", "lowercase"}
    without, found = {result.name.removeprefix("lacks:") for result in step.checks}, list[Edit]()
    words = plain and not case
    exact = {at for each in failed if each.name.startswith(("grounded", "lacks:")) for at in each.places}
    for span in _phrases(step.answer, inside) if words else inside:
        wide = _widened(step.answer, *span, narrow=span in exact) if words else span
        edit = Edit(*segment_of(step.answer, *wide, led=resumes), code=code)
        gap = _gap(step.answer, edit, *wide) if plan.info.forms and plan.info.logprobs else None
        made = _made(step.answer, span, wide, without, *case) if plain else None
        found.append(made or replace(edit, gap=gap))
    if not found or pointers:
        return []
    if step.finish == "lost":
        begin = min(each.begin for each in found)
        return [Edit(begin, size, open=True)] if begin else []
    found = _apart(found)
    return found if patch_only or _is_small(found, step.answer) else []


def values_of(answer: str, pointers: Iterable[str], schema: Any, kept: Iterable[str] = ()) -> list[Edit]:
    """Return edits of wrong, missing or extra values at JSON `pointers`. Values at `kept` keep their type."""
    (start, text), found, gone = json_reading.json_in(answer), list[Edit](), list[list[str]]()
    for each in sorted(pointers) if start >= 0 else ():
        part = schema_at(schema, keys_of(each))
        keys = keys_of(each)[: part[0]] if part else []
        if part and part[1] is False:
            gone.append(keys)
            continue
        inner = part and part[0] < len(keys_of(each)) and not part[1].keys() & OPEN
        if inner and (own := span_of(text, keys_of(each))) and not own[2]:
            keys, part = keys_of(each), (len(keys_of(each)), {})  # the schema leaves the value open
        span = span_of(text, keys)
        if part is None or span is None:
            return []
        begin, end, lead = span
        kind = TYPES.get(text[begin:end][:1]) if each in kept and part[1] in (True, {}) else None
        used = {"type": kind} if kind else part[1]
        found.append(Edit(start + begin, start + end, lead, pointer(keys), used))
    for keys in gone:
        if (place := json_reading.surplus_of(text, keys, gone)) is None:
            return []
        found.append(Edit(start + place[0], start + place[1], pointer=pointer(keys), made=""))
    return _apart(found)


def _apart(edits: Iterable[Edit]) -> list[Edit]:
    found: list[Edit] = []
    for edit in sorted(edits, key=_core):
        while found and (edit.begin < found[-1].end or edit == found[-1]):
            before = found.pop()
            if pair := _split(before, edit):
                found.append(pair[0])
                edit = pair[1]
                break
            edit = _merged(before, edit)
        found.append(edit)
    return found


def _is_small(edits: Iterable[Edit], answer: str) -> bool:
    sizes = (len(each.gap.old) if each.gap else each.end - each.begin for each in edits if each.made is None)
    return 2 * sum(sizes) < len(answer)


def _core(edit: Edit) -> tuple[int, int]:
    end = edit.end - len(edit.gap.rest) if edit.gap else edit.end
    return (end - len(edit.gap.old.lstrip()) if edit.gap else edit.begin), end


def _split(first: Edit, second: Edit) -> tuple[Edit, Edit] | None:
    """Separate two edits of words or punctuation in one sentence. Return None if that is impossible."""
    end, begin = _core(first)[1], _core(second)[0]
    if end > begin or any(each.gap is None and each.made is None for each in (first, second)):
        return None
    if first.gap:
        rest = first.gap.rest[: begin - end].rstrip(" ")
        closed = first.gap.closed[: len(rest) - len(first.gap.rest)]
        if not (rest and closed):
            return None
        gap = first.gap._replace(rest=rest, closed=closed)
        first = replace(first, end=end + len(rest), gap=gap, last=first.end)
    return first, replace(second, begin=begin)


def _merged(first: Edit, second: Edit) -> Edit:
    begin, end = min(first.begin, second.begin), max(first.end, first.last, second.end)
    made = first.made if first.made == second.made else None  # such as two members to remove
    return replace(first, begin=begin, end=end, gap=None, made=made, last=0)


def _sentences(edits: Iterable[Edit]) -> list[Edit]:
    """Widen edits of words to whole sentences. Edits with a known new text are not widened."""
    found: list[Edit] = []
    for edit in edits:
        if edit.made is None:
            edit = replace(edit, end=edit.last or edit.end, gap=None, last=0)
        if found and edit.begin < found[-1].end:
            edit = _merged(found.pop(), edit)
        found.append(edit)
    return found


def written(
    state: State, base: Step, edits: Sequence[Edit], messages: Messages, number: int
) -> ops.Loop[Step]:
    """Rewrite parts of an answer, each as a continuation of the text before it. Return the new step.

    A part without new text is unchanged. `number` counts the tries from 0.
    """
    answer, at, text, usage = base.answer, 0, "", Usage()
    places: list[Place] = []
    finish: Finish = "stop"
    replies = dict[int, ops.Generated]()
    edits = _sentences(edits) if number else edits
    # From last to first, so that the engine's cache contains the text before each part.
    for place, edit in reversed([*enumerate(edits)] if number == 0 else []):
        inside = edit.gap or (edit.pointer is not None and edit.made is None)
        if inside and not (replies and rules.spent(state)):
            before = answer[: edit.begin]
            ask = _ask(state, edit, before + _kept(answer, edit) + _lead(before, edit), messages, number)
            replies[place] = yield from ops.ask_model(state, ask, "answer", state.last + 1)
            usage += replies[place].usage
    for place, edit in enumerate(edits):
        text, at = text + answer[at : edit.begin], edit.begin
        if edit.made is not None:
            text, at = _put(text, answer, edit, edit.made, places)
            continue
        if place not in replies:
            spent = finish == "stop" and (places or replies) and rules.spent(state)
            finish = "max_tokens" if spent else finish
            if finish != "stop":
                continue
        begun = text + _kept(answer, edit) + _lead(text, edit)
        if (reply := replies.get(place)) is None:
            ask = _ask(state, edit, begun, messages, number)
            reply = yield from ops.ask_model(state, ask, "answer", state.last + 1)
            usage += reply.usage
        piece, *others = [
            _piece(answer, edit, replace(reply, text=new)) if _follows(begun, new) else None
            for new in (reply.text, *reply.others)
        ]
        state.others[edit.begin] = [each for each in others if each][: TRIES - 1]
        twice = piece and LONG.search(piece) and piece in text
        said = twice or (piece and (is_said(answer, edit, piece) or state.echoes(piece, state.steps)))
        if piece and (piece != answer[edit.begin : edit.end] if edit.pointer is not None else not said):
            text, at = _put(text, answer, edit, piece, places)
        if reply.finish != "stop" and (edit.open or not piece):
            finish = reply.finish if finish == "stop" else finish
    return Step(answer=text + answer[at:], finish=finish, usage=usage, patch=tuple(places))


def _follows(begun: str, new: str) -> bool:
    goes_on = begun.rstrip(" ")[-1:].isalnum() and new[:1].isalnum()  # inside a word
    apart = begun[-1:] == " " and new.lstrip()[:1] in (",", ";", ":")
    twice = begun.lower().split()[-1:] == re.findall(r"\w+", new.lower())[:1]
    return not (goes_on or apart or twice)


def _made(
    answer: str, span: tuple[int, int], wide: tuple[int, int], without: Collection[str], case: str = ""
) -> Edit | None:
    """Return an edit that drops an aside or changes punctuation or case, or None if a model is needed."""
    (begin, end), before = span, answer[: wide[0]].rstrip(" ")
    if wide != span and answer[wide[0]] in "(,—–-" and before[-1:].isalnum():
        return Edit(len(before), wide[1], made=" " * answer[wide[1] :][:1].isalnum())
    old, left, right = answer[begin:end], answer[:begin].rstrip("*")[-1:], answer[end:].lstrip("*")[:1]
    inside = left.isalnum() == right.isalnum() if old == "*" else left.isalnum() and right.isalnum()
    if not case and (inside or right == "="):  # such as 1,200 or a list's mark
        return None
    new = (old.upper() if case == "uppercase" else old.lower()) if case else _OTHERS.get(old, old)
    while new and new != old and new in without:
        new = _OTHERS.get(new, "")
    return None if new == old else Edit(begin, end, made=new)


def _gap(answer: str, edit: Edit, begin: int, end: int) -> Gap | None:
    old, before, rest = answer[begin:end], answer[:begin].rstrip(" "), answer[end : edit.end]
    inside = rest[:1].isalnum() or answer[:begin][-1:].isalnum()
    if inside or not (0 < len(old.split()) <= WORDS and (rest or number_in(old))):
        return None
    space, closed = answer[len(before) : begin], rest
    if segment_of(answer, begin, end, led=False)[0] == begin:  # the sentence begins with the next word
        closed = rest.lstrip(" ,;:")
        closed = space + closed[:1].upper() + closed[1:]
    elif before[-1:] in ",;:" and rest[:1] in ",;:.!?":
        closed = rest[1:] * (rest[:1] in ",;:")
    elif not space and not before[-1:].isalnum():  # behind an opening mark
        closed = rest.lstrip(" ")
    around = re.findall(r"\w+", before.lower())[-NEAR:] + re.findall(r"\w+", answer[end:].lower())[:NEAR]
    near = frozenset(around).difference(re.findall(r"\w+", old.lower()))
    return Gap(space + old, rest, closed, bool(_DETERMINER.search(before)), near)


def _widened(answer: str, begin: int, end: int, *, narrow: bool) -> tuple[int, int]:
    """Widen a word to its compound and enclosing marks. If `narrow`, reduce text such as "14 May" to "14"."""
    if answer[begin:end].isalpha():
        left = re.search(r"(?:[^\W\d_]+-)*\Z", answer[max(begin - 40, 0) : begin])
        right = re.compile(r"(?:-[^\W\d_]+)*").match(answer, end)
        return around(answer, begin - len(left[0]), right.end())  # type: ignore[index,union-attr]
    numbers = [*re.finditer(r"\d+(?:[.,]\d+)*", answer[begin:end] * narrow)]  # such as "14" in "14 May"
    return (begin + numbers[0].start(), begin + numbers[0].end()) if len(numbers) == 1 else (begin, end)


def _phrases(answer: str, spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the spans, with spans of adjacent words joined."""
    first, last = 0, (0, 0)
    for begin, end in [*sorted(spans), (len(answer), 0)]:
        text, new = answer[slice(*last)], answer[begin:end]
        mark = ",? +" if text.casefold() == new.casefold() else " +"
        apart = not re.fullmatch(mark, answer[last[1] : begin]) or {*STOPS, "\n"}.intersection(text + new)
        if apart or not text[-1:].isalnum():
            if last[1]:
                yield first, last[1]
            first = begin
        last = (begin, end)


def around(answer: str, begin: int, end: int) -> tuple[int, int]:
    """Widen the span of a passage to brackets, dashes or other marks that enclose nothing else."""
    passage = answer[begin:end]
    if len(passage) == 1 or answer.count("```", 0, begin) % 2:
        return begin, end
    while pair := _PAIRS.get(answer[begin - 1 : begin]):
        outer = answer[max(begin - 2, 0) : begin - 1] + answer[end + 1 : end + 2]
        if link := _LINK.match(answer, end) if pair == "]" else None:
            begin, end = begin - 1 - outer.startswith("!"), link.end()
        elif answer[end : end + 1] == pair and not any(map(str.isalnum, outer)):
            begin, end = begin - 1, end + 1
        else:
            break
    left, right = answer[:begin].rstrip(" "), answer[end:].lstrip(" ")
    dashed = left[-1:] in ("—", "–") and left[-1] == right[:1]
    aside = left[-1:] == right[:1] == "," and _ASIDE.match(passage)
    if not passage[0].isupper() and (dashed or aside or (left[-2:] == " -" and right[:2] == "- ")):
        return len(left) - 1, len(answer) - len(right) + 1
    return begin, end


def _trimmed(answer: str, begin: int, end: int) -> tuple[int, int]:
    text = answer[begin:end]
    return (end - len(text.lstrip()), begin + len(text.rstrip())) if text.strip() else (begin, end)


def next_edits(state: State, edits: Sequence[Edit], step: Step) -> list[Edit]:
    """Return the edits for the try after `step`, or [] if all new texts in `step` are right.

    The next text in `state.others` replaces a wrong text. If none is left, the model rewrites the part.
    """
    wrong = [at for each in step.checks if not each.passed for at in each.places if not isinstance(at, str)]
    found, places, moved = list[Edit](), [place for place in step.patch if not isinstance(place, str)], 0
    ended = True
    for edit in edits:
        if not places or abs(places[0][0] - edit.begin - moved) > len("an"):  # no new text fitted there
            found.append(replace(edit, gap=None))
            ended = ended and edit.made == ""
            continue
        first, last = places.pop(0)
        moved, is_wrong = last - edit.end, any(first <= a and b <= last for a, b in wrong)
        ended = ended and not is_wrong
        others = state.others.get(edit.begin) if is_wrong else [step.answer[first:last]]
        found.append(replace(edit, gap=None, made=others.pop(0) if others else None))
    return [] if ended else found


def _kept(answer: str, edit: Edit) -> str:
    return answer[edit.begin : edit.end][: -len(edit.gap.old + edit.gap.rest)] if edit.gap else ""


def _lead(text: str, edit: Edit) -> str:
    return ("" if text.rstrip().endswith("{") else ",") + edit.lead if edit.lead else ""


def _put(text: str, answer: str, edit: Edit, piece: str, places: list[Place]) -> tuple[str, int]:
    if piece and edit.pointer is None and is_json(answer):
        piece = in_json(text, piece, answer[edit.begin : edit.end], answer[edit.end :])
    elif piece and edit.pointer is None:
        text, piece = with_article(text, piece, answer)
        if places and not isinstance(before := places[-1], str) and before[1] > len(text):
            places[-1] = (before[0], len(text))  # its article changed
    if not piece and edit.made is None:
        return text, edit.begin
    text += _lead(text, edit)
    places.append((len(text), len(text) + len(piece)) if edit.pointer is None else edit.pointer)
    return text + piece, edit.end


def is_json(text: str) -> bool:
    """Return whether a text is a JSON object or list."""
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def in_json(before: str, new: str, old: str, after: str) -> str:
    """Fit `new` into JSON, with a comma or quotes if needed. Return "" if `new` does not fit."""
    said = json.dumps(new, ensure_ascii=False)
    forms = (new, new.rstrip(", ") + "," * old.endswith(","), said[1:-1], said)
    return next((form for form in forms if form and is_json(before + form + after)), "")


def _ask(state: State, edit: Edit, before: str, messages: Messages, number: int) -> ops.Ask:
    form, schema, stop = None, edit.schema, tuple[str, ...]()
    if edit.pointer is None:
        row = before.rpartition("\n")[2].lstrip().startswith("|")  # in a table
        stop = ("|",) if row and not edit.open else ()
        form = _form(state, one=not edit.open, gap=edit.gap)
    elif not (state.plan.info.schemas and state.plan.info.token_ids):
        # A schema cannot mark the value's end: llama.cpp's server would also apply it to the text before.
        kind = schema.get("type", "object") if schema else "object"
        schema, stop = None, () if kind in ("object", "array") else ("\n",)
    most = min((ROOM + (edit.end - edit.begin) // 2) << number % TRIES, state.plan.sampling.max_tokens)
    room = state.length(most=None if edit.open else most)
    place = edit.pointer or (edit.begin + len(_kept(state.steps[-1].answer, edit)), edit.end)
    return ops.Ask(messages, room, schema=schema, form=form, stop=stop, begun=before.rstrip(" "), place=place)


def _form(state: State, **more: Any) -> Form:
    given = state.plan.form or Form()
    return Form(without=given.without, case=given.case, lacks=given.lacks, **more)


def _piece(answer: str, edit: Edit, reply: ops.Generated) -> str | None:
    text, whole = reply.text.lstrip(), reply.finish == "stop"
    if edit.open:
        return text
    if edit.gap:
        rest = edit.gap.rest
        filled = reply.text.endswith((rest, edit.gap.closed or rest)) if rest else number_in(reply.text)
        if edit.last and not filled:  # the rest of the sentence has another edit
            return None
        piece = text if filled else _piece(answer, replace(edit, gap=None), reply)
        before = _kept(answer, edit) + " " * reply.text.startswith(" ")
        return "".join(with_article(before, piece, answer)).lstrip() if piece else None
    if edit.pointer is not None:
        try:
            end = json.JSONDecoder().raw_decode(text)[1]
        except ValueError:
            return None
        return text[:end] if whole or text[end : end + 1].strip(".eE") else None  # `67.` may continue
    line = text.partition("\n")[0]
    ends = ends_of(line)
    return line[: ends[0]] if ends else line if whole or line != text else None


def asked(state: State, base: Step, edits: Sequence[Edit], messages: Messages, _: int) -> ops.Loop[Step]:
    """Ask for new text for numbered parts, or for new values at JSON pointers. Return the new step.

    A complete new answer becomes a step without `patch`. A useless reply becomes an empty step. If only some
    wishes are met, the others are sent once more. `state.left` lists wishes that remain unmet.
    """
    from redraft.revision import replies  # engines that continue an answer rarely need it

    answer, reply, usage = base.answer, ops.Generated("", "stop", Usage()), Usage()
    wanted = left = [edit for edit in edits if edit.made is None]
    shown: Message = {"role": "assistant", "content": answer}
    named = bool(wanted and wanted[0].wish and not wanted[0].anywhere)
    new = dict[Any, str]()  # by place and pointer, since missing values share a place
    for again in (False, True):
        if not left or (again and (not named or len(left) == len(wanted) or rules.spent(state))):
            break
        old, values = answer[left[0].begin : left[0].end], left[0].pointer is not None
        alone = len(left) == 1 and not values and state.plan.info.resumes and '"' not in old
        if alone and left[0].wish:
            ask = _passage(state, answer, left[0], (*messages, shown))
        else:
            ask = _asking(state, base, left, (*messages, shown))
        reply = yield from ops.ask_model(state, ask, "answer", state.last + 1)
        usage += reply.usage
        found = replies.new_values(reply, answer, left) if values else replies.new_parts(reply, answer, left)
        for edit, text in zip(left, found, strict=True):
            new[edit.begin, edit.pointer] = "" if text and state.echoes(text, state.steps) else text
        left = [edit for edit in left if new[edit.begin, edit.pointer] in ("", answer[edit.begin : edit.end])]
    edits = replies.with_removals(answer, edits, new)
    more: dict[str, Any] = {"usage": usage, "reasoning": reply.reasoning}
    copied = any(answer[edit.begin : edit.end] in reply.text for edit in wanted)
    long = 2 * len(reply.text) >= len(answer) and not copied
    if long and not any(new.values()) and wanted[0].pointer is None and not edits[0].wish:
        whole = reply.text if ops.MARK.search(answer) else ops.MARK.sub("", reply.text)
        yield ops.Text("answer", state.last + 1, whole)
        return Step(answer=whole, finish=reply.finish, **more)
    lack = NOTHING if reply.finish == "stop" else CUT
    text, at, places, state.left = "", 0, list[Place](), []
    said = {each.places: each.message for each in base.checks}  # a second try's wish has more words
    for edit in edits:
        old, count = answer[edit.begin : edit.end], len(places)
        piece = new[edit.begin, edit.pointer] if edit.made is None else edit.made
        text, at = _put(text + answer[at : edit.begin], answer, edit, piece * (piece != old), places)
        if named and len(places) == count:
            why = SAME if piece == old else lack
            where, wish = edit.pointer or [edit.begin, edit.end], said.get((edit.place,), edit.wish)
            state.left.append({"place": where, "passage": old, "wish": wish, "why": why})
    if edits[0].anywhere and not places and base.feedback and base.feedback.by == "person":
        why = SAME if any(new[each.begin, each.pointer] for each in left) else lack
        state.left = [{"place": [0, len(answer)], "passage": answer, "wish": base.criticism, "why": why}]
    if not places:
        return Step(answer="", finish=reply.finish, **more)
    return Step(answer=text + answer[at:], patch=tuple(places), **more)


def _asking(state: State, base: Step, edits: Sequence[Edit], messages: Messages) -> ops.Ask:
    parts, schemas = list[str](), dict[str, Any]()
    for number, edit in enumerate(edits, start=1):
        spans = replace(edit, pointer=None)  # a value's fault may have characters for its place
        said = [each.message for each in base.checks if any(e.touches(each.places) for e in (edit, spans))]
        head = f"[{number}] " if edit.pointer is None else f"{json.dumps(edit.pointer, ensure_ascii=False)}: "
        old = base.answer[edit.begin : edit.end] or "(missing)"
        old = at_margin(base.answer, edit.begin, edit.end) if edit.code else old
        wrong = f"Wanted: {edit.wish}" if edit.wish else f"Wrong: {' '.join(dict.fromkeys(said))}"
        if edit.pointer is not None and parts and parts[-1].endswith(f"\n{wrong}"):
            head = parts.pop().removesuffix(wrong) + head  # one message is about several values
        parts.append(head + old + ("" if edit.anywhere else f"\n{wrong}"))
        schemas |= {} if edit.pointer is None else {edit.pointer: edit.schema}
    template = prompts.VALUES if schemas else prompts.ANYWHERE if edits[0].anywhere else prompts.PARTS
    content = template.format(parts="\n\n".join(parts), wish=edits[0].wish)
    info = state.plan.info
    steered = schemas and None not in schemas.values() and info.schemas
    brief = bool(edits[0].wish) and info.token_ids and not info.thinks
    most = _bounded(state, sum(ROOM + (each.end - each.begin) // 2 for each in edits)) if brief else None
    return ops.Ask(
        joined([*messages, {"role": "user", "content": content}]),
        state.length(most=most),
        schema=object_of(schemas) if steered else None,
        stop=tuple(state.plan.options.stop),
        begun="",
        place=None if edits[1:] else edits[0].place,
    )


def _bounded(state: State, most: int) -> int:
    sampling = state.plan.sampling
    return most if "max_tokens" in sampling.unset else min(most, sampling.max_tokens)


def _passage(state: State, answer: str, edit: Edit, messages: Messages) -> ops.Ask:
    old = answer[edit.begin : edit.end]
    form = None if len(ends_of(old)) > 1 or LISTED.search(edit.wish) else _form(state, one=True)
    asked: Message = {"role": "user", "content": prompts.PASSAGE.format(text=old, wish=edit.wish)}
    told, length = joined([*messages, asked]), state.length(most=_bounded(state, ROOM + len(old) // 2))
    return ops.Ask(told, length, form=form, stop=('"',), begun='"', place=(edit.begin, edit.end))


def at_margin(text: str, begin: int, end: int) -> str:
    """Return the lines from `begin` to `end` without their common indentation."""
    return textwrap.dedent(text[len(text[:begin].rstrip(" \t")) : end])


def is_said(answer: str, edit: Edit, piece: str) -> bool:
    """Return whether a new part equals the old part, or is a long sentence found elsewhere in the answer."""
    twice = LONG.search(piece) and piece in f"{answer[: edit.begin]}\n{answer[edit.end :]}"
    return bool(twice) or piece.strip() == answer[edit.begin : edit.end].strip()


def parts_of(text: str) -> Iterator[tuple[int, str]]:
    """Yield the start and the text of each sentence, item or line. In JSON, yield those of each value."""
    if is_json(text):
        yield from ((member.start(), member[1]) for member in _MEMBER.finditer(text) if member[1])
        return
    breaks = map(re.Match.start, _GAP.finditer(text))
    for begin, end in pairwise(sorted({0, *ends_of(text), *breaks, len(text)})):
        if bare := text[begin:end].strip():
            yield text.index(bare, begin), bare
