"""Read a person's wishes for passages of an answer (`places`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from redraft.chain import CheckResult, Feedback
from redraft.checks import json_reading
from redraft.engines.steering.draft import segment_of
from redraft.errors import UsageError
from redraft.revision.patch import TYPES, Edit, is_json, parts_of

_REMOVED = re.compile(
    r"(?i)(?:please )?(?:remove|delete|drop|leave out|take out)(?: (?:it|(?:this|that|the)(?: \w+)?))?[.!]?"
)
_HEAD = re.compile(r"[ \t]*(?:(?:#{1,6}|[-*+•>]|\d{1,3}[.)])[ \t]+)?")  # the mark that begins a line
_AROUND = {"(": ")", "[": "]", '"': '"', "“": "”", "`": "`", "—": "—", "–": "–"}  # goes with its content
_BEFORE = ",;:—–"  # marks that go if another mark follows


def marked(answer: str, places: Sequence[Any]) -> list[Edit]:
    """Return the edits for a person's wishes, in order. A wish without a place may change any sentence.

    Raises:
        UsageError: The answer lacks a place or contains it more than once, or two places overlap.
    """
    found = [edit for place in places for edit in _edits(answer, place)]
    found.sort(key=lambda edit: edit.begin)
    if any(edit.pointer is None for edit in found):  # one request asks for all
        found = [replace(edit, pointer=None, schema=None) for edit in found]
    for before, after in pairwise(found):
        if after.begin < before.end:
            passage = answer[after.begin : before.end]
            hint = "Combine them into one place with one wish."
            raise UsageError(f"two of the places overlap in the passage {passage!r:.80}.", hint=hint)
    return found


def _edits(answer: str, place: Any) -> Iterator[Edit]:
    if isinstance(place, str):
        if _REMOVED.fullmatch(place.strip()):
            hint = "Name a passage: --at 'the passage', or places=[('the passage', 'remove it')]."
            raise UsageError(f"the wish {place.strip()!r} names no passage.", hint=hint)
        for start, bare in parts_of(answer):
            yield Edit(start, start + len(bare), wish=place.strip(), anywhere=True)
        return
    at, wish = place[0], place[1].strip()
    spans = _spans(answer, at) if isinstance(at, str) else [at] * (0 <= at[0] < at[1] <= len(answer))
    passage = answer[slice(*spans[0])] if len(spans) == 1 else ""
    if not passage.strip():
        raise _misplaced(answer, at, spans)
    begin = spans[0][0] + len(passage) - len(passage.lstrip())
    end = begin + len(passage.strip())
    named = isinstance(at, str) and at.startswith("/") and at not in answer
    if _REMOVED.fullmatch(wish) and passage.strip() != answer.strip() and (named or not is_json(answer)):
        yield _removed(answer, at, wish) if named else _without(answer, begin, end, wish)
        return
    edit = Edit(begin, end, wish=wish)
    if named:
        kind = TYPES.get(passage[0])  # by the first character of a value
        edit = replace(edit, pointer=at, schema={"type": sorted({kind, "string"})} if kind else None)
    yield edit


def _removed(answer: str, at: str, wish: str) -> Edit:
    start, text = json_reading.json_in(answer)
    begin, end = json_reading.surplus_of(text, json_reading.keys_of(at), ()) or (0, 0)
    return Edit(start + begin, start + end, pointer=at, wish=wish, made="")


def _without(answer: str, begin: int, end: int, wish: str) -> Edit:
    """Return the edit that removes a passage with its list mark and line breaks, or the marks around it."""
    start = answer.rfind("\n", 0, begin) + 1
    line, rest = answer[start:begin], answer[end:]
    if _HEAD.fullmatch(line) and rest.lstrip(" \t")[:1] in ("", "\r", "\n"):
        left = len(answer[:start].rstrip("\r\n"))
        span = (left, end) if left else (start, len(answer) - len(rest.lstrip()))
        return Edit(*span, wish=wish, made="")
    before, after = answer[:begin].rstrip(" \t"), rest.lstrip(" \t")
    if after and _AROUND.get(before[-1:]) == after[0]:
        return _without(answer, len(before) - 1, len(answer) - len(after) + 1, wish)
    if segment_of(answer, begin, end, led=False)[0] == begin:
        after = after.lstrip(",;: ")
        small = answer[begin].isupper() and after[:1].islower()
        return Edit(begin, len(answer) - len(after) + small, wish=wish, made=after[:small].upper())
    if before[-1] in _BEFORE and after[:1] in ",;:.!?…":
        before = before[:-1].rstrip()
    return Edit(len(before), end, wish=wish, made="")


def _misplaced(answer: str, at: str | tuple[int, int], spans: Sequence[tuple[int, int]]) -> UsageError:
    if not isinstance(at, str):
        fault = f"the place {at} is not a passage of the text, which has {len(answer)} characters."
        return UsageError(fault, hint="Count from 0, and exclude the end: (2, 8) has 6 characters.")
    if not spans or not at.strip():
        return UsageError(f"the text lacks the passage {at!r:.80}.", hint="Copy it exactly from the text.")
    several = f"Include more of the text around it. In Python, positions work too: {str(spans[:4])[1:-1]}."
    return UsageError(f"the text contains the passage {at!r:.80} {len(spans)} times.", hint=several)


def _spans(answer: str, at: str) -> list[tuple[int, int]]:
    found = [match.span() for match in re.finditer(re.escape(at).replace("\\\n", r"\r?\n"), answer)]
    place = None if found or not at.startswith("/") else json_reading.characters_of(answer, at)
    return [place] if place else found


def feedback_of(answer: str, edits: Sequence[Edit]) -> Feedback:
    """Return a person's wishes as feedback."""
    said, results = list[str](), list[CheckResult]()
    for edit in edits:
        said.append(edit.wish if edit.anywhere else f"“{answer[edit.begin : edit.end]}”: {edit.wish}")
        places = () if edit.anywhere else (edit.pointer or (edit.begin, edit.end),)
        results.append(CheckResult(name="person", passed=False, score=0, message=edit.wish, places=places))
    text = "\n".join(dict.fromkeys(said))
    return Feedback(text=text, verdict="revise", by="person", checks=tuple(dict.fromkeys(results)))
