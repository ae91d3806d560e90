"""Remove the parts of JSON schemas that grammars misread, and notice answers that ignore the schema.

Keywords that a grammar cannot express are checked only in the finished answer.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from functools import lru_cache
from typing import Any

from pydantic_core import SchemaError, SchemaValidator, core_schema

from redraft.chain import Finish
from redraft.engines.bounds import is_open

_log = logging.getLogger(__name__)

MOST_REPEATS = 1000
"""Maximum repeats sent to llama.cpp, which refuses 2,000 (MAX_REPETITION_THRESHOLD in llama-grammar.cpp)."""
_COUNTS = frozenset({"minLength", "maxLength", "minItems", "maxItems"})

FIRST = '{["-0123456789tfn'  # characters that JSON may begin with

UNBOUND = "answers are only checked afterwards, and a critic's reply is read as plain text"
"""What happens to replies if the schema is not enforced."""


class SchemaWatch:
    """Watches the answers of one engine, and logs one warning about answers that ignore the schema."""

    def __init__(self) -> None:
        self._warned = False
        self._left = set[str]()

    def leave(self, name: str, keywords: Set[str]) -> None:
        """Log keywords that a grammar cannot express. Each keyword is logged only once."""
        new, self._left = keywords - self._left, self._left | keywords
        if new:
            words = ", ".join(sorted(new))
            why = "%s cannot enforce the schema keywords %s. Only checks of the finished answer apply them."
            _log.warning(why, name, words)

    def look(self, name: str, answer: str, finish: Finish) -> None:
        """Warn about the first answer that is not JSON. JSON that was cut off is accepted."""
        text = answer.strip()
        if self._warned or not text or (finish != "stop" and text[0] in FIRST):
            return
        if finish == "stop":
            with suppress(ValueError, RecursionError):
                json.loads(text)
                return
        self._warned = True
        _log.warning("%s does not follow the JSON schema, so %s.", name, UNBOUND)


class Names:
    """Reads JSON while a model writes, and finds repeated names in an object.

    Attributes:
        member: The index where a member with an unfinished name begins; -1 for none.
    """

    def __init__(self) -> None:
        self._open: list[set[str] | None] = []  # the names of each open object; None for a list
        self._text, self._read, self.member = "", 0, -1

    def take(self, text: str) -> str | None:
        """Add a piece. If a member repeats a name, return the text before it, with all brackets closed."""
        self._text += text
        for found in _MARKS.finditer(self._text, self._read):
            mark, names = found[0], self._open[-1] if self._open else None
            if mark == '"':  # the string is unfinished, or may be a name
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
"""Structural tokens of JSON. A string matches only with the next character, which is `:` after a name."""

_PARTS = {"items", "additionalItems", "prefixItems", "additionalProperties", "anyOf", "allOf", "oneOf"}
_MAPS = frozenset({"$defs", "definitions", "properties", "patternProperties"})


def _throughout(schema: Any, changed: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Any:
    if isinstance(schema, list):
        return [_throughout(part, changed) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    found = changed(schema)
    for name, value in found.items():
        if name in _MAPS and isinstance(value, Mapping):
            found[name] = {key: _throughout(part, changed) for key, part in value.items()}
        elif name in _PARTS:
            found[name] = _throughout(value, changed)
    return found


def for_servers_of_llamacpp(schema: Any) -> Any:
    """Return a schema without the parts that llama.cpp's server and Ollama misread or refuse."""

    # In their grammars, `.` in a pattern may match the closing quote of JSON, and `\d` is missing. Lengths
    # above `MOST_REPEATS` are refused. An object with only `patternProperties` would always be `{}`.
    def changed(part: Mapping[str, Any]) -> dict[str, Any]:
        left = {"pattern", *(name for name in _COUNTS & part.keys() if part[name] > MOST_REPEATS)}
        if "patternProperties" in part:
            left |= {"patternProperties", "additionalProperties"}
        return {name: value for name, value in part.items() if name not in left}

    return _throughout(schema, changed)


def for_xgrammar(schema: Any) -> tuple[Any, frozenset[str]]:
    """Adapt a schema to OpenVINO's XGrammar. Return the schema, and the keywords that are not enforced."""
    left = set[str]()

    def changed(part: Mapping[str, Any]) -> dict[str, Any]:
        # XGrammar ignores these keywords.
        dropped = {"multipleOf", *(("minLength", "maxLength") if "pattern" in part else ())}
        left.update(dropped & part.keys())
        kept = {name: value for name, value in part.items() if name not in dropped}
        if kept.get("properties") and "patternProperties" in kept:  # XGrammar would read only the patterns
            del kept["patternProperties"]
            kept["additionalProperties"] = False
        return kept

    return _throughout(schema, changed), frozenset(left)


