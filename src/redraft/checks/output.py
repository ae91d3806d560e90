"""`output=Type`: the answer becomes a value of that type, and pydantic's errors become the feedback.

The check and `parse_output` read an answer's JSON the same way (`read_json`), so an answer that
passes always yields a value.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from inspect import isroutine
from typing import Annotated, Any, cast, get_args, get_origin

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import SchemaError

from redraft.chain import Prompt, describe
from redraft.checks.base import Outcome, failed, passed
from redraft.checks.json_reading import NotJson, pointer, read_json
from redraft.checks.schema import impossible
from redraft.checks.structure import demand_of_schema
from redraft.errors import UsageError, shown


@dataclass(frozen=True)
class OutputCheck:
    """A check that the answer is JSON that pydantic can convert to a value of a type."""

    type: Any  # the user's type: a pydantic model, `list[Model]`, a union, a TypedDict
    adapter: TypeAdapter[Any] = field(repr=False, compare=False)
    context: Any = field(default=None, repr=False, compare=False)  # for validators of the type

    @property
    def name(self) -> str:
        """The check's name in results."""
        return f"output:{_name_of(self.type)}"

    @property
    def schema(self) -> Mapping[str, Any]:
        """The type's JSON Schema, which forbids additional fields."""
        # Weak models invent fields.
        return cast("Mapping[str, Any]", _closed(self.adapter.json_schema()))

    @property
    def demand(self) -> str:
        """A sentence that asks for JSON that fits the schema."""
        return demand_of_schema(self.schema)

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002  (every check takes the prompt)
        """Pass if pydantic makes a value from the JSON. The message names the wrong fields."""
        try:
            self.adapter.validate_json(read_json(answer)[1], context=self.context)
        except NotJson as error:
            return failed(str(error), score=error.read / 2)
        except ValidationError as error:
            count = error.error_count()
            more = f"; and {count - 3} more" if count > 3 else ""
            message = f"The JSON is not a valid {_name_of(self.type)}: {describe(error)}{more}."
            value = read_json(answer)[0]
            return failed(message, score=0.5 + 0.5 / (1 + count), places=[*_places(value, error.errors())])
        return passed(f"The answer is a valid {_name_of(self.type)}.")


def _places(value: Any, errors: Sequence[Any]) -> Iterator[str]:
    """Yield the JSON pointers of wrong values. For a union, only the faults of the closest type count.

    If several types are equally close, yield the pointer of the union's whole value.
    """
    found, tried = list[tuple[list[str | int], int, Any]](), defaultdict[Any, Counter[Any]](Counter)
    for each in errors:
        missing = each["type"].startswith("missing")
        found.append(path := _path(value, each["loc"], missing=missing))
        tried[tuple(path[0][: path[1]])][path[2]] += _MISSING if missing else 1
    for keys, at, tag in found:
        ways = tried[tuple(keys[:at])]
        closest = [way for way in ways if ways[way] == min(ways.values())]
        if tag is None or closest == [tag]:
            yield pointer(keys)
        elif tag in closest:
            yield pointer(keys[:at])


def _path(value: Any, loc: Sequence[str | int], *, missing: bool) -> tuple[list[str | int], int, Any]:
    """Return the keys in pydantic's `loc`, the number of keys before the first type name, and this name."""
    path, at, tag = list[str | int](), 0, None
    for number, key in enumerate(loc, start=1):
        held = isinstance(value, dict) and (key in value or (missing and number == len(loc)))
        if held or isinstance(key, int):
            path.append(key)
        elif tag is None:
            at, tag = len(path), key
        with suppress(LookupError, TypeError):
            value = value[key]
    return path, at, tag


_MISSING = 100  # a missing field counts as much as this many wrong ones


class _NotLazy(GenerateJsonSchema):
    def generator_schema(self, schema: Any) -> Any:  # noqa: ARG002  (pydantic's signature)
        raise PydanticUserError(
            "Iterable and Generator are lazy, so their items would stay unchecked", code=None
        )


_TYPES = "a pydantic model, list[Model], a union, a dataclass, or a TypedDict"


def from_type(output: Any) -> OutputCheck:
    """Return a check that an answer is JSON that pydantic can convert to the type `output`.

    Raises:
        UsageError: Pydantic cannot read `output` from JSON, or `output` is a function.
    """
    if isinstance(output, str | Mapping | list):  # to pydantic these are source code, or its own schemas
        hint = f"Give {_TYPES}. A JSON Schema goes into checks=[…]."
        raise UsageError(f"output is {shown(output)}, which is not a type.", hint=hint)
    if isroutine(output) or isinstance(output, partial):
        raise UsageError(
            f"output is {_name_of(output):.80}, which is not a type.",
            hint=f"Give {_TYPES}. A function that judges the answer goes into checks=[…].",
        )
    try:
        adapter = TypeAdapter(output)
        schema = adapter.json_schema(schema_generator=_NotLazy)
    except Exception as error:  # noqa: BLE001  (instances and hooks of types make pydantic raise anything)
        said, *_ = [*str(error).split(". ")[0].splitlines(), ""]
        known = isinstance(error, PydanticUserError | SchemaError)
        why = said.rstrip(".") if known else f"{type(error).__name__}: {said.rstrip('.')}"
        message = f"output is {_name_of(output)!s:.80}, which pydantic cannot read from JSON: {why}."
        raise UsageError(message, hint=f"Give {_TYPES}.") from None
    if impossible(schema):
        raise UsageError(
            f"no JSON fits {_name_of(output):.80}: a required field allows no value, or contains"
            " the type itself.",
            hint="Give the field a default, or allow None: kid: Node | None = None",
        )
    return OutputCheck(output, adapter)


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(part) for name, part in schema.items()}
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        closed.setdefault("additionalProperties", False)
    return closed


def _name_of(output: Any) -> str:
    if get_origin(output) is Annotated:
        return _name_of(get_args(output)[0])
    name = output.__name__ if isinstance(output, type) and not get_args(output) else str(output)
    for part in get_args(output):
        name = name.replace(repr(part), _name_of(part)) if "Annotated[" in repr(part) else name
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", name)


def parse_output(check: OutputCheck, answer: str) -> Any:
    """Convert an answer to a value of the check's type; None if the answer fails the check."""
    try:
        return check.adapter.validate_json(read_json(answer)[1], context=check.context)
    except (NotJson, ValidationError):
        return None
