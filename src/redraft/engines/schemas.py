r"""JSON schemas of answers: written so that servers keep to them, and watched in what models answer.

llama.cpp's grammar has no `\d`, `\w` and `\s`, no needless escapes and no pattern without `^` and `$`: its
server drops such a pattern with a line in its own log, and takes any text. Written out they mean the same, to
other servers too. It also matches a pattern with the text between the quotes of JSON, so that `.` ends the
text with a bare quote and the reply fails: for llama.cpp, what is not named leaves quotes, backslashes and
control characters out. The answer is checked against the pattern as the user wrote it.

Models run on in a text, a list or white space until they are cut, and half an object is none. Where the model
is on this machine, texts and lists without a bound get one that the tokens have room for (`within`).
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Set
from typing import Any

from redraft.chain import Finish

_log = logging.getLogger(__name__)

_FIRST = '{["-0123456789tfn'  # characters that JSON may begin with


UNBOUND = "replies are only checked, or read as text"
"""What becomes of replies that keep to no schema: answers are checked, and criticisms are read."""


class SchemaWatch:
    """Looks at the answers of one engine, and warns in the log once."""

    def __init__(self) -> None:
        self._warned = False
        self._left = set[str]()

    def leave(self, name: str, keywords: Set[str]) -> None:
        """Log the keywords that a grammar cannot express, each once."""
        new, self._left = keywords - self._left, self._left | keywords
        if new:
            words = ", ".join(sorted(new))
            _log.info("%s keeps to the JSON schema but for %s, which is only checked", name, words)

    def look(self, name: str, answer: str, finish: Finish) -> None:
        """Warn at the first answer that is no JSON. One that was cut off may be the beginning of some."""
        text = answer.strip()
        if self._warned or not text or (finish != "stop" and text[0] in _FIRST):
            return
        try:
            if finish == "stop":
                json.loads(text)
                return
        except (ValueError, RecursionError):
            pass
        self._warned = True
        _log.warning("%s does not keep to the JSON schema, so %s: %.60r", name, UNBOUND, answer)


_ATOM = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\.", re.DOTALL)
"""An escape, a class in brackets, or a dot."""

_PARTS = frozenset(
    {"items", "additionalItems", "prefixItems", "additionalProperties", "anyOf", "allOf", "oneOf"}
)
_MAPS = frozenset({"$defs", "definitions", "properties", "patternProperties"})

_CLASSES = {"d": "0-9", "w": "0-9A-Za-z_À-ÖØ-öø-῿Ⰰ-퟿", "s": " "}
"""Letters beyond ASCII are whole blocks of Unicode: a little too much, and the check decides. Other space
than the blank is written with an escape in JSON."""

_SPECIAL = frozenset(r"\^$.|?*+()[]{}")
_SPECIAL_IN_CLASS = frozenset(r"\^[]")
_OF_JSON = r'"\\\x01-\x1F'  # what does not stand for itself between the quotes of JSON


def with_plain_patterns(schema: Any, *, llamacpp: bool) -> Any:
    """Return a schema, or a list of them, with its patterns written out. `llamacpp`: it is for llama.cpp."""
    if isinstance(schema, list):
        return [with_plain_patterns(part, llamacpp=llamacpp) for part in schema]
    if not isinstance(schema, Mapping):
        return schema

    def part(name: str, value: Any) -> Any:
        if name == "pattern" and isinstance(value, str):
            return plain(value, llamacpp=llamacpp)
        if name in _MAPS and isinstance(value, Mapping):
            return {key: with_plain_patterns(each, llamacpp=llamacpp) for key, each in value.items()}
        return with_plain_patterns(value, llamacpp=llamacpp) if name in _PARTS else value

    return {name: part(name, value) for name, value in schema.items()}


def plain(pattern: str, *, llamacpp: bool) -> str:
    r"""Return a pattern written out, such as `^[0-9]{4}$` for `^\d{4}$`; for llama.cpp with both anchors.

    One that has what llama.cpp cannot express (`\b`, lookarounds, anchors in the middle) is left as it is.
    """
    if re.search(r"\(\?[^:]|\\[bB\d]", pattern):
        return pattern
    bare = _ATOM.sub("e", pattern)
    begins, ends = bare.startswith("^"), bare.endswith("$")
    closed = _OF_JSON if llamacpp else ""
    written = _ATOM.sub(lambda found: _atom(found[0], closed), pattern).replace("(?:", "(")
    branches = "|" in re.sub(r"\([^()]*\)", "", bare)
    middle = bare[begins : len(bare) - ends]
    if not llamacpp or (begins and ends) or {"^", "$"} & set(middle) or (branches and (begins or ends)):
        return written
    text = f"({written})" if branches else written.removeprefix("^" * begins).removesuffix("$" * ends)
    anything = f"[^{_OF_JSON}]*"
    return f"^{anything * (not begins)}{text}{anything * (not ends)}$"


def _atom(text: str, closed: str) -> str:
    """Write out an atom. `closed` is what a class that names what it leaves out leaves out, too."""
    if text == ".":
        return f"[^{closed}]" if closed else text
    if text.startswith("["):
        return _class(text, closed)
    name = text[1]
    if name in _CLASSES:
        return f"[{_CLASSES[name]}]"
    if name.lower() in _CLASSES:
        return f"[^{_CLASSES[name.lower()]}{closed}]"
    return text if name.isalnum() or name in _SPECIAL else name


def _class(text: str, closed: str) -> str:
    r"""Write out a class. A dash that is no range goes to its end: `[\w-.]`."""
    start = "[^" if text.startswith("[^") else "["
    items = re.findall(r"\\.|.", text[len(start) : -1], re.DOTALL)
    if {r"\D", r"\W", r"\S"} & set(items):
        return text
    written, dash = "", ""
    for before, item, after in zip(["", *items], items, [*items[1:], ""], strict=False):
        if item == r"\-" or (item == "-" and ({before, after} & {"", r"\d", r"\w", r"\s"})):
            dash = "-"
        elif item[1:] in _CLASSES:
            written += _CLASSES[item[1:]]
        else:
            needless = len(item) == 2 and not (item[1].isalnum() or item[1] in _SPECIAL_IN_CLASS)
            written += item[needless:]
    return f"{start}{closed if start == '[^' else ''}{written}{dash}]"


CHARACTERS = 3.0
"""Characters of JSON in a token. A choice: English has 4, and marks are tokens of their own."""
MARKS = 8  # characters of a value that is no text, or of the marks around one
LEAST = 16  # the fewest characters that a text is bounded to
MOST_ITEMS = 32  # the most items that a list is bounded to

_COMPOSED = frozenset({"patternProperties", "additionalProperties", "minProperties", "maxProperties"})
_BOUND = frozenset({"enum", "const", "pattern", "format", "maxLength"})


def within(schema: Mapping[str, Any], tokens: int) -> dict[str, Any]:
    """Return a schema whose texts and lists have bounds, so that JSON of about `tokens` tokens fits it.

    A bound that it has stays, and an object has the properties that it names, if it says nothing of others. A
    part that is in itself, or is composed of others by `allOf`, is left as it is. Emoji may take more tokens.
    """
    others = {name: part for name, part in schema.items() if name != "$ref"}
    return {**others, **_Bounds(schema).part(schema, int(tokens * CHARACTERS), ())}


class _Bounds:
    """Shares out characters among the parts of a schema."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._whole = schema

    def part(self, part: Any, room: int, within: tuple[str, ...]) -> Any:
        """Return a part that has about `room` characters. `within`: the references that lead to it."""
        if not isinstance(part, Mapping) or "allOf" in part:
            return part
        if (found := self._named(part)) is not None:
            name = part["$ref"]
            return part if name in within else self.part(found, room, (*within, name))
        if ways := next((name for name in ("anyOf", "oneOf") if name in part), ""):
            return {**part, ways: [self.part(way, room, within) for way in part[ways]]}
        if "properties" in part:
            return self._object(part, room, within)
        if "items" in part and "prefixItems" not in part:
            return self._list(part, room, within)
        if "string" in _types(part) and not _BOUND & part.keys():
            return {**part, "maxLength": max(room, LEAST, part.get("minLength", 0))}
        return part

    def _named(self, part: Mapping[str, Any]) -> Any:
        """Return what a reference to a definition of the schema names, if it stands alone."""
        _, _, name = str(part.get("$ref", "")).partition("#/$defs/")
        return self._whole.get("$defs", {}).get(name) if name and part.keys() <= _ANNOTATED else None

    def _object(self, part: Mapping[str, Any], room: int, within: tuple[str, ...]) -> dict[str, Any]:
        given = part["properties"]
        shares = {name: self._shares(each, within) for name, each in given.items()}
        left = room - sum(len(name) + MARKS * (1 + (not shares[name])) for name in given)
        one = max(left, 0) // max(sum(shares.values()), 1)
        bounded = {name: self.part(each, one * shares[name], within) for name, each in given.items()}
        closed = not (_COMPOSED & part.keys() or set(part.get("required", ())) - given.keys())
        only = {"additionalProperties": False} if closed else {}
        return {**part, "properties": bounded, **only}

    def _list(self, part: Mapping[str, Any], room: int, within: tuple[str, ...]) -> dict[str, Any]:
        least, items = part.get("minItems", 0), part["items"]
        fit = max(room // self._length(items, within), least, 1)
        most = part.get("maxItems", min(fit, max(MOST_ITEMS, least)))
        return {**part, "items": self.part(items, room // max(most, 1), within), "maxItems": most}

    def _length(self, part: Any, within: tuple[str, ...]) -> int:
        """Return the characters of a short value."""
        if not isinstance(part, Mapping):
            return MARKS
        if (found := self._named(part)) is not None and part["$ref"] not in within:
            return self._length(found, (*within, part["$ref"]))
        given = part.get("properties", {}).items()
        return MARKS + (sum(len(name) + self._length(each, within) for name, each in given) or LEAST)

    def _shares(self, part: Any, within: tuple[str, ...]) -> int:
        """Return the shares of a value in the room of its object: a list has two, a number none."""
        if not isinstance(part, Mapping):
            return 1
        if (found := self._named(part)) is not None and part["$ref"] not in within:
            return self._shares(found, (*within, part["$ref"]))
        if {"items", "properties"} & part.keys():
            return 2
        scalar = _types(part) and not {"string", "object", "array"} & _types(part)
        return int(not (scalar or _BOUND & part.keys()))


def _types(part: Mapping[str, Any]) -> set[str]:
    found = part.get("type", ())
    return {found} if isinstance(found, str) else set(found)


_ANNOTATED = frozenset({"$ref", "$defs", "$schema", "x-guidance", "title", "description", "default"})
