r"""JSON schemas of answers: written so that servers keep to them, and watched in what models answer.

Grammars of servers have no `\d`, `\w` and `\s` and no needless escapes: some drop such a pattern with a line
in their own log, and take any text. Written out they mean the same. The answer is checked against the pattern
as the user wrote it.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Set
from functools import lru_cache
from typing import Any

from pydantic_core import SchemaError, SchemaValidator, core_schema

from redraft.chain import Finish

_log = logging.getLogger(__name__)

MOST_REPEATS = 1000
"""Most repeats for llama.cpp, which refuses 2,000 (MAX_REPETITION_THRESHOLD in llama-grammar.cpp)."""
_COUNTS = frozenset({"minLength", "maxLength", "minItems", "maxItems"})

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
            _log.warning("%s keeps to the JSON schema but for %s, which is only checked.", name, words)

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


class Names:
    """Follows JSON that is written, and finds where an object gives a name again: no grammar forbids it.

    Attributes:
        member: Where the member begins whose name is not known yet, which may be repeated; -1 for none.
    """

    def __init__(self) -> None:
        self._open: list[set[str] | None] = []  # the names of each open object; None for a list
        self._text, self._read, self.member = "", 0, -1

    def take(self, text: str) -> str | None:
        """Take a piece. If it repeats a name, return all of the text before that member, closed."""
        self._text += text
        for found in _MARKS.finditer(self._text, self._read):
            mark, names = found[0], self._open[-1] if self._open else None
            if mark == '"':  # its string goes on, or may be a name
                break
            self._read = found.end()
            if mark in "{[":
                self._open.append(set() if mark == "{" else None)
            elif mark in "}]":
                self._open = self._open[:-1]
            elif names is not None and mark == ",":
                self.member = found.start()
            elif names is not None and found[1] == ":":
                if mark in names:
                    closing = ("]" if each is None else "}" for each in reversed(self._open))
                    return self._text[: self.member] + "".join(closing)
                names.add(mark)
                self.member = -1
        return None


_MARKS = re.compile(r'"(?:[^"\\]|\\.)*+"(?=\s*(\S))|[][{},"]', re.DOTALL)
"""What gives JSON its shape. A string is read once it is known what follows."""

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


def with_plain_patterns(schema: Any, *, llamacpp: bool) -> Any:
    """Return a schema, or a list of them, with its patterns written out. `llamacpp`: it is for llama.cpp.

    Its server matches a pattern with the text between the quotes of JSON, so that `.` ends the text with a
    bare quote and the reply fails. It refuses a whole request for a length above `MOST_REPEATS`, and takes
    only `{}` for an object whose names have patterns alone. So these keywords are left to the check.
    """
    if isinstance(schema, list):
        return [with_plain_patterns(part, llamacpp=llamacpp) for part in schema]
    if not isinstance(schema, Mapping):
        return schema

    def part(name: str, value: Any) -> Any:
        if name == "pattern" and isinstance(value, str):
            return plain(value)
        if name in _MAPS and isinstance(value, Mapping):
            return {key: with_plain_patterns(each, llamacpp=llamacpp) for key, each in value.items()}
        return with_plain_patterns(value, llamacpp=llamacpp) if name in _PARTS else value

    left = set[str]()
    if llamacpp:
        left = {"pattern", *(name for name in _COUNTS & schema.keys() if schema[name] > MOST_REPEATS)}
        if "patternProperties" in schema:
            left |= {"patternProperties", "additionalProperties"}
    return {name: part(name, value) for name, value in schema.items() if name not in left}


def plain(pattern: str) -> str:
    r"""Return a pattern written out, such as `^[0-9]{4}$` for `^\d{4}$`; as it is if it has `\b` or looks
    around.
    """
    if re.search(r"\(\?[^:]|\\[bB\d]", pattern):
        return pattern
    return _ATOM.sub(lambda found: _atom(found[0]), pattern).replace("(?:", "(")


def _atom(text: str) -> str:
    if text == ".":
        return text
    if text.startswith("["):
        return _class(text)
    name = text[1]
    if name in _CLASSES:
        return f"[{_CLASSES[name]}]"
    if name.lower() in _CLASSES:
        return f"[^{_CLASSES[name.lower()]}]"
    return text if name.isalnum() or name in _SPECIAL else name


def _class(text: str) -> str:
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
    return f"{start}{written}{dash}]"


def for_xgrammar(schema: Any) -> Any:
    """Return a schema that XGrammar, with which OpenVINO keeps to schemas, does not misread.

    Beside a pattern it drops lengths, which are left to the check.
    """
    if isinstance(schema, list):
        return [for_xgrammar(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    kept = {name: value for name, value in schema.items() if name != "multipleOf"}
    if kept.get("properties") and "patternProperties" in kept:  # of both, it reads the patterns alone
        del kept["patternProperties"]
        kept["additionalProperties"] = False
    for name, value in kept.items():
        if name in _MAPS and isinstance(value, Mapping):
            kept[name] = {key: for_xgrammar(part) for key, part in value.items()}
        elif name in _PARTS:
            kept[name] = for_xgrammar(value)
    return kept


# Inside llama.cpp is llguidance. One keyword that it does not know undoes the whole grammar, without an
# error. So these keywords are removed, and left to the check of the answer. What is left never refuses an
# answer that the whole schema accepts, by the rules of JSON Schema: only keywords that nothing else depends
# on are removed, and none below a negation, since `not` and `if` go as a whole. `lenient` is the net for
# what is not foreseen here, such as two parts of `allOf` that do not go together. Known limits:
# docs/json_schema.md of llguidance.
_REFUSED = frozenset(
    {"not", "if", "then", "else", "dependencies", "dependentRequired", "dependentSchemas", "propertyNames"}
    | {"uniqueItems", "contains", "minContains", "maxContains", "unevaluatedItems", "unevaluatedProperties"}
    | {"$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"}
)
_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
)

_MOST = 2**53  # bounds beyond are rounded in llguidance, and from 2^63 on refused
_MOST_ITEMS = 10_000  # 100,000 are refused


def expressible(schema: Any) -> tuple[Any, frozenset[str]]:
    """Return the schema for the grammar, and the keywords that are left to checking."""
    left = set[str]()
    reduced = _reduced(schema, left)
    if isinstance(reduced, dict):
        reduced["x-guidance"] = {"lenient": True, "whitespace_flexible": False}
    return reduced, frozenset(left)


def _reduced(schema: Any, left: set[str]) -> Any:
    """Return a part of a schema, or a list of them, without what cannot be expressed. Add that to `left`."""
    if isinstance(schema, list):
        return [_reduced(part, left) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    kept: dict[str, Any] = {}
    for name, value in schema.items():
        if name in _REFUSED or (name in _CONDITIONS and not _CONDITIONS[name](value, schema)):
            left.update({name} - _ANNOTATIONS)
        elif name in _MAPS:
            kept[name] = {key: _reduced(part, left) for key, part in value.items()}
        else:  # llguidance takes `oneOf` only if it sees that at most one part can fit
            kept["anyOf" if name == "oneOf" else name] = _reduced(value, left) if name in _PARTS else value
    return kept


_ANNOTATIONS = frozenset({"format", "$schema"})  # keywords that are not checked, either


_UNIT = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)  # an escape, or a class in brackets

_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_OTHER_GROUP = re.compile(r"\(\?(?!:|P?<[A-Za-z_]|[is]+[:)])")
_OF_SETS = re.compile(r"(?!^)\[|&&|--|~~")


@lru_cache(maxsize=256)
def _usable(pattern: str) -> bool:
    """Return whether llguidance takes a pattern, and as the check does.

    It takes the syntax of Rust's `regex`, as pydantic does, without words' edges, and `^` and `$` at the ends
    only. Sets in classes (`[a&&b]`) and the flags m and x are refused because their meaning differs.
    """
    if {"b", "B", "<", ">"} & set(_ESCAPE.findall(pattern)) or "{," in pattern:
        return False
    bare = _UNIT.sub("e", pattern)
    if _OTHER_GROUP.search(bare) or any(map(_OF_SETS.search, _UNIT.findall(pattern))):
        return False
    parts = [bare] if "(" in bare else bare.split("|")
    if any({"^", "$"} & set(part.removeprefix("^").removesuffix("$")) for part in parts):
        return False
    try:
        SchemaValidator(core_schema.str_schema(pattern=pattern))
    except SchemaError:
        return False
    return True


def _all_required(value: Any, schema: Mapping[str, Any]) -> bool:  # noqa: ARG001
    return set(schema.get("properties", ())) <= set(schema.get("required", ()))


def _one_family(value: Any, schema: Mapping[str, Any]) -> bool:  # noqa: ARG001
    """Return whether `patternProperties` can be expressed: several patterns would have to be disjoint.

    `additionalProperties` depends on them: without them it would refuse their properties.
    """
    patterns = schema.get("patternProperties", {})
    return len(patterns) <= 1 and all(map(_usable, patterns))


_CONDITIONS: Mapping[str, Callable[[Any, Mapping[str, Any]], bool]] = {
    "pattern": lambda value, _: _usable(value),
    "patternProperties": _one_family,
    "additionalProperties": _one_family,
    "format": lambda value, schema: value in _FORMATS and "pattern" not in schema,
    "oneOf": lambda _, schema: "anyOf" not in schema,
    "minProperties": _all_required,
    "maxProperties": _all_required,
    **dict.fromkeys(("minItems", "maxItems"), lambda value, _: value <= _MOST_ITEMS),
    **dict.fromkeys(
        ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), lambda value, _: abs(value) <= _MOST
    ),
    # A large factor kept llguidance busy for minutes.
    "multipleOf": lambda value, _: 0.000001 <= value <= 1000 and round(value, 6) == value,
    "$ref": lambda value, _: value.startswith("#"),
    "$schema": lambda value, _: "json-schema.org/" in value,
}
"""Conditions on the value of a keyword and the schema that it stands in."""