# llama.cpp uses llguidance. One keyword that llguidance does not know disables the whole grammar, without
# an error. So these keywords are removed, and only the check of the answer covers them. By the rules of JSON
# Schema, the reduced schema accepts every answer that the whole schema accepts: nothing else depends on the
# removed keywords, and none is inside a negation, because `not` and `if` are removed as a whole. `lenient` is
# for cases that are not foreseen here, such as two parts of `allOf` that exclude each other. The known limits
# are in docs/json_schema.md of llguidance.
_REFUSED = frozenset(
    {"not", "if", "then", "else", "dependencies", "dependentRequired", "dependentSchemas", "propertyNames"}
    | {"uniqueItems", "contains", "minContains", "maxContains", "unevaluatedItems", "unevaluatedProperties"}
    | {"$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"}
)
_FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}

_DAY = (
    "^(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))|[0-9]{2}(?:[02468][048]|[13579][26])-02-29)$"
)
"""Matches real dates: llguidance's `date` accepts 30 February. Every fourth year counts as a leap year."""
_CLOCK = r"(?:[01][0-9]|2[0-3])(?::[0-5][0-9]){2}(?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_HOURS = "T(?:0H(?:0M)?(?:0S)?|0M(?:0S)?|0S)"
_PERIOD = f"^P(?:0W|{_HOURS}|0D(?:{_HOURS})?|(?:0Y|0M|0Y0M)(?:0D)?(?:{_HOURS})?)$".replace("0", "[0-9]{1,6}")
_LIMITED = {"date": _DAY, "time": f"^{_CLOCK}$", "date-time": f"{_DAY[:-1]}T{_CLOCK}$", "duration": _PERIOD}
"""Patterns instead of formats. llguidance does not limit the digits in fractional seconds and durations."""

_MOST = 2**53  # llguidance rounds larger bounds, and refuses bounds from 2^63 on
_MOST_ITEMS = 10_000  # llguidance refuses 100,000


def expressible(schema: Any) -> tuple[Any, frozenset[str]]:
    """Reduce a schema to what llguidance can express. Return the schema and the removed keywords."""
    left = set[str]()

    def changed(part: Mapping[str, Any]) -> dict[str, Any]:
        wrong = {name for name, fits in _CONDITIONS.items() if name in part and not fits(part[name], part)}
        gone = wrong | (_REFUSED & part.keys())
        left.update(gone - _ANNOTATIONS)
        kept = {name: value for name, value in part.items() if name not in gone}
        if kept.get("format") in _LIMITED:
            kept["pattern"] = _LIMITED[kept.pop("format")]
        # llguidance takes `oneOf` only if it sees that at most one part can fit.
        return {"anyOf" if name == "oneOf" else name: value for name, value in kept.items()}

    reduced = _throughout(schema, changed)
    if isinstance(reduced, dict):
        spaced = is_open(reduced)
        indent = {"whitespace_pattern": _INDENT} if spaced else {}
        reduced["x-guidance"] = {"lenient": True, "whitespace_flexible": spaced, **indent}
    return reduced, frozenset(left)


_INDENT = r"\n {0,8}| "
"""White space in JSON with free property names, which helps small models to choose names."""
_ANNOTATIONS = frozenset({"format", "$schema"})  # keywords that the check ignores, too

_UNIT = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)  # an escape, or a class in brackets

_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_OTHER_GROUP = re.compile(r"\(\?(?!:|P?<[A-Za-z_]|[is]+[:)])")
_OF_SETS = re.compile(r"(?!^)\[|&&|--|~~")


@lru_cache(maxsize=256)
def _usable(pattern: str) -> bool:
    """Return whether llguidance accepts a pattern, with the same meaning as in the check.

    llguidance and pydantic read the syntax of Rust's `regex`. llguidance refuses word boundaries, and `^` and
    `$` except at the ends. It reads sets (`[a&&b]`) and the flags m and x differently, so they are unusable.
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
    """Return whether a schema has no pattern for names, or one usable pattern. Two might overlap."""
    # `additionalProperties` depends on them: without the patterns it would refuse their properties.
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
"""For each keyword, a function of the value and the schema that decides whether the keyword is kept."""
