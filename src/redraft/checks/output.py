"""`output=Type`: the answer becomes a value of that type, and pydantic's errors become the feedback.

The check and `parse_output` read an answer's JSON the same way (`read_json`), so an answer that
passes always gives a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from math import inf
from types import UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin, get_type_hints

from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import SchemaError, from_json, to_json
from typing_extensions import is_typeddict

from redraft.chain import Prompt, describe
from redraft.checks.base import Outcome, Prospect, failed, passed
from redraft.checks.json_reading import NotJson, begin_of_json, json_prospect, read_json
from redraft.checks.schema import least
from redraft.checks.structure import demand_of_schema
from redraft.errors import UsageError, shown


@dataclass(frozen=True)
class OutputCheck:
    """The answer is JSON that makes a value of a type."""

    type: Any  # what the user gave: a pydantic model, `list[Model]`, a union, a TypedDict
    adapter: TypeAdapter[Any] = field(repr=False, compare=False)
    context: Any = field(default=None, repr=False, compare=False)  # for validators of the type

    @property
    def name(self) -> str:
        """The name in records; this check has no short form."""
        return f"output:{_name_of(self.type)}"

    @property
    def schema(self) -> Mapping[str, Any]:
        """The JSON schema of the type, without room for fields that pydantic would ignore.

        Weak models fill a text with invented fields where a schema allows them.
        """
        return cast("Mapping[str, Any]", _closed(self.adapter.json_schema()))

    @property
    def demand(self) -> str:
        """The schema, as a demand."""
        return demand_of_schema(self.schema)

    def prefix(self, text: str) -> Prospect:
        """Lost where a block of JSON goes wrong, or a second one begins."""
        return json_prospect(text)

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002  (every check takes the prompt)
        """Pass if the JSON makes a value. The message names the wrong fields."""
        try:
            self.adapter.validate_json(read_json(answer)[1], context=self.context)
        except NotJson as error:
            return failed(str(error), score=error.read / 2)
        except ValidationError as error:
            count = error.error_count()
            more = f"; and {count - 3} more" if count > 3 else ""
            message = f"The JSON is not a valid {_name_of(self.type)}: {describe(error)}{more}."
            return failed(message, score=0.5 + 0.5 / (1 + count))
        return passed(f"The answer is a valid {_name_of(self.type)}.")


_TYPES = "a pydantic model, list[Model], a union, a dataclass, or a TypedDict"


def from_type(output: Any) -> OutputCheck:
    """Return a check that an answer is JSON for a type.

    Raises:
        UsageError: It is no type, or pydantic cannot read it from JSON. Or it has a function, which pydantic
            would call with the answer, or a pattern for Python's `re`, which cannot be interrupted.
    """
    if isinstance(output, str | Mapping | list):  # to pydantic these are source code, or its own schemas
        raise UsageError(f"output is {shown(output)}, which is no type.", hint=f"Give {_TYPES}.")
    try:
        adapter = TypeAdapter(output)
        adapter.json_schema()
    except Exception as error:  # noqa: BLE001  (instances and hooks of types make pydantic raise anything)
        if getattr(error, "code", None) == "typed-dict-version":
            raise UsageError(
                f"output is {_name_of(output):.80}, a typing.TypedDict, and before Python 3.12 pydantic reads"
                " typing_extensions.TypedDict alone.",
                hint="from typing_extensions import TypedDict",
            ) from None
        said, *_ = [*str(error).split(". ")[0].splitlines(), ""]
        known = isinstance(error, PydanticUserError | SchemaError)
        why = said.rstrip(".") if known else f"{type(error).__name__}: {said.rstrip('.')}"
        message = f"output is {_name_of(output)!s:.80}, which pydantic cannot read from JSON: {why}."
        raise UsageError(message, hint=f"Give {_TYPES}.") from None
    if least(adapter.json_schema()) == inf:
        raise UsageError(
            f"no JSON fits {_name_of(output):.80}: a field that it needs forbids every value, or needs"
            " the type itself again.",
            hint="Give the field a default, or allow None: kid: Node | None = None",
        )
    if function := _first(adapter.core_schema, _called):
        raise UsageError(
            f"output has the function {_name_of(function):.80}, which the model's answer would call.",
            hint=f"Give {_TYPES}. A function that judges the answer goes into checks=[…].",
        )
    if pattern := _first(adapter.core_schema, _endless_pattern):
        raise UsageError(
            f"{_name_of(output)} has the pattern {pattern:.80} for Python's re,"
            " which may run for ever on some answers and cannot be interrupted.",
            hint="Give the pattern as a string, without regex_engine: pydantic's default always ends. It has "
            "no lookaround: for that, use 'json-schema:FILE' in checks=[…], or a validator of the field.",
        )
    return OutputCheck(output, adapter)


def _closed(schema: Any) -> Any:
    """Return a schema in which objects with listed properties have no others."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(part) for name, part in schema.items()}
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        closed.setdefault("additionalProperties", False)
    return closed


