"""Find and read the JSON in a text, in the same way for checks, `output=`, criticisms and the server.

Models put fences and sentences around JSON. The JSON of a text is the first of these that exists: the whole
text, the only block marked as json, the content of a fence around the text, the only object or list. Several
objects are an error, and so is broken JSON or a repeated name, even if other JSON follows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from math import isfinite
from typing import Any, NamedTuple

from pydantic_core import from_json

from redraft.chain import Chain, Place
from redraft.errors import fault_of

MOST_STARTS = 1000  # most brackets of a text to try; each failure takes time proportional to the text
LONG = 1000  # characters: text that is valid JSON for this long is meant as JSON

_SPACE = re.compile(r"[\s\ufeff]*")
_START = re.compile(r"""\{(?=\s*["'}\w])|\[(?=\]|\s*(?:["{\[\]\d-]|true|false|null))""")
_MEANT = re.compile(r"""(?:\[\s*)?\{\s*(?:"[^"\n]*"|'[^'\n]*'|\w+)\s*:|\[\s*"[^"\n]*"\s*,""")
"""Matches text that can only be meant as JSON. If the text cannot be read, the JSON is broken."""


class NotJson(ValueError):
    """No JSON was found in a text. The message is feedback for the model."""

    def __init__(self, message: str, read: float = 0.0) -> None:
        super().__init__(message)
        self.read = read  # the share of the text before the fault, 0 to 1


class Block(NamedTuple):
    """A fenced block: the language, such as `json`, and the range of the content."""

    mark: str
    begin: int
    end: int


def read_json(answer: str) -> tuple[Any, str]:
    """Return the JSON in a text, as a value and as text. Raise `NotJson` with the fault's line and column."""
    text = answer.replace("\r\n", "\n")
    if not text.strip():
        raise NotJson("The answer is empty, and JSON is wanted.")
    blocks = fenced(text)
    marked = [block for block in blocks if block.mark == "json"]
    if len(marked) > 1:
        raise NotJson(f"The answer has {len(marked)} JSON blocks, and exactly one is wanted.")
    if [each.mark for each in blocks] == [""] and text.lstrip()[:1] in "`~":
        marked = [] if text[blocks[0].end :].strip("`~ \n") else blocks  # a fence around the text
    block = marked[0] if marked else None
    begin, end = (block.begin, block.end) if block else (0, len(text))
    try:
        return _decoded(text, begin, end)
    except json.JSONDecodeError as fault:
        return _within(text, begin, end, fault)


def text_of(chain: Chain, answer: str) -> str:
    """Return a chain's answer for other programs: only the JSON, if JSON was requested and found."""
    return answer if chain.value is None else read_json(answer)[1]


_BEGINS = re.compile(r"[{\[]")


def json_so_far(text: str) -> Any:
    """Return the value of unfinished JSON so far; None if the JSON has not begun or is broken."""
    marked = [block.begin for block in fenced(text) if block.mark == "json"]
    begin = _BEGINS.search(text, marked[0] if marked else 0)
    if begin is None:
        return None
    begun = re.split(r"\n[`~]", text[begin.start() :])[0]  # a fence ends the JSON
    if len(re.findall(r'(?<!\\)(?:\\\\)*"', begun)) % 2 == 0:  # outside of strings
        begun = re.sub(r"(?<![\d.eE+-])[\d.eE+-]+\Z", "", begun)  # an unfinished number has a wrong value
    try:
        return from_json(begun, allow_partial="trailing-strings")
    except ValueError:  # the JSON is broken
        return None


def fenced(text: str) -> list[Block]:
    """Return the fenced blocks of a text. The last block may be unclosed."""
    found: list[Block] = []
    fence, mark, begin, at = "", "", 0, 0
    for line in text.split("\n"):
        stripped = line.strip()
        if not fence and stripped.startswith(("```", "~~~")):
            fence, mark, begin = stripped[:3], stripped[3:].strip("`~ ").lower(), at + len(line) + 1
        elif fence and stripped == fence:
            found.append(Block(mark, begin, max(at - 1, begin)))
            fence = ""
        at += len(line) + 1
    return [*found, Block(mark, min(begin, len(text)), len(text))] if fence else found


def _within(text: str, begin: int, end: int, fault: json.JSONDecodeError) -> tuple[Any, str]:
    found: list[tuple[Any, str]] = []
    at, tried = begin, 0
    while (start := _START.search(text, at, end)) and tried < MOST_STARTS:
        try:
            value, at = _raw(text, start.start(), end)
        except json.JSONDecodeError as error:
            first = begin and not text[begin : start.start()].strip()  # nothing precedes it in its block
            if first or _MEANT.match(text, start.start()) or error.pos - start.start() > LONG:
                raise _not_json(error, text) from None
            at, tried = start.end(), tried + 1
            continue
        before, after = text[: start.start()].rpartition("\n")[2], text[at:].partition("\n")[0]
        items = value if isinstance(value, list) else [value] * bool(value)
        # `[1]` and `{}` may be words of a sentence, except `{}` after a colon at the end of a line.
        meant = any(isinstance(item, dict | list | str) for item in items)
        alone = not before.strip() or (not value and before.rstrip().endswith(":"))
        if meant or (alone and not after.strip("` .")):
            found.append((value, text[start.start() : at]))
    if len(found) > 1:
        raise NotJson(f"The answer has {len(found)} objects or lists of JSON, and exactly one is wanted.")
    if not found:
        raise _not_json(fault, text)
    return found[0]


def finite(number: str) -> float:
    """Return a JSON number's value. Raise ValueError if not finite."""
    if not isfinite(value := float(number)):
        raise ValueError(f"{number:.40} is not a finite number")
    return value


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object. Raise ValueError if a name is repeated."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"an object has the name {json.dumps(name, ensure_ascii=False):.60} twice")
        found[name] = value
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=once, parse_constant=finite, parse_float=finite)


def _raw(text: str, begin: int, end: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text if end == len(text) else text[:end], begin)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise NotJson("The answer is not usable JSON: it is nested too deeply.") from None
    except ValueError as error:
        raise NotJson(f"The answer is not JSON: {fault_of(error)}.", begin / (len(text) + 1)) from None


def _decoded(text: str, begin: int, end: int) -> tuple[Any, str]:
    start = _SPACE.match(text, begin, end).end()  # type: ignore[union-attr]
    value, at = _raw(text, start, end)
    after = _SPACE.match(text, at, end).end()  # type: ignore[union-attr]
    if after < end:
        raise json.JSONDecodeError("Extra data", text, after)
    return value, text[start:at]


def pointer(path: Iterable[str | int]) -> str:
    """Return the JSON pointer (RFC 6901) of a path of property names and item numbers."""
    return "".join(f"/{str(key).replace('~', '~0').replace('/', '~1')}" for key in path)


def keys_of(pointer: str) -> list[str]:
    """Return the property names and item numbers of a JSON pointer."""
    return [key.replace("~1", "/").replace("~0", "~") for key in pointer.split("/")[1:]]


@lru_cache(maxsize=8)
def json_in(answer: str) -> tuple[int, str]:
    """Return the position (-1 if unknown) and the text of an answer's JSON; (-1, "") without JSON."""
    try:
        text = read_json(answer)[1]
    except NotJson:
        return -1, ""
    text = text if text in answer else text.replace("\n", "\r\n")
    return answer.find(text), text


def characters_of(answer: str, place: Place) -> tuple[int, int] | None:
    """Convert a place (a range or a JSON pointer) to a range of characters; None if not found."""
    if not isinstance(place, str):
        return place if 0 <= place[0] <= place[1] <= len(answer) else None
    first, text = json_in(answer)
    begin, end, lacks = (first >= 0 and span_of(text, keys_of(place))) or (0, 0, "it")
    return None if lacks or place[:1] not in ("", "/") else (first + begin, first + end)


def pointer_at(answer: str, begin: int, end: int) -> str | None:
    """Return the pointer of the smallest JSON value that covers a range of an answer, or None."""
    (first, text), path, at = json_in(answer), list[str | int](), 0
    if first < 0 or not first <= begin <= end <= first + len(text):
        return None
    while found := [
        each for each in _members(text, at) if each[1] <= begin - first <= end - first <= each[2]
    ]:
        path.append(found[0][0])
        at = found[0][1]
    return pointer(path)


def span_of(text: str, keys: Sequence[str]) -> tuple[int, int, str] | None:
    """Return (begin, end, ""): the range of the value at `keys` in a JSON text.

    If an object lacks only the last key, return (place, place, lead): to add the key, insert `lead` and the
    value at `place`, after a comma unless the object is empty. If more keys are missing, return None.
    """
    begin, end = _after_space(text, 0), len(text.rstrip())
    for depth, key in enumerate(keys, start=1):
        members = {str(name): span for name, *span in _members(text, begin)}
        if key in members:
            begin, end = members[key]
        elif depth == len(keys) and text[begin] == "{":
            gap = text[begin + 1 : _after_space(text, begin + 1)] if members else ""
            last = max((end for _, end in members.values()), default=begin + 1)
            return last, last, f"{gap or ' ' * bool(members)}{json.dumps(key, ensure_ascii=False)}: "
        else:
            return None
    return begin, end, ""


def surplus_of(text: str, keys: Sequence[str], others: Collection[Sequence[str]]) -> tuple[int, int] | None:
    """Return the range of the member at `keys`, its comma, and, for a first member, `others` that follow."""
    around = span_of(text, keys[:-1])
    members = [*_members(text, around[0])] if around and not around[2] else []
    names = [str(name) for name, *_ in members]
    if keys[-1] not in names:
        return None
    place = names.index(keys[-1])
    if place:
        return members[place - 1][2], members[place][2]
    begin, every = _after_space(text, around[0] + 1), [keys, *others]  # type: ignore[index]
    kept = next((n for n, name in enumerate(names) if [*keys[:-1], name] not in every), 0)
    end = members[(kept or len(names)) - 1][2]
    return begin, _after_space(text, _after_space(text, end) + 1) if kept else end


def with_last(text: str, names: Collection[str]) -> str:
    """Return the text of an object, with the members called `names` moved to the end."""
    found = sorted(_members(text, _after_space(text, 0)), key=lambda member: member[0] in names)
    parts = (f"{json.dumps(name, ensure_ascii=False)}: {text[begin:end]}" for name, begin, end in found)
    return f"{{{', '.join(parts)}}}"


def _after_space(text: str, at: int) -> int:
    return _SPACE.match(text, at).end()  # type: ignore[union-attr]


def _members(text: str, at: int) -> Iterator[tuple[str | int, int, int]]:
    if text[at] not in "{[":
        return
    named, number, at = text[at] == "{", 0, _after_space(text, at + 1)
    while text[at] not in "}]":
        key: str | int = number
        if named:
            key, colon = _DECODER.raw_decode(text, at)
            at = _after_space(text, _after_space(text, colon) + 1)
        end = _DECODER.raw_decode(text, at)[1]
        yield key, at, end
        number, at = number + 1, _after_space(text, end)
        at = _after_space(text, at + 1) if text[at] == "," else at


def _not_json(fault: json.JSONDecodeError, text: str) -> NotJson:
    rest = text[fault.pos : fault.pos + 20].split("\n")[0].strip()
    ended = ", where it ends" if fault.pos >= len(text.rstrip()) else ""
    near = f", before {rest!r}" if rest else ended
    found = f"{fault.msg.removesuffix(' at')} at line {fault.lineno}, column {fault.colno}{near}"
    return NotJson(f"The answer is not JSON: {found}.", fault.pos / (len(text) + 1))
