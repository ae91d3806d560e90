"""Check the body of a request with a pydantic model.

Each module that answers requests defines pydantic models for bodies. `/openapi.json` is generated from the
models. A field that sets an option of redraft has the option's type and range, and the server's limit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, get_args

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError, core_schema

from redraft.errors import UsageError, nearest, shown
from redraft.options import PlainOptions, wrong_item
from redraft.revision.options import FULL, RevisionOptions
from redraft.serve.errors import Refusal, invalid, told


@dataclass(frozen=True)
class Checked:
    """A validator for a field that needs more than a type check. Null counts as missing."""

    # Returns the value to use. In messages, the text of its ValueError follows the field's name.
    check: Callable[[Any], Any]
    schema: Mapping[str, Any]
    option: str = ""  # the name of redraft's option, if the field is one

    def __get_pydantic_core_schema__(self, *_: Any) -> Any:
        return core_schema.nullable_schema(core_schema.no_info_plain_validator_function(self.check))

    def __get_pydantic_json_schema__(self, *_: Any) -> dict[str, Any]:
        return {"anyOf": [dict(self.schema), {"type": "null"}]}


TEXT = {"type": "string", "minLength": 1}


def texts_schema(most: int, least: int = 0) -> dict[str, Any]:
    """Return a JSON Schema for a non-empty string, or a list of `least` to `most` non-empty strings."""
    return {"anyOf": [TEXT, {"type": "array", "items": TEXT, "minItems": least, "maxItems": most}]}


def option(
    name: str,
    most: int | None = None,
    *,
    single: bool = False,
    schema: Mapping[str, Any] | None = None,
    folds: Callable[[Any], Any] | None = None,
) -> Checked:
    """Return the validator of a field that sets an option of redraft.

    `most` is the server's limit for a number or for the length of a list. With `single`, the field may be
    a text instead of a list of one text. `schema` replaces the option's JSON Schema. `folds` converts values
    of OpenAI's API that the option does not accept.
    """
    span = ""
    if schema is None:
        about = PlainOptions.model_json_schema()["properties"][name]
        kind = next(each for each in about.get("anyOf", [about]) if each["type"] != "null")
        schema = {**kind, "description": about["description"], **({} if most is None else {"maximum": most})}
        schema.pop("default", None)  # a model may have another default
        number = "a whole number" if kind["type"] == "integer" else "a number"
        span = f"{number} from {kind['minimum']} to {most}" if most else ""

    def check(given: Any) -> Any:
        alone = single and isinstance(given, str)
        value = [given] if alone else folds(given) if folds else given
        outside = f" is {shown(value)}. It should be {span}." if span else ""
        size = len(value) if isinstance(value, list) else value if span else None
        if most is not None and isinstance(size, int | float) and size > most:
            raise ValueError(outside or f" contains {size} texts, but this server allows {most:,} at most.")
        try:
            return getattr(RevisionOptions.read({name: value}), name)
        except UsageError as error:
            said = outside or told(error).partition(name)[2]
            raise ValueError(said.removeprefix(": item 1") if alone else said) from None

    return Checked(check, schema, name)


def only(*neutral: Any, hint: str = "Leave it out.") -> Checked:
    """Return the validator of an unsupported field. Only `neutral` values, which have no effect, pass."""

    def check(given: Any) -> Any:
        # In JSON, true is not 1.
        if any(given == each and isinstance(given, bool) == isinstance(each, bool) for each in neutral):
            return given
        said = f"may only be {' or '.join(map(json.dumps, neutral))}"
        raise PydanticCustomError("unsupported", "{said}", {"said": f"{said}. {hint}"})

    return Checked(check, {"enum": list(neutral)})


OF_TEXTS = "a text, or a list of texts"


def texts(most: int) -> Checked:
    """Return the validator of a non-empty text or a list of up to `most` non-empty texts."""

    def check(given: Any) -> tuple[str, ...]:
        if isinstance(given, list) and (wrong := wrong_item("", given, FULL)):
            raise ValueError(told(wrong))
        if not given or not isinstance(given, str | list):
            raise ValueError(f" is {shown(given)}. It should be {OF_TEXTS}.")
        found = tuple(given) if isinstance(given, list) else (given,)
        if len(found) > most:
            raise ValueError(f" contains {len(found):,} texts, but this server allows {most:,}.")
        return found

    return Checked(check, texts_schema(most, 1))


class Body(BaseModel):
    """The body of a request, or an object inside a body."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)
    whole: ClassVar[str] = ""  # the body's name in messages; an inner object is named by its field
    never: ClassVar[tuple[str, ...]] = ()  # fields that are never supported, whatever their value

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Return the validated body. Raise `Refusal` if a field is wrong."""
        try:
            return cls.model_validate(_few(cls, given, cls.never))
        except ValidationError as error:
            faults: list[Any] = error.errors(include_url=False)

            def rank(fault: Mapping[str, Any]) -> int:
                if fault["type"] == "extra_forbidden":
                    return int(fault["loc"][-1] in cls.never)
                return 1 if fault["type"] == "unsupported" else 2

            raise _refusal(cls, min(faults, key=rank)) from None

    @property
    def options(self) -> dict[str, Any]:
        """The values of the fields that set options of redraft, by option name."""
        found = {}
        for name, field in type(self).model_fields.items():
            marks = [mark.option for mark in field.metadata if isinstance(mark, Checked) and mark.option]
            if marks and (value := getattr(self, name)) is not None:
                found[marks[0]] = value
        return found


def _few(kind: type[Body], part: Mapping[str, Any], never: tuple[str, ...]) -> dict[str, Any]:
    known = kind.model_fields
    found = {name: part[name] for name in known if name in part}
    for name, value in found.items():
        if isinstance(value, dict) and (inner := _object_at(kind, name)):
            found[name] = _few(inner, value, never)
    if len(found) < len(part):
        wrong = min((name for name in part if name not in known), key=never.__contains__)
        found[wrong] = part[wrong]
    return found


_KINDS = {float: "a number", int: "a whole number", bool: "true or false", str: "a text"}


def _refusal(kind: type[Body], fault: Mapping[str, Any]) -> Refusal:
    place, *below = map(str, fault["loc"])
    name, what = place, kind.whole
    if below and (inner := _object_at(kind, place)):
        kind, name, what, place = inner, below[0], place, f"{place}.{below[0]}"
    error, said = fault["type"], fault.get("ctx", {})
    if error == "unsupported" or name in kind.never:
        why = said.get("said", "is not supported. Leave it out.")
        return invalid(f"{place} {why}", place, code="unsupported")
    if error == "extra_forbidden":
        objects = {each: _object_at(kind, each) for each in kind.model_fields}
        within = [each for each, inner in objects.items() if inner and name in inner.model_fields]
        hint = f"Did you mean {within[0]}.{name}?" if within else nearest(name, objects)
        hint = hint or f"The fields are {', '.join(objects)}."
        return invalid(f"there is no field {name!r:.80} in {what}. {hint}", place[:80], code="unknown_field")
    if error == "value_error":
        return invalid(message := f"{place}{said['error']}", message.split()[0].rstrip(":"))
    found = "missing" if error == "missing" else shown(fault["input"])
    field = kind.model_fields[name]
    if not (wanted := field.description):
        kinds = (field.annotation, *get_args(field.annotation))
        wanted = next((words for each, words in _KINDS.items() if each in kinds), "an object")
        low: Any = next((each for each in field.metadata if isinstance(each, Ge)), None)
        high: Any = next((each for each in field.metadata if isinstance(each, Le)), None)
        if low and high:
            wanted = f"{wanted} from {low.ge:,} to {high.le:,}"
    return invalid(f"{place} is {found}. It should be {wanted}.", place)


def _object_at(kind: type[Body], name: str) -> type[Body] | None:
    kinds = get_args(kind.model_fields[name].annotation) if name in kind.model_fields else ()
    return next((each for each in kinds if isinstance(each, type) and issubclass(each, Body)), None)
