"""The shape of the JSON that a schema allows, in the notation of TypeScript's types.

`{"name": string (at most 40 characters), "born": integer (1000 to 2020)}` has a quarter of the characters of
its schema, and weak models follow it better (benchmarks/apps.py). A schema that has more to say than this
notation can is shown to the model as it is. Nothing is checked with a sketch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

MOST_REFERENCES = 100
"""References are written out where they stand, which may take exponentially long."""

_SILENT = {"$defs", "definitions", "$schema", "$id", "title", "default", "examples"}
"""Keywords that do not say which values are valid."""

_BOUNDS = {
    "string": ("minLength", "maxLength", " characters"),
    "array": ("minItems", "maxItems", " items"),
    "number": ("minimum", "maximum", ""),
    "integer": ("minimum", "maximum", ""),
}
"""By type: the keywords of the least and the most, and what they count."""

_NUMBER = {
    "exclusiveMinimum": "over {}",
    "exclusiveMaximum": "under {}",
    "multipleOf": "a multiple of {}",
}
_OTHERS = {
    "string": {"pattern": "matches {}", "format": "{}"},
    "array": {"uniqueItems": "each different"},
    "number": _NUMBER,
    "integer": _NUMBER,
}
"""By type: other keywords, and how they are said."""


def sketch(schema: Any) -> str | None:
    """Return the shape of the JSON that a schema allows; None if it would leave out a part of the schema."""
    try:
        return _Sketch(schema).shape(schema)
    except (_Unsaid, RecursionError):
        return None


class _Unsaid(Exception):
    """A schema has a part that the notation does not have."""


class _Sketch:
    """Writes the shapes of a schema and its parts. Each method takes the keywords it says out of `said`."""

    def __init__(self, schema: Any) -> None:
        self._root = schema
        self._references = 0

    def shape(self, schema: Any) -> str:
        """Return the shape of a schema or a part of it, with its description."""
        if schema is True:
            return "any"
        if not isinstance(schema, Mapping):
            raise _Unsaid
        said = {name: value for name, value in schema.items() if name not in _SILENT}
        description = " ".join(said.pop("description", "").split())
        shape = self._bare(said)
        notes = [*_limits(str(schema.get("type")), said), description]
        if said:
            raise _Unsaid
        return f"{shape} ({'; '.join(filter(None, notes))})" if any(notes) else shape

    def _bare(self, said: dict[str, Any]) -> str:
        """Return a shape without its limits."""
        if "$ref" in said:
            return self.shape(self._target(said.pop("$ref")))
        for name in ("anyOf", "oneOf"):
            if name in said:
                said.pop("discriminator", None)
                return " | ".join(map(self.shape, said.pop(name)))
        kind = said.pop("type", None)
        if "const" in said:
            return _text(said.pop("const"))
        if "enum" in said:
            return " | ".join(map(_text, said.pop("enum")))
        if kind is None and not said:
            return "any"
        if kind == "object":
            return self._object(said)
        if kind == "array":
            return self._array(said)
        if kind not in ("string", "number", "integer", "boolean", "null"):
            raise _Unsaid
        return str(kind)

    def _target(self, reference: str) -> Any:
        """Return what a reference points to."""
        self._references += 1
        if self._references > MOST_REFERENCES or not reference.startswith("#/"):
            raise _Unsaid
        part = self._root
        for name in reference.removeprefix("#/").split("/"):
            if not isinstance(part, Mapping) or name not in part:
                raise _Unsaid
            part = part[name]
        return part

    def _object(self, said: dict[str, Any]) -> str:
        required = set(said.pop("required", ()))
        properties, rest = said.pop("properties", {}), said.pop("additionalProperties", True)
        if not required <= properties.keys():
            raise _Unsaid
        fields = [
            f"{_text(name)}{'' if name in required else '?'}: {self.shape(part)}"
            for name, part in properties.items()
        ]
        if not isinstance(rest, bool):
            fields.append(f"[key: string]: {self.shape(rest)}")
        return "{" + ", ".join(fields) + "}" if fields or not rest else "object"

    def _array(self, said: dict[str, Any]) -> str:
        if "prefixItems" not in said:
            part = self.shape(said.pop("items", True))
            return f"({part})[]" if " | " in part or part.endswith(")") else f"{part}[]"
        parts = [self.shape(part) for part in said.pop("prefixItems")]
        if (said.pop("minItems", 0), said.pop("maxItems", None)) != (len(parts), len(parts)):
            raise _Unsaid
        return f"[{', '.join(parts)}]"


def _limits(kind: str, said: dict[str, Any]) -> Iterator[str]:
    least_name, most_name, unit = _BOUNDS.get(kind, ("", "", ""))
    least, most = said.pop(least_name, None), said.pop(most_name, None)
    if least is not None and least == most:
        yield f"{most}{unit}"
    elif least is not None and most is not None:
        yield f"{least} to {most}{unit}"
    elif most is not None:
        yield f"at most {most}{unit}"
    elif least is not None:
        yield f"at least {least}{unit}"
    for name, form in _OTHERS.get(kind, {}).items():
        value = said.pop(name, False)
        if value is True and name in _NUMBER:  # of Draft 4, where it changes the meaning of another limit
            raise _Unsaid
        if value is not False:
            yield form.format(value)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
