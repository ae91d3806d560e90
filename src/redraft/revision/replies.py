"""Read the new parts of an answer from a model's reply to a patch request (`patch.asked`)."""

from __future__ import annotations

import json
import re
import textwrap
from bisect import bisect, bisect_left
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from operator import and_, eq
from typing import Any

from redraft.chain.texts import is_refusal
from redraft.checks.json_reading import NotJson, keys_of, read_json, span_of
from redraft.engines.steering.draft import CLOSERS, LONG, STOPS, ends_of, segment_of
from redraft.revision import ops, prompts, wishes
from redraft.revision.ops import MARK
from redraft.revision.patch import GONE, LISTED, Edit, at_margin, is_json, is_said, parts_of

_NUMBER = re.compile(r"^[ \t*(]*\[?(\d{1,3})[]).:][*:]*(?:[ \t]+|(?<=])|$)", re.M)  # as models write numbers
_LEAD = re.compile(r"[^\n]*:\**\n+(?=\S)")  # an introducing line; above an indented line, it is code
_FENCE, _BOLD = r"```[^`\n]*\n(.*?)\n[ \t]*```(?:\s*\n.*)?\Z", r"\*\*([^*]+)\*\*\Z"
_QUOTED = r"[\"“«`]([^\"”»`]*)[\"”»`](?:\s*\([^)]*\))?\Z"  # perhaps with a remark
_AROUND = re.compile(rf"{_FENCE}|{_BOLD}|{_QUOTED}|'((?:[^']|\b'\b)*)'\Z", re.DOTALL)
_PART = "(?:text|version|passage|sentence|part|paragraph|answer|rewrite)"
_REMARK = re.compile(
    rf"(?i)(?:sure|certainly|of course|okay)[!,.]\s*"
    rf"|here(?:['’]s| is| are) (?:the|your|an?) (?:\w+ )?{_PART}\b[^:\n]*:\s*"
    rf"|\**(?:the )?(?:(?:new|revised|rewritten|updated|corrected) {_PART}|revised|rewritten|replacement"
    r"|passage(?: \d)?)(?: is)?:\**\s*"
)
_ARROW = re.compile("->|→")
_ELLIPSIS = re.compile(r"\A(?:\.{3}|…)\s*|\s*(?:\.{3}|…)\Z")
_MARKED = re.compile(r"\A(?:[-*+•>]|#{1,6}) +(?=[^\n]+\Z)")  # before a reply of one line
_NONE = re.compile(r"(?i)[(\[<](?:removed|deleted|omitted|unchanged|empty|none|same|no )[^])>\n]{,20}[])>]\Z")
_REMOVED = re.compile(r"(?im)[*_]*[(\[<]?removed[.!]?[)\]>]?[*_]*[.!]?[ \t]*$")  # as a part's first line
# Says what the prompt asked for. "Part 2" alone may be a title.
_ABOUT = re.compile(r"(?i)\bparts? \d[\d, and]* (?:is|are|stay|differ)|\b(?:above|given) (?:text|passage)\b")
_CLOSING = re.compile(  # a last paragraph about the reply
    r"(?im)(?:^|[\"“])\W*(?:let me know if\b.*\b(?:else|more|further|me to)\b|(?:note|the changed|all other|I"
    r"(?:['’]ve| have)? (?:(?:chang|replac|remov|add)ed|made|kept))\b.*\b(?:part|text|sentence|word|change))"
)
_ITEM = re.compile(r"(?:[-*+•]|\d{1,3}[.)])[ \t]+(?=\S)")
_PROSE = re.compile(r"(?i)\b(?:prose|paragraph|sentence|bullet|plain)")  # a wish for no list
_LIST = re.compile(r"(?:[^\n]+:\n+)?(?:[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+\S[^\n]*(?:\n+|\Z)){2,}")
_LESS = re.compile(  # asks for less, also in German, French, Italian and Spanish
    r"(?i)\b(?:short|brief|concise|condense|few|less|remov|delet|drop|cut\b|omit|trim|leave out|take out"
    r"|strike|get rid|without|merge|join|combine|k[uü]rz|weg\b|ohne|streich|entfern|lösch|court|sans|supprim"
    r"|enl[eè]v|sin |quit|elimin|cancell|menos|nothing (?:about|on|of)|no (?!later|earlier|more|less))"
    r"|n['o]t mention|n’t mention|[^\x00-\u024f]"  # or is in another script
)
_NAMED = re.compile(r"(?s:@.*?\n[ \t]*)?(?:async +)?(?:def|class) +(\w+)")  # a function or class


