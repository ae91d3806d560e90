"""Turn a person's wishes (the option `places`) into edits of an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from redraft.chain import CheckResult, Feedback, Place
from redraft.checks import json_reading
from redraft.engines.steering.draft import segment_of
from redraft.errors import UsageError
from redraft.revision.articles import with_article
from redraft.revision.patch import TYPES, Edit, around, in_json, is_json, parts_of

_REMOVED = re.compile(
    r"(?i)(?:please )?(?:(?:leave|take|cut) (?:it|this|that) out"
    r"|(?:remove|delete|drop|cut|omit|leave out|take out)(?: (?:it|(?:this|that|the)(?: \w+)?))?)[.!]?"
)
_QUOTED = re.compile(r'["“«]([^"“”«»]+)["”»]')
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_ITEM = re.compile(r"[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]")
_HEAD = re.compile(r"[ \t]*(?:(?:#{1,6}|[-*+•>]|\d{1,3}[.)])[ \t]+)?")  # the mark that begins a line
_LINE = re.compile(r"(?m)^([ \t]*)(?:(\d{1,3})[.)][ \t]+)?\S")
_BEFORE = ",;:—–"  # marks that are removed if another mark follows
_NAMED = (
    r"""(?:(?P<{0}m>["'])(?P<{0}q>(?:(?!(?P={0}m)(?!\w)|").)+)(?P={0}m)"""
    r"|[“‘](?P<{0}c>[^”’]+)[”’]|(?P<{0}>\w[\w ,.:/%€$£-]*?))"
)
_SWAP = re.compile(
    rf"(?i)(?:please )?(?:(?P<do>change|replace|turn) )?{_NAMED.format('old')}"
    rf"(?: ?(?:->|→) ?|(?(do) (?:to|with|by|for|into) |(?!))){_NAMED.format('new')}[.!]?"
)
_SAID = re.compile(r"(?i)\w+day|[\d.,:/%€$£ -]+")  # an old text that the answer must have: a day, an amount
_A_NAME = re.compile(r"(?<=[\w,])(?<!\bthe|\bour)(?<!\byour|\bthis) [A-Z]\Z")
_NAMES = "last first second third fourth fifth sixth seventh eighth ninth tenth"
_ORDER = {name: place for place, name in enumerate(_NAMES.split(), start=-1)}
_REMOVE = r"(?i)(?:please )?(?:remove|delete|drop|cut|omit|leave out|take out)"
_NTH = re.compile(rf"{_REMOVE} the ({'|'.join(_ORDER)}) (sentence|paragraph|line|item|bullet|point)[.!]?")
_PASSAGE = re.compile(rf"{_REMOVE} {_QUOTED.pattern}[.!]?")
_KINDS = {"paragraph": r"(?s)\S.*?(?=\s*(?:\n[ \t]*\n|\Z))", "line": r"(?m)\S.*$"}
_FINAL = re.compile(r"[.!?…][)\"'”’]*$")


def marked(answer: str, places: Sequence[Any]) -> list[Edit]:
    """Return the edits for a person's wishes, in order. A wish without a place may change any sentence.

    Raises:
        UsageError: The answer lacks a place or contains it more than once, two places overlap, or one of
            several wishes has no place.
    """
    lone = next((each.strip() for each in places if isinstance(each, str)), "")
    if lone and len(places) > 1:
        hint = "Combine them into one wish, or give each a passage: places=[('a passage', 'a wish')]."
        if len(places) == 2 and lone in answer:
            hint = f"Put the passage and the wish for it in a pair: places=[{tuple(places)!r:.80}]."
        raise UsageError(f"{len(places)} wishes were given, but {lone!r:.60} has no passage.", hint=hint)
    found = list[Edit]()
    wanted = [edit for place in _plain(answer, lone) or places for edit in _edits(answer, place)]
    for edit in sorted(_numbered(answer, wanted), key=lambda edit: edit.begin):
        if found and edit.begin < found[-1].end:
            before = found.pop()
            if not (_REMOVED.fullmatch(before.wish) and _REMOVED.fullmatch(edit.wish)):
                passage = answer[edit.begin : before.end]
                hint = "Give one passage that contains both passages, and say what to change in it."
                raise UsageError(f"two places to change overlap in the passage {passage!r:.80}.", hint=hint)
            bare = answer[: before.begin].rstrip(" " * (not answer[edit.begin - 1].isspace()))
            passage = f"{before.passage} … {edit.passage}"
            edit = replace(edit, begin=len(bare), end=max(before.end, edit.end), passage=passage)
        found.append(edit)
    if any(edit.pointer is None for edit in found):  # one request asks for all
        found = [replace(edit, pointer=None, schema=None) for edit in found]
    return found


def _plain(answer: str, wish: str) -> Sequence[tuple[Place, str]]:
    """Return places and wishes for a wish that needs no model: "change 2 to 3", "remove the last line"."""
    if passage := _PASSAGE.fullmatch(wish):
        said = [*re.finditer(rf"(?<!\w){re.escape(passage[1])}(?!\w)", answer)]
        return [(said[0].span(), "remove it")] if len(said) == 1 and not is_json(answer) else []
    if swap := _SWAP.fullmatch(wish):
        return [] if is_json(answer) else _swapped(answer, swap)
    if not (nth := _NTH.fullmatch(wish)) or is_json(answer):
        return []
    kind, place = nth[2].lower(), _ORDER[nth[1].lower()]
    found = re.finditer(_KINDS.get(kind, rf"(?m)^{_ITEM.pattern}.*$"), answer)
    spans = [each.span() for each in found if not each[0].startswith("#")]
    if kind == "sentence":
        parts = [*parts_of(answer)]
        spans = [(at, at + len(bare)) for at, bare in parts if _FINAL.search(bare)]
        at, bare = parts[-1]
        if not (place >= 0 or _FINAL.search(bare) or answer[:at].endswith("\n\n")):
            return []  # the last sentence may lack its full stop
    if 0 < len(spans) <= place:
        raise UsageError(f"the text has no {nth[1]} {kind}.", hint=f"Number of {kind}s: {len(spans)}.")
    return [(spans[place], "remove it")] if len(spans) > 1 else []


def _swapped(answer: str, swap: re.Match[str]) -> Sequence[tuple[Place, str]]:
    old, new = swap["old"] or "", swap["new"] or ""
    alike = len(old.split()) == len(new.split()) and old[:1].isdigit() == new[:1].isdigit()
    if not alike or new[:1].islower() or re.search("(?:ish|man|ian|ese|nch|tch|tin|bic)$", new):
        return []  # the wish may say more than the new words, or name a language
    if not swap["do"] and not (old[:1] + new[:1]).isdigit() and (old or new):
        return []  # as in: Monday -> a shorter sentence
    described = old[:1].islower()  # such as "the day", or a name as in "change monday to Friday"
    said = not old or _SAID.fullmatch(old)
    old, new = (swap[name] or swap[f"{name}q"] or swap[f"{name}c"] for name in ("old", "new"))
    apart = r"(?<!\w)", r"(?!\w)"
    if old[0].isdigit() or old[-1].isdigit():  # 3 is no part of 2.3
        apart = r"(?<!\w)(?<!\w[.,:/-])", r"(?![.,:/-]?\w)"
    same, others = ([*re.finditer(re.escape(old).join(apart), answer, flag)] for flag in (0, re.I))
    others *= len(others) == 1
    if described:
        same = [each for each in others if _A_NAME.search(answer[: each.start() + 1])]
    elif not (same := same or others) and said:
        raise _misplaced(answer, old, [])
    return [(each.span(), f'"{new}"') for each in same]


def _edits(answer: str, place: Any) -> Iterator[Edit]:
    if isinstance(place, str):
        if _REMOVED.fullmatch(place.strip()):
            hint = "Name a passage: --at 'the passage', or places=[('the passage', 'remove it')]."
            raise UsageError(f"the wish {place.strip()!r} does not say which passage to change.", hint=hint)
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
    if _REMOVED.fullmatch(wish):
        edit = _removed(answer, at, wish) if named else _without(answer, begin, end, wish)
        if is_json(answer) and not is_json(f"{answer[: edit.begin]}{edit.made}{answer[edit.end :]}"):
            hint = "Name a value by its JSON pointer, such as '/name'."
            raise UsageError(f"removing {passage.strip()!r:.60} would break the JSON.", hint=hint)
        yield replace(edit, passage=passage.strip())
        return
    edit = Edit(begin, end, wish=wish)
    string = is_json(answer) and (passage.strip()[0] == '"' or is_json(f"{answer[:begin]}x{answer[end:]}"))
    new = _given(passage.strip(), wish, string=string)
    if new and is_json(answer):
        new = in_json(answer[:begin], new, passage, answer[end:])
    if new:
        edit = replace(edit, made=new)
    elif named:
        kind = TYPES.get(passage[0])  # by the first character of a value
        edit = replace(edit, pointer=at, schema={"type": sorted({kind, "string"})} if kind else None)
    yield edit


def _given(old: str, wish: str, *, string: bool) -> str:
    """Return the text that `wish` quotes, `wish` if it differs from `old` only in its numbers, or ""."""
    if quoted := _QUOTED.fullmatch(wish):
        said = json.dumps(quoted[1], ensure_ascii=False)[1:-1] if string else quoted[1]
        new = f"{old[0]}{said}{old[-1]}" if _QUOTED.fullmatch(old) else said
    else:
        new = wish * (_NUMBER.sub("0", wish) == _NUMBER.sub("0", old))
    return new * (new != old)


def _removed(answer: str, at: str, wish: str) -> Edit:
    start, text = json_reading.json_in(answer)
    begin, end = json_reading.surplus_of(text, json_reading.keys_of(at), ()) or (0, 0)
    return Edit(start + begin, start + end, pointer=at, wish=wish, made="")


def _without(answer: str, begin: int, end: int, wish: str) -> Edit:
    """Return the edit that removes a passage with its brackets, or an item with its nested items."""
    if answer[begin:end] == answer.strip():
        raise UsageError("the place to remove is the whole text.", hint="Name a part of the text.")
    if is_json(answer) and (value := json_reading.pointer_at(answer, begin, end)):
        first, last = json_reading.characters_of(answer, value) or (begin, end)
        if answer[begin:end].strip('"') == answer[first:last].strip('"'):
            return _removed(answer, value, wish)
    begin, end = around(answer, begin, end)
    start = answer.rfind("\n", 0, begin) + 1
    line, rest = answer[start:begin], answer[end:]
    before, after = answer[:begin].rstrip(" \t"), rest.lstrip(" \t")
    last = after[:1] in ("", "\r", "\n")
    if _HEAD.fullmatch(line) and last:
        return _without_lines(answer, start, len(answer) - len(after), wish)
    if segment_of(answer, begin, end, led=False)[0] == begin:
        after = after.lstrip(",;: ")
        small = answer[begin].isupper() and after[:1].islower() and answer.count("```", 0, begin) % 2 == 0
        first = len(before) if last else begin
        return Edit(first, len(answer) - len(after) + small, wish=wish, made=after[:small].upper())
    if before[-1] in _BEFORE and after[:1] in ",;:.!?…—–":
        before = before[:-1].rstrip()
    word = re.match(r"\w+", after)
    head, fitted = with_article(f"{before} ", word[0], answer) if word else ("", "")
    if word and fitted != word[0]:
        return Edit(len(head), len(answer) - len(after) + word.end(), wish=wish, made=fitted)
    if len(before) == begin and not before[-1].isalnum():  # behind an opening mark, or in "well-known"
        before, end = before.removesuffix("-"), end if before[-1] == "-" else len(answer) - len(after)
    apart = rest[:1].isalnum() and not (answer[begin].isalnum() and len(before) == begin)
    return Edit(len(before), end, wish=wish, made=" " * apart)


def _without_lines(answer: str, begin: int, end: int, wish: str) -> Edit:
    if item := _ITEM.match(answer, begin):
        indentation = item[0][: -len(item[0].lstrip())]
        below = re.compile(rf"(?:\r?\n{indentation}[ \t]+\S[^\r\n]*)*").match(answer, end)
        end = below.end() if below else end
    left, right = len(answer[:begin].rstrip("\r\n")), len(answer) - len(answer[end:].lstrip("\r\n"))
    above = left and (right == len(answer) or begin - left < right - end)
    return Edit(left, end, wish=wish, made="") if above else Edit(begin, right, wish=wish, made="")


def _numbered(answer: str, edits: Sequence[Edit]) -> Iterator[Edit]:
    """Yield the edits, and new edits that renumber the items after removed items."""
    yield from edits
    gone = [each for each in edits if each.made == "" and each.pointer is None]
    last, missing = dict[int, int](), dict[int, int]()  # by indentation: the last number, the removed items
    for line in _LINE.finditer(answer) if gone else ():
        size, place, number = len(line[1]), line.start(2), int(line[2] or 0)
        if place < 0 or number != last.get(size, 0) + 1:  # not the next item of its list
            missing = {key: count for key, count in missing.items() if key < size}
        last = {**{key: each for key, each in last.items() if key < size + (place >= 0)}, size: number}
        if place >= 0 and any(each.begin <= place < each.end for each in gone):
            missing[size] = missing.get(size, 0) + 1
        elif missing.get(size) and not any(each.begin <= place < each.end for each in edits):
            yield Edit(place, line.end(2), made=str(number - missing[size]))


def _misplaced(answer: str, at: str | tuple[int, int], spans: Sequence[tuple[int, int]]) -> UsageError:
    if not isinstance(at, str):
        fault = f"the place {at} is not a passage of the text, which has {len(answer)} characters."
        return UsageError(fault, hint="Count from 0, and exclude the end: (2, 8) has 6 characters.")
    if at.startswith("/") and not spans and is_json(answer) and (value := json.loads(answer)):
        known = map(str, value if isinstance(value, dict) else range(len(value)))
        hint = f"It has {', '.join(json_reading.pointer([each]) for each in known):.200}."
        return UsageError(f"the JSON has no value at {at!r:.80}.", hint=hint)
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
        if not edit.wish:  # it renumbers an item
            continue
        passage = edit.passage or answer[edit.begin : edit.end]
        said.append(edit.wish if edit.anywhere else f"“{passage}” → {edit.wish}")
        places = () if edit.anywhere else (edit.pointer or (edit.begin, edit.end),)
        results.append(CheckResult(name="person", passed=False, score=0, message=edit.wish, places=places))
    text = "\n".join(dict.fromkeys(said))
    return Feedback(text=text, verdict="revise", by="person", checks=tuple(dict.fromkeys(results)))
