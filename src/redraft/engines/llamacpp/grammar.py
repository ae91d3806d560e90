"""Keep of a JSON schema what llama.cpp's grammar can express.

Inside llama.cpp is llguidance. One keyword that it does not know undoes the whole grammar, without an error.
So these keywords are removed, and left to the check of the answer. What is left never refuses an answer
that the whole schema accepts, by the rules of JSON Schema: only keywords that nothing else depends on are
removed, and none below a negation, since `not` and `if` go as a whole. `lenient` is the net for what this
module does not foresee, such as two parts of `allOf` that do not go together. Known limits:
docs/json_schema.md of llguidance.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from pydantic_core import SchemaError, SchemaValidator, core_schema

_REFUSED = frozenset(
    {"not", "if", "then", "else", "dependencies", "dependentRequired", "dependentSchemas", "propertyNames"}
    | {"uniqueItems", "contains", "minContains", "maxContains", "unevaluatedItems", "unevaluatedProperties"}
    | {"$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"}
)
_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
)
_MAPS = frozenset({"$defs", "definitions", "properties", "patternProperties"})
_PARTS = frozenset(
    {"items", "additionalItems", "prefixItems", "additionalProperties", "anyOf", "allOf", "oneOf"}
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


_ATOM = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)  # an escape, or a class in brackets

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
    bare = _ATOM.sub("e", pattern)
    if _OTHER_GROUP.search(bare) or any(map(_OF_SETS.search, _ATOM.findall(pattern))):
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