def new_parts(reply: ops.Generated, answer: str, edits: Sequence[Edit]) -> list[str]:
    """Return the reply's new text for each edit, or "" for a missing or unfitting text."""
    if edits[0].code:
        return _new_code(reply.text if reply.finish == "stop" else "", answer, edits)
    olds, anywhere, wish = [answer[e.begin : e.end] for e in edits], edits[0].anywhere, edits[0].wish
    text, named, whole = reply.text, len(edits) == 1 and wish and not anywhere, reply.finish == "stop"
    text = _bare(text, answer if anywhere else olds[0]) if wish else text
    lines = "\n" in text and text in reply.text.partition("```")[2]
    if named and (lines or answer.count("```", 0, edits[0].begin) % 2):
        line = answer[: edits[0].begin].rpartition("\n")[2]
        return [textwrap.indent(text, line[: len(line) - len(line.lstrip())]).lstrip() * whole]
    if named:  # the reply may be the whole text
        text = _between(text.strip(), answer[: edits[0].begin].strip(), answer[edits[0].end :].strip())
    head, _, last = text.rpartition("\n\n")
    for talk in (_ABOUT, _CLOSING) if head and wish and "\n" not in last else ():
        text = head if talk.search(last) and not talk.search(f"{answer}\n{wish}") else text
    lists = bool(LISTED.search(wish))
    short = (wish or 2 * len(text) < len(answer)) and not (MARK.match if lists else _NUMBER.search)(text)
    said = f"[1] {text}" if short and len(edits) == 1 else text
    free = {n for n, old in enumerate([*olds, ""], 1) if anywhere or (wish and re.search(r"\n\s*\n", old))}
    own = anywhere and any(re.match(rf"(?!{n}\D)\d{{1,3}}[.)]\s", old) for n, old in enumerate(olds, 1))
    listed = own and not MARK.search(said)  # its numbers may be those of the items
    pieces = {} if listed else pieces_of(said, olds, whole=whole, lists=lists, free=free)
    if anywhere and not pieces and whole and not MARK.match(text):
        pieces = _aligned(text, olds)
    if anywhere and not is_json(answer):
        out = GONE if _LESS.search(edits[0].wish) else ""  # small models remove parts that no wish concerns
        pieces = {n: out if _REMOVED.match(new) and new != olds[n - 1] else new for n, new in pieces.items()}
        pieces = {} if [*pieces.values()] == [GONE] * len(edits) else pieces
    begins, stops = [each.begin for each in edits], [each.end for each in edits]
    apart = [(a, b) for a, b in pairwise([0, *ends_of(answer)]) if bisect(stops, a) == bisect_left(begins, b)]
    long = [each for a, b in apart if LONG.search(each := answer[a:b].strip())]
    more = any(each in piece for each in long for piece in pieces.values())  # more than the parts asked for
    found = ["" if more else pieces.get(number, "") for number, _ in enumerate(edits, start=1)]
    if edits[0].wish:
        return [new and _fitted(answer, edit, new) for new, edit in zip(found, edits, strict=True)]
    new = [_without_marks(answer, edit, each) for edit, each in zip(edits, found, strict=True)]
    return ["" if is_said(answer, edit, each) else each for edit, each in zip(edits, new, strict=True)]


