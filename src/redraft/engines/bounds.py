"""Add bounds to JSON schemas, so that an answer is complete before `max_tokens` is reached.

Without bounds, models may extend a text, number, name, list or tree until the JSON is cut off and invalid.
For local models, subschemas without bounds get bounds that fit the token limit. JSON that matches the new
schema also matches the old schema. Subschemas in `allOf`, or next to `anyOf`, are not changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from math import inf
from re import _parser  # type: ignore[attr-defined]
from typing import Any

from redraft.engines.base import is_number

CHARACTERS, SPACED = 3.0, 2.0
"""Estimated characters per token of JSON, and of JSON with spaces and free property names. English has 4, but
JSON's punctuation marks are separate tokens."""
MARKS = 8  # characters of a value that is not a text, or of the punctuation around a value
LEAST = 16  # the smallest bound of a text, in characters
SHORT = 100  # a schema's bound of at most this many characters is kept
MOST_ITEMS = 32  # the largest bound of a list, or of an object with free property names
MOST_NUMBER = 10**12
DECIMALS = 0.000001  # by default, numbers are multiples of this
ROOM_FOR_MORE = 64  # characters; with less room, an untyped value may not be a list or an object
LEVELS = (3, 2, 1)  # how often a type may contain itself; a later number if the schema grows too large
MOST_PARTS = 2000  # maximum number of a schema's parts after its references are expanded

_LETTERS = "0-9A-Za-z_À-ÖØ-öø-῿Ⰰ-퟿"
NAME = f"^[{_LETTERS}.-]{{1,24}}( [{_LETTERS}.-]{{1,24}}){{0,2}}$"
"""A pattern for property names that a schema does not restrict."""

_ANNOTATIONS = frozenset({"title", "description", "default", "examples", "deprecated", "discriminator"})
_TOP = frozenset({"$defs", "definitions", "$schema", "$id", "x-guidance"})
_KINDS: Mapping[str, frozenset[str]] = {
    "object": frozenset({"properties", "required", "additionalProperties", "patternProperties"}),
    "array": frozenset({"items", "prefixItems", "minItems", "maxItems", "uniqueItems"}),
    "string": frozenset({"pattern", "format", "minLength", "maxLength"}),
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}),
}
"""Keywords that imply the type of a value in a schema without `type`."""
_OPEN_NAMES = {"propertyNames", "unevaluatedProperties", "not", "if"}
_OPEN_NAMES |= {"dependentRequired", "dependentSchemas", "dependencies"}
"""Keywords that may require properties that the schema does not name."""
_SHORT_FORMATS = frozenset({"date-time", "time", "date", "duration", "ipv4", "ipv6", "uuid"})


