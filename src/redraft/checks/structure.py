"""Checks of an answer's structure: JSON, keys of an object, and JSON Schema. `json_reading` finds the JSON.

A model is shown the shape of a schema in TypeScript's notation: `{"name": string (at most 40 characters)}`
has a quarter of the characters of the schema, and weak models follow this notation better
(benchmarks/apps.py). A schema that this notation cannot express is shown unchanged.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from redraft.chain import Prompt
from redraft.checks.base import Outcome, failed, passed
from redraft.checks.json_reading import NotJson, once, pointer, read_json
from redraft.checks.schema import GivenUp, faults, target_of, validator_of
from redraft.errors import CheckError, CheckSyntaxError

if TYPE_CHECKING:
    from jsonschema.protocols import Validator
    from referencing.jsonschema import Schema
from collections.abc import Iterator, Mapping, Sequence

MAX_ERRORS = 3  # most faults in a message: a model does not correct more at once
MAX_COUNTED = 100  # most faults to look for: an answer of a megabyte may have hundreds of thousands


@dataclass(frozen=True)
class Json:
    """`json`: the answer is JSON."""

    name: str = field(default="json", init=False)
    demand: str = field(default="Answer with JSON alone.", init=False, repr=False)

    @property
    def schema(self) -> Schema:
        """A schema of any object or list, but no bare number or word."""
        return {"type": ["object", "array"]}

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002  (every check takes the prompt)
        """Pass if the answer is JSON. Otherwise the score is the share of the text before the fault."""
        try:
            read_json(answer)
        except NotJson as error:
            return failed(str(error), score=error.read)
        return passed("The answer is JSON.")


@dataclass(frozen=True)
class Keys:
    """`keys:a,b`: the answer is a JSON object with exactly these keys."""

    keys: tuple[str, ...]

    @classmethod
    def of(cls, written: str) -> Self:
        """Split keys at commas."""
        keys = tuple(key.strip() for key in written.split(","))
        if "" in keys or len(set(keys)) < len(keys):
            fault = "a key is empty" if "" in keys else "a key appears twice"
            raise CheckSyntaxError(f"keys:{written:.200}: {fault}.", hint="Write keys:name,born")
        return cls(keys)

    @property
    def name(self) -> str:
        """The check as written: `keys:a,b`."""
        return f"keys:{','.join(self.keys)}"

    @property
    def demand(self) -> str:
        """A sentence that asks for an object with these keys."""
        return f"Answer with JSON alone, an object with {_keys(self.keys)} and no others."

    @property
    def schema(self) -> Schema:
        """A schema of an object with exactly these keys."""
        keys: dict[str, Any] = {key: {} for key in self.keys}
        return {"type": "object", "properties": keys, "required": [*keys], "additionalProperties": False}

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002
        """Pass if the object has exactly these keys."""
        try:
            value, _ = read_json(answer)
        except NotJson as error:
            return failed(str(error), score=error.read / 2)
        if not isinstance(value, dict):
            return failed(f"The JSON is not an object. Write one with {_keys(self.keys)}.", score=0.5)
        missing = [key for key in self.keys if key not in value]
        others = [key for key in value if key not in self.keys]
        if not missing and not others:
            return passed(f"The JSON has {_keys(self.keys)}.")
        faults = [f"lacks {_keys(missing)}"] * bool(missing) + [f"also has {_keys(others)}"] * bool(others)
        right = len(self.keys) - len(missing)
        score = 0.5 + 0.5 * right / (right + len(missing) + len(others))
        wanted = f"exactly {_keys(self.keys)} {'are' if len(self.keys) > 1 else 'is'} asked for"
        places = [pointer([key]) for key in [*missing, *others]]
        return failed(f"The JSON object {' and '.join(faults)}: {wanted}.", score=score, places=places)


def _keys(keys: Sequence[str]) -> str:
    shown = ", ".join(f'"{key[:40]}"' for key in keys[:20])
    return f"the key{'s' if len(keys) > 1 else ''} {shown}{' …' if len(keys) > 20 else ''}"


@dataclass(frozen=True)
class JsonSchema:
    """`json-schema:FILE`: the answer fits a JSON Schema, Draft 2020-12 unless the schema names a draft."""

    file: str
    validator: Validator = field(repr=False, compare=False)

    @classmethod
    def of(cls, file: str) -> Self:
        """Read the schema in a file."""
        try:
            schema = json.loads(Path(file).read_text(encoding="utf-8"), object_pairs_hook=once)
        except OSError as error:
            problem = f"the schema cannot be read: {error.strerror}."
        except RecursionError:
            problem = "the schema is nested too deeply."
        except ValueError as error:
            problem = f"the schema is not JSON: {error}."
        else:
            return cls(file, validator_of(schema, f"json-schema:{file}"))
        raise CheckSyntaxError(f"json-schema:{file}: {problem}", hint="Give the path of a JSON Schema file.")

    @property
    def name(self) -> str:
        """The check as written: `json-schema:FILE`."""
        return f"json-schema:{self.file}"

    @property
    def schema(self) -> Schema:
        """The schema in the file."""
        return self.validator.schema

    @property
    def demand(self) -> str:
        """A sentence that asks for JSON of this schema."""
        return demand_of_schema(self.schema)

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002
        """Pass if the JSON fits. The message lists up to three faults with JSON paths."""
        try:
            value, _ = read_json(answer)
            found = faults(self.validator, value, MAX_COUNTED + 1)
        except NotJson as error:
            return failed(str(error), score=error.read / 2)
        except GivenUp as error:
            raise CheckError(
                f"the check {self.name!r} was stopped on an answer of {len(answer)} characters:"
                f" {error.reason}.",
                hint=error.hint,
            ) from None
        except RecursionError:
            return failed("The answer is not usable JSON: it is nested too deeply.")
        if not found:
            return passed("The answer is JSON that fits the schema.")
        from jsonschema.exceptions import best_match

        # For a failed `anyOf`, this is the fault in the branch that fits best.
        nearer = [best_match([fault]) or fault for fault in found]
        lines = [f"{fault.json_path}: {_said(fault)}" for fault in nearer]
        count = min(len(found), MAX_COUNTED)
        shown = "; ".join(line.removeprefix("$: ") for line in sorted(lines)[:MAX_ERRORS])
        more = f"; and {'more than ' * (len(found) > count)}{count - MAX_ERRORS} more" * (count > MAX_ERRORS)
        places = [place for fault in nearer for place in _places(fault)] if len(found) == count else []
        message = f"The JSON does not fit the schema: {shown}{more}."
        return failed(message, score=0.5 + 0.5 / (1 + count), places=places)


_NUMBER_AS_TEXT = re.compile(r"-?(?:0|[1-9]\d{0,20})(\.\d{1,20})?", re.ASCII)


def _said(fault: Any) -> str:
    text, kinds, message = fault.instance, fault.validator_value, fault.message
    number = _NUMBER_AS_TEXT.fullmatch(text) if fault.validator == "type" and isinstance(text, str) else None
    if number and ("number" in kinds or ("integer" in kinds and not number[1])):
        return f'the text "{text}" should be the number {text}'
    if fault.validator == "enum":
        wanted = ", ".join(json.dumps(each, ensure_ascii=False) for each in kinds)
        message = f"{json.dumps(text, ensure_ascii=False)} is not one of {wanted}"
    return message if len(message) <= 200 else f"…{message[-199:]}"


def _places(fault: Any) -> list[str]:
    path, names, known = list(fault.absolute_path), fault.validator_value, fault.schema.get("properties", {})
    if fault.validator == "required" and isinstance(names, list):
        return [pointer([*path, name]) for name in names if name not in fault.instance]
    if fault.validator == "additionalProperties" and "patternProperties" not in fault.schema:
        return [pointer([*path, name]) for name in fault.instance if name not in known]
    return [pointer(path)]


def demand_of_schema(schema: Schema) -> str:
    """Return a sentence that asks for JSON that fits a schema."""
    if (shape := sketch(schema)) is not None:
        return f"Answer with JSON alone, of this shape:\n{shape}"
    return f"Answer with JSON alone that fits this JSON schema:\n{_text(schema)}"


MOST_REFERENCES = 100  # most references to write out in place, which may take exponentially long

_SILENT = {"$defs", "definitions", "$schema", "$id", "title", "default", "examples"}
"""Keywords that do not say which values are valid."""

_BOUNDS = {
    "string": ("minLength", "maxLength", " characters"),
    "array": ("minItems", "maxItems", " items"),
    "number": ("minimum", "maximum", ""),
    "integer": ("minimum", "maximum", ""),
}
"""For each type, the keywords of the lower and the upper bound, and the counted unit."""

_NUMBER = {"exclusiveMinimum": "over {}", "exclusiveMaximum": "under {}", "multipleOf": "a multiple of {}"}
_OTHERS = {
    "string": {"pattern": "matches {}", "format": "{}"},
    "array": {"uniqueItems": "each different"},
    "number": _NUMBER,
    "integer": _NUMBER,
}
"""For each type, further keywords and the wording of each keyword."""


def sketch(schema: Any) -> str | None:
    """Return a schema in the notation `{"a": string, "b"?: number[]}`; None if that is impossible."""
    try:
        return _Sketch(schema).shape(schema)
    except (_Unsaid, RecursionError):
        return None


class _Unsaid(Exception):
    """A part of a schema that the notation cannot express."""


class _Sketch:
    def __init__(self, schema: Any) -> None:
        self._root = schema
        self._references = 0

    def shape(self, schema: Any) -> str:
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
        self._references += 1
        if self._references > MOST_REFERENCES or not reference.startswith("#/"):
            raise _Unsaid
        return target_of(self._root, reference)  # None, for a missing target, cannot be expressed either

    def _object(self, said: dict[str, Any]) -> str:
        required = set(said.pop("required", ()))
        properties, rest = said.pop("properties", {}), said.pop("additionalProperties", True)
        if not required <= properties.keys():
            raise _Unsaid
        marks = {name: "" if name in required else "?" for name in properties}
        fields = [f"{_text(name)}{marks[name]}: {self.shape(part)}" for name, part in properties.items()]
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
        if value is True and name in _NUMBER:  # in Draft 4, this keyword changes another limit
            raise _Unsaid
        if value is not False:
            yield form.format(value)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