def _aligned(text: str, olds: Sequence[str]) -> dict[int, str]:
    """Map part numbers to the parts of `text`, a rewritten whole text. Removed parts are `GONE`."""
    new, starts = [*(parts := dict(parts_of(text))).values()], [*parts]
    ends = (new[:1] == olds[:1]) + (new[-1:] == olds[-1:])
    if (equal := len(new) == len(olds)) or ends < 2 or is_json(text):
        return dict(enumerate(new, start=1)) if equal and (ends or is_json(text)) else {}
    same = sum(accumulate(map(eq, olds, new[:-1]), and_))  # the last part may also stand above
    left = sum(accumulate(map(eq, olds[same:][::-1], new[same:][::-1]), and_))
    same -= same + left == len(olds)  # added text belongs to the part above it
    piece = text[starts[same] : [*starts, len(text)][len(new) - left]].rstrip() or GONE
    return {same + 1: piece, **dict.fromkeys(range(same + 2, len(olds) - left + 1), GONE)}


def with_removals(answer: str, edits: Sequence[Edit], new: dict[Any, str]) -> Sequence[Edit]:
    """Return the edits, with a removal for each part whose new text is `GONE`."""
    gone, spans = [edit for edit in edits if new.get((edit.begin, edit.pointer)) == GONE], list[Any]()
    for edit in gone:  # neighbours are one passage
        beside = spans and not answer[spans[-1][1] : edit.begin].strip()
        spans.append((spans.pop()[0] if beside else edit.begin, edit.end))
    kept = [e for e in edits if new.get((e.begin, e.pointer), " ") not in ("", GONE, answer[e.begin : e.end])]
    found = [*kept]
    for each in wishes.marked(answer, [(span, "Remove it.") for span in spans]):
        over = next((edit for edit in kept if each.begin <= edit.begin < each.end), None)
        if over and not each.wish:
            number, place = answer[each.begin : each.end], (over.begin, over.pointer)  # new text may have it
            new[place] = re.sub(rf"\A{number}\b", each.made or "", new.get(place, ""))
        else:
            found.append(replace(each, end=over.begin, made="") if over else each)
    return sorted(found, key=lambda edit: edit.begin) if gone else edits


def _without_marks(answer: str, edit: Edit, new: str) -> str:
    line = answer.rfind("\n", 0, edit.begin) + 1
    before, after = answer[line : edit.begin].strip(), answer[edit.end :].partition("\n")[0].strip()
    new = _bare(new.strip(), answer[edit.begin : edit.end])
    new = new.removeprefix(f"{before} ").removesuffix(f" {after}")
    last = answer[: edit.end][-1:]
    return new + last if new[-1:].isalnum() and last in STOPS else new


def _new_code(said: str, answer: str, edits: Sequence[Edit]) -> list[str]:
    """Return each edit's new code, or "" if the reply has none or several that fit.

    A function or class is replaced by the one of the same name. Other code is replaced by the reply's only
    statement that defines and imports nothing. Missing imports are put before the first new text. If imports
    are missing, and the first new text is indented or "", return "" for all.
    """
    from redraft.checks.code import parts_of  # only patches of code need it

    said = said if parts_of(said) else MARK.sub("", said, count=len(edits))
    parts = [(at_margin(said, begin, end), name) for _, begin, end, name in parts_of(said)]
    imports = {text for text, _ in parts if text.startswith(("import ", "from "))}
    more = sorted(imports - {*answer.splitlines(), "from __future__ import annotations"})
    new = list[str]()
    for edit in edits:
        named = _NAMED.match(answer[edit.begin : edit.end])
        found = {text for text, name in parts if name == (named and named[1])} - imports
        indent = answer[len(answer[: edit.begin].rstrip(" \t")) : edit.begin]
        text = textwrap.indent(found.pop(), indent).lstrip() if len(found) == 1 else ""
        if more and edit == edits[0] and (indent or not text):
            return [""] * len(edits)
        rows = [*more, "", "", text] if more and not new else [text]
        text = ("\r\n" if "\r\n" in answer else "\n").join("\n".join(rows).splitlines())
        new.append(text if text != answer[edit.begin : edit.end] else "")
    return new