def _name_of(output: Any) -> str:
    """Return `Person` for a class, and `list[Person]` for `list[my.Person]`."""
    name = output.__name__ if isinstance(output, type) and not get_args(output) else str(output)
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", name)


def _called(schema: Mapping[str, Any], _engine: str) -> Any:
    """Return the function that a core schema calls with values, else None. A class is only made."""
    function = schema.get("function") if schema.get("type") == "call" else None
    return None if isinstance(function, type) else function


def _endless_pattern(schema: Mapping[str, Any], engine: str) -> str | None:
    """Return a pattern for Python's `re`, compiled or by `regex_engine`; else None."""
    pattern = schema.get("pattern") if schema.get("type") == "str" else None
    if isinstance(pattern, re.Pattern):
        return str(pattern.pattern)
    of_python = (schema.get("regex_engine") or engine) == "python-re"
    return pattern if isinstance(pattern, str) and of_python else None


def _first(schema: object, find: Callable[[Mapping[str, Any], str], Any], engine: str = "rust-regex") -> Any:
    """Return the first thing that `find` finds in a core schema or its parts, of an engine of patterns."""
    if isinstance(schema, list | tuple):
        return next(filter(None, (_first(part, find, engine) for part in schema)), None)
    if not isinstance(schema, Mapping):
        return None
    config = schema.get("config")
    engine = (config.get("regex_engine") if isinstance(config, Mapping) else None) or engine
    return find(schema, engine) or _first([*schema.values()], find, engine)


def parse_output(check: OutputCheck, answer: str) -> Any:
    """Return the value in an answer, or None if the answer fails the check."""
    try:
        return check.adapter.validate_json(read_json(answer)[1], context=check.context)
    except (NotJson, ValidationError):
        return None


def partial_output(check: OutputCheck, text: str) -> Any:
    """Return what the beginning of an answer makes of the type; None if it makes nothing.

    A field of a model that has not come, or is not valid yet, is at its default, or None.
    """
    begin = begin_of_json(text)
    if begin is None:
        return None
    begun = re.split(r"\n[`~]", text[begin:])[0]  # a fence ends it
    if len(re.findall(r'(?<!\\)(?:\\\\)*"', begun)) % 2 == 0:  # outside of a text
        begun = re.sub(r"[\d.eE+-]+\Z", "", begun)  # a number that is cut is another number
    try:
        return _part(check.type, from_json(begun, allow_partial="trailing-strings"))
    except ValueError:  # there is text behind the JSON
        return parse_output(check, text)


def _part(kind: Any, found: Any) -> Any:
    """Return what an incomplete JSON value makes of a type; None if nothing."""
    with suppress(Exception):  # a validator of the type meets half a value
        return TypeAdapter(kind).validate_json(to_json(found))
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _part(parts[0], found)
    if origin in (Union, UnionType):
        made = (_part(part, found) for part in parts)
        return next((each for each in made if each is not None), None)
    if isinstance(found, list):
        return [_part(parts[0], item) for item in found] if parts else None
    if not isinstance(found, dict):
        return None
    return _part_of_object(kind, found)


def _part_of_object(kind: Any, found: Mapping[str, Any]) -> Any:
    values: dict[str, Any] = {}
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field_ in kind.model_fields.items():
            key = next((key for key in (field_.alias, name) if key in found), None)
            if key is not None:
                values[name] = _part(field_.annotation, found[key])
            elif field_.is_required():
                values[name] = None
        return kind.model_construct(**values)
    if not (is_dataclass(kind) or is_typeddict(kind)):
        parts = get_args(kind)
        return {name: _part(parts[1], value) for name, value in found.items()} if len(parts) == 2 else None
    values = {name: _part(hint, found[name]) for name, hint in get_type_hints(kind).items() if name in found}
    if is_typeddict(kind):
        return values
    made = object.__new__(kind)  # its `__init__` and checks are for whole objects
    for each in fields(kind):
        default = each.default_factory() if each.default_factory is not MISSING else each.default
        object.__setattr__(made, each.name, values.get(each.name, None if default is MISSING else default))
    return made