def within(schema: Mapping[str, Any], tokens: int) -> dict[str, Any]:
    """Add bounds to all parts of a schema, so that matching JSON needs about `tokens` tokens at most.

    Existing bounds are kept if they fit. If an object's schema names properties, other properties are
    forbidden.
    """
    found: Any = None
    free = is_open(schema)
    room = int(tokens * (SPACED if free else CHARACTERS))
    for levels in LEVELS:
        bounds = _Bounds(schema, levels, room // 2 if free else 0)
        found = bounds.part(schema, room, ())
        if bounds.parts <= MOST_PARTS:
            break
    if not isinstance(found, Mapping) or bounds.parts > MOST_PARTS:
        return dict(schema)
    return {**{name: part for name, part in schema.items() if name in _TOP}, **found}


def is_open(schema: Any) -> bool:
    """Return whether a schema lets the model choose all property names."""
    text = json.dumps(schema)
    return '"object"' in text and not re.search(r'"(?:properties|\$defs|definitions)"', text)


def unwritten(text: str, schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the schema of each required property that is missing in a JSON object cut within a string.

    Return None for any other text, or if that string is empty or its schema has limits besides `maxLength`.
    """
    parts, required = schema.get("properties", {}), schema.get("required", ())
    with suppress(ValueError, KeyError, AttributeError, TypeError):
        *_, last = said = json.loads(text + '"}')
        kinds = parts[last].get("anyOf", [parts[last]])  # a text or null
        if said[last] and all(kind.keys() <= _ANNOTATIONS | {"type", "maxLength"} for kind in kinds):
            named = {name: schema[name] for name in _TOP & schema.keys()}
            return {name: {**named, **parts[name]} for name in parts if name in required and name not in said}
    return None


def _ended(names: str) -> str:
    open_ended = names.startswith("^") and not re.search(r"[|$\\]", names)
    return f"{names}[{_LETTERS}.-]{{0,12}}$" if open_ended else names


def width(pattern: str) -> tuple[int, int]:
    """Return the minimum and maximum length of a pattern's matches. Raise `ValueError` if unknown."""
    try:
        least, most = _parser.parse(pattern).getwidth()
    except (re.error, RecursionError, OverflowError):
        raise ValueError(pattern) from None
    return least, most


class _Bounds:
    def __init__(self, schema: Mapping[str, Any], levels: int, text: int) -> None:
        self._whole, self._levels, self._text, self.parts = schema, levels, text, 0

    def part(self, part: Any, room: int, within: tuple[str, ...]) -> Any:
        """Return a subschema bounded to about `room` characters. `within` lists the `$ref`s followed so far.

        Return None if no value fits, or if the subschema contains itself too often.
        """
        self.parts += 1
        if part is False:
            return None
        part = {} if part is True else part
        if self.parts > MOST_PARTS or not isinstance(part, Mapping):
            return part
        said = part.keys() - _ANNOTATIONS - _TOP
        if not said:
            return self._any(room)
        if "$ref" in said:
            return self._referred(part, room, within) if said == {"$ref"} else part
        if ways := said & {"anyOf", "oneOf"}:
            return self._ways(part, min(ways), room, within) if len(said) == 1 else part
        if said & {"allOf", "enum", "const"}:
            return part
        kinds = _types(part) or {kind for kind, names in _KINDS.items() if names & said}
        if len(kinds) > 1 and "type" in said:
            split = {"anyOf": [{**part, "type": kind} for kind in sorted(kinds)]}
            return self._ways(split, "anyOf", room, within)
        return self._of_kind(min(kinds), part, room, within) if len(kinds) == 1 else part

    def _of_kind(self, kind: str, part: Mapping[str, Any], room: int, within: tuple[str, ...]) -> Any:
        if kind == "object":
            return self._object(part, room, within)
        if kind == "array":
            return self._list(part, room, within)
        if kind == "string":
            return _text(part, room)
        return _number(kind, part) if kind in ("number", "integer") else part

    def _referred(self, part: Mapping[str, Any], room: int, within: tuple[str, ...]) -> Any:
        name, found = part["$ref"], self._named(part)
        if found is None:
            return part
        deep = within.count(name) >= self._levels or (name in within and room < 2 * LEAST)
        return None if deep else self.part(found, room, (*within, name))

    def _named(self, part: Any) -> Any:
        name = part.get("$ref") if isinstance(part, Mapping) else None
        if not isinstance(name, str) or not (name == "#" or name.startswith("#/")):
            return None
        found: Any = self._whole
        for step in name.split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping):
            return found
        return {key: value for key, value in found.items() if key not in _TOP}

    def _ways(self, part: Mapping[str, Any], name: str, room: int, within: tuple[str, ...]) -> Any:
        ways = [way for way in (self.part(each, room, within) for each in part[name]) if way is not None]
        return {**part, name: ways} if ways else None

    def _any(self, room: int) -> Any:
        text = _text({"type": "string"}, max(room, self._text))
        ways = [text, _number("number", {}), {"type": "boolean"}, {"type": "null"}]
        if room >= ROOM_FOR_MORE:
            ways += [self._list({"type": "array"}, room, ()), self._free({"type": "object"}, {}, room, ())]
        return {"anyOf": ways}

    def _object(self, part: Mapping[str, Any], room: int, within: tuple[str, ...]) -> Any:
        rest, families = part.get("additionalProperties", True), part.get("patternProperties")
        named = part.get("properties", {})
        missing = [name for name in part.get("required", ()) if name not in named]
        if _OPEN_NAMES & part.keys() or (missing and (rest is False or families)):
            return part
        given = {**named, **dict.fromkeys(missing, rest)}
        if families:
            return self._families(part, given, room, within)
        if part.get("minProperties", 0) > len(given) > 0:
            return part
        if not given:
            return part if rest is False else self._free(part, rest, room, within)
        shares = {name: self._shares(each, within) for name, each in given.items()}
        left = room - sum(len(name) + MARKS * (1 + (not shares[name])) for name in given)
        one = max(left, 0) // max(sum(shares.values()), 1)
        bounded = {name: self.part(each, one * shares[name], within) for name, each in given.items()}
        if any(bounded[name] is None for name in part.get("required", ())):
            return None
        bounded = {name: each for name, each in bounded.items() if each is not None}
        return {**part, "type": "object", "properties": bounded, "additionalProperties": False}

    def _families(
        self, part: Mapping[str, Any], given: Mapping[str, Any], room: int, within: tuple[str, ...]
    ) -> Any:
        if given:
            return part
        each = LEAST + 2 * MARKS
        if NAME not in part["patternProperties"]:
            each *= 2  # names made up for a pattern have fewer characters per token
        most = part.get("maxProperties", max(min(room // each, MOST_ITEMS), 1))
        most = max(most, part.get("minProperties", 0))
        named, one = part["patternProperties"].items(), room // max(most, 1)
        bounded = {_ended(name): self.part(value, one, within) for name, value in named}
        if None in bounded.values():
            return None if part.get("minProperties") else {"const": {}}
        return {**part, "type": "object", "patternProperties": bounded, "maxProperties": most}

    def _free(self, part: Mapping[str, Any], rest: Any, room: int, within: tuple[str, ...]) -> Any:
        others = {name: each for name, each in part.items() if name not in ("properties", "required")}
        families = {"patternProperties": {NAME: rest}, "additionalProperties": False}
        return self._families({**others, **families}, {}, room, within)

    def _list(self, part: Mapping[str, Any], room: int, within: tuple[str, ...]) -> Any:
        least, items = part.get("minItems", 0), part.get("items", True)
        if "prefixItems" in part:
            one = room // len(part["prefixItems"])
            first = [self.part(each, one, within) for each in part["prefixItems"]]
            if None in first or "items" in part or least > len(first):
                return part
            return {**part, "type": "array", "prefixItems": first, "items": False}
        if not (items is True or isinstance(items, Mapping)):  # `false`, or a list as in old drafts
            return part
        fit = max(min(room // self._length(items, within), MOST_ITEMS), least, 1)
        most = min(part.get("maxItems", fit), max(room // MARKS, least, 1))
        bounded = self.part(items, room // max(most, 1), within)
        if bounded is None:
            return None if least else {"const": []}  # models fill an empty list with white space
        return {**part, "type": "array", "items": bounded, "maxItems": most}

    def _length(self, part: Any, within: tuple[str, ...]) -> int:
        if not isinstance(part, Mapping):
            return 4 * MARKS
        if (found := self._named(part)) is not None:
            again = part["$ref"] in within
            return MARKS + 4 * LEAST if again else self._length(found, (*within, part["$ref"]))
        given = part.get("properties", {}).items()
        return MARKS + (sum(len(name) + self._length(each, within) for name, each in given) or LEAST)

    def _shares(self, part: Any, within: tuple[str, ...]) -> int:
        if not isinstance(part, Mapping):
            return 1
        if (found := self._named(part)) is not None and part["$ref"] not in within:
            return self._shares(found, (*within, part["$ref"]))
        if {"items", "properties"} & part.keys():
            return 2
        scalar = _types(part) and not {"string", "object", "array"} & _types(part)
        return int(not (scalar or _is_short(part)))


def _text(part: Mapping[str, Any], room: int) -> dict[str, Any]:
    if _is_short(part):
        return dict(part)
    most = max(room, 2 * LEAST if "format" in part else LEAST, part.get("minLength", 0), _width(part)[0])
    return {**part, "type": "string", "maxLength": min(part.get("maxLength", most), most)}


def _is_short(part: Mapping[str, Any]) -> bool:
    if {"enum", "const"} & part.keys() or part.get("format") in _SHORT_FORMATS:
        return True
    least, most = _width(part)
    return least > SHORT or min(most, part.get("maxLength", most)) <= SHORT


def _width(part: Mapping[str, Any]) -> tuple[int, float]:
    pattern = part.get("pattern")
    if pattern is None:
        return 0, inf
    try:
        least, most = width(pattern)
    except ValueError:
        return 0, 0
    return least, most if pattern.startswith("^") and pattern.endswith("$") else inf


def _number(kind: str, part: Mapping[str, Any]) -> dict[str, Any]:
    lows = [part[name] for name in ("minimum", "exclusiveMinimum") if is_number(part.get(name))]
    highs = [part[name] for name in ("maximum", "exclusiveMaximum") if is_number(part.get(name))]
    found = {**part, "type": kind}
    if kind == "number":
        found.setdefault("multipleOf", DECIMALS)
    if not lows:
        found["minimum"] = -MOST_NUMBER if not highs else min(-MOST_NUMBER, int(min(highs)) - MOST_NUMBER)
    if not highs:
        found["maximum"] = MOST_NUMBER if not lows else max(MOST_NUMBER, int(max(lows)) + MOST_NUMBER)
    return found


def _types(part: Mapping[str, Any]) -> set[str]:
    found = part.get("type", ())
    return {found} if isinstance(found, str) else set(found)