def _bare(text: str, old: str, *, numbered: bool = False) -> str:
    """Strip remarks, quotation marks and fences from a reply. Return "" if the model declines."""
    if (is_refusal(text) or _NONE.match(text)) and not is_refusal(old):
        return ""
    if not _MARKED.match(old.partition("\n")[0]):
        text = _MARKED.sub("", text, count=1)
    while (remark := _REMARK.match(text)) and not _REMARK.match(old):
        text = text[remark.end() :]
    lead = None if numbered or MARK.match(text) else _LEAD.match(text)
    text = text[lead.end() :] if lead and not old.startswith(lead[0].rstrip(": \n")) else text
    first, *rest = _ARROW.split(text)
    if len(rest) == 1 and first.strip(f"{CLOSERS}“ ") in ("", old.strip(f"{CLOSERS}“ ")):
        text = rest[0].strip()
    if around := _AROUND.match(text) if text[:1] != old[:1] else None:
        return textwrap.dedent(around[around.lastindex or 0]).strip()
    if text[:1] == "{" != old[:1] and is_json(text):
        value = [*json.loads(text).values()]
        return value[0] if [*map(type, value)] == [str] else ""
    return text


def _between(text: str, before: str, after: str) -> str:
    inside = len(text) > len(before + after) and text.startswith(before) and text.endswith(after)
    return text[len(before) : len(text) - len(after)].strip() if inside else text


def _fitted(answer: str, edit: Edit, new: str) -> str:
    """Return a new passage without quotation marks and without repeated text around the passage.

    Return "" if the passage mentions the request, or is a sentence in place of a phrase.
    """
    first, last = segment_of(answer, edit.begin, edit.end, led=False)
    old, before, after = answer[edit.begin : edit.end], answer[first : edit.begin], answer[edit.end : last]
    new = _between(_bare(new, old, numbered=edit.anywhere), before, after)
    new = new if old[:3] == "..." else _ELLIPSIS.sub("", new)
    ends = (f"{' '.join(before.split()[place:])} " for place in range(len(before.split())))
    again = next((each for each in ends if new.casefold().startswith(each.casefold())), "")
    new = new[len(again) :]  # without repeated words
    row = answer[: edit.begin].rpartition("\n")[2].lstrip()
    if row.startswith("|") and "|" in new:  # take the cell in the same column
        cells = re.split(r"(?<!\\)\|", new.strip().removeprefix("|").removesuffix("|"))
        new = cells[min(row.count("|"), len(cells)) - 1].strip()
    bare, was = (each.strip(CLOSERS + "“`") for each in (new, old))
    words, plain = bare.split(), bare.strip(STOPS + ": ").casefold()
    many = len(words) > 2 and (bare[-1:] in STOPS or len(words) > 3 + len(old.split()))
    within = many and bare[:1].isupper() and not was[:1].isupper() and first < edit.begin
    talks = _ABOUT.search(new) and not _ABOUT.search(f"{answer} {edit.wish}")
    back = len(words) > 1 and plain in prompts.PASSAGE.casefold()
    if within or talks or back or bare[-1:] == ":" != old[-1:]:
        return ""
    if old[-1:] not in STOPS:
        new = new if "\n" in old + new or len(ends_of(new)) > 1 else new.rstrip(STOPS) or new
    elif old[-1] in ".!" and new[-1:].isalnum() and "\n" not in new:
        new += old[-1]
    word = re.match(r"[a-z]+\b(?!://|[.@]\w)", new)  # not a link
    if first == edit.begin and old[:1].isupper() and word and not old.lower().startswith(word[0]):
        new = new[0].upper() + new[1:]
    item = _ITEM.match(old) if edit.anywhere and not _PROSE.search(edit.wish) else None
    new = item[0] + new if item and new.strip(GONE) and not _ITEM.match(new) else new
    if "\n" not in new or is_json(answer):
        return new
    new = _on_lines(answer, edit, new) if _LIST.match(new) and "\n" not in old else new
    return new.replace("\n", "\r\n") if "\r\n" in answer else new


def _on_lines(answer: str, edit: Edit, new: str) -> str:
    before, after = answer[: edit.begin].rpartition("\n")[2].strip(), answer[edit.end :].partition("\n")[0]
    if before.startswith("|"):
        return ""
    nested = before and before == new.lstrip()[0]  # inside an item; its mark serves the first new item
    new = new.lstrip()[1:].lstrip() if nested else "\n\n" * bool(before) + new
    return new + "\n\n" * (bool(after.strip()) and after[0] not in STOPS + CLOSERS)


def new_values(reply: ops.Generated, answer: str, edits: Sequence[Edit]) -> list[str]:
    """Return the reply's new text for each value, or "" for a missing value.

    The reply maps JSON pointers to values, or is an object with the values at the same places as in `answer`.
    For one edit, the reply may be only the value.
    """
    old = answer[edits[0].begin : edits[0].end] if len(edits) == 1 else ""
    try:
        value, text = read_json(reply.text)
    except NotJson:
        return [_string(reply.text, old, each) if old[:1] == '"' and each.wish else "" for each in edits]
    itself = old[:1] == text[:1] and (isinstance(value, list) or {*value} <= {*json.loads(old)})
    if len(edits) == 1 and (itself or not isinstance(value, dict | list)):
        return [text]
    new = list[str]()
    for edit in edits:
        named = isinstance(value, dict) and edit.pointer in value
        span = span_of(text, [edit.pointer or ""] if named else keys_of(edit.pointer or ""))
        if old[:1] not in ("", "{") and (not span or span[2]) and isinstance(value, dict) and len(value) == 1:
            span = span_of(text, [*value])
        astray = not (named or edit.pointer) and any(str(name)[:1] == "/" for name in value)
        new.append(text[span[0] : span[1]] if span and not span[2] and not astray else "")
    return new


def _string(said: str, old: str, edit: Edit) -> str:
    name = "|".join(map(re.escape, (edit.pointer or "", *keys_of(edit.pointer or "")[-1:])))
    text = _bare(re.sub(rf'\A"?(?:{name})"?\s*[:=]\s*', "", said.strip(), count=1), json.loads(old))
    return "" if "\n" in text else json.dumps(text, ensure_ascii=False) * bool(text)


def pieces_of(
    reply: str, olds: Sequence[str], *, whole: bool = True, lists: bool = False, free: Collection[int] = ()
) -> dict[int, str]:
    """Return the numbered parts of a reply, or {} if a number is wrong or other text comes first.

    A new part is one line or, if the old part has several lines, one paragraph. With `lists`, a list may
    replace a part. The parts numbered in `free` may have any length. If not `whole`, drop the last part.
    """
    if len(olds) > 1 and not any("[2]" in old for old in olds):  # numbers may follow one another on a line
        reply = re.sub(r"[ \t]+(?=\[[2-9]\][ \t])", "\n", reply)
    mark = MARK if (free or "\n" in "".join(olds)) and MARK.search(reply) else _NUMBER  # items have numbers
    lead, *found = mark.split(reply, maxsplit=lists and len(olds) == 1)
    numbers, count = [*map(int, found[::2])], len(olds)
    led = not lead.strip("`\n ") or (lead.rstrip().endswith(":") and "\n" not in lead.strip())
    if not led or len({*numbers}) < len(numbers) or not {*numbers} <= {*range(1, count + 1), *free}:
        return {}
    pieces = dict[int, str]()
    for number, text in [*zip(numbers, found[1::2], strict=True)][: None if whole else -1]:
        items, text = _LIST.match(text.strip()) if lists else None, text.strip()
        if number not in free:
            text = items[0] if items else text.partition("\n\n" if "\n" in olds[number - 1] else "\n")[0]
        pieces[number] = text.rstrip()
    if (added := pieces.pop(count + 1, "")) and not _REMOVED.match(added):
        gap, last = "\n" if _LIST.match(f"{olds[-1]}\n{added}") else "\n\n", pieces.get(count, "")
        pieces[count] = added if _REMOVED.match(last) else f"{last or olds[-1]}{gap}{added}"
    return pieces
