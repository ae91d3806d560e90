"""The sketch of a schema says all that the schema says, or there is none."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from redraft.verify.output import from_type
from redraft.verify.structure import MOST_REFERENCES, demand_of_schema, sketch

TEXT, NUMBER = {"type": "string"}, {"type": "integer"}


def object_of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


@pytest.mark.parametrize(
    ("schema", "shape"),
    [
        (TEXT, "string"),
        ({}, "any"),
        (True, "any"),
        ({"type": "null"}, "null"),
        ({"type": "string", "title": "Name", "default": "x"}, "string"),
        ({"type": "string", "maxLength": 40}, "string (at most 40 characters)"),
        ({"type": "string", "minLength": 1, "pattern": "^a"}, "string (at least 1 characters; matches ^a)"),
        ({"type": "string", "format": "date"}, "string (date)"),
        ({"type": "integer", "minimum": 0, "maximum": 9}, "integer (0 to 9)"),
        ({"type": "number", "exclusiveMinimum": 0, "multipleOf": 0.5}, "number (over 0; a multiple of 0.5)"),
        ({"enum": ["a", 1, None]}, '"a" | 1 | null'),
        ({"const": "a", "type": "string"}, '"a"'),
        ({"anyOf": [TEXT, {"type": "null"}]}, "string | null"),
        ({"type": "array", "items": TEXT, "minItems": 2}, "string[] (at least 2 items)"),
        ({"type": "array", "items": {"anyOf": [TEXT, NUMBER]}}, "(string | integer)[]"),
        ({"type": "array", "uniqueItems": True}, "any[] (each different)"),
        ({"type": "array", "uniqueItems": False}, "any[]"),
        ({"type": "array", "prefixItems": [TEXT, NUMBER], "minItems": 2, "maxItems": 2}, "[string, integer]"),
        (object_of(name=TEXT, born=NUMBER), '{"name": string, "born": integer}'),
        ({"type": "object", "properties": {"name": TEXT}}, '{"name"?: string}'),
        ({"type": "object"}, "object"),
        ({"type": "object", "additionalProperties": False}, "{}"),
        ({"type": "object", "additionalProperties": NUMBER}, "{[key: string]: integer}"),
        (object_of(kg={"type": "number", "description": "its\n weight"}), '{"kg": number (its weight)}'),
        (object_of(description=TEXT, title=TEXT), '{"description": string, "title": string}'),
        ({"$defs": {"A": object_of(x=TEXT)}, "$ref": "#/$defs/A"}, '{"x": string}'),
    ],
)
def test_the_shape_of_a_schema(schema: Any, shape: str) -> None:
    assert sketch(schema) == shape


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"type": ["string", "null"]},
        {"type": "string", "contentEncoding": "base64"},
        {"type": "string", "maximum": 3},
        {"not": TEXT},
        {"allOf": [TEXT]},
        {"anyOf": [TEXT], "minLength": 3},
        {"if": TEXT, "then": {"maxLength": 3}},
        {"type": "object", "required": ["born"]},
        {"type": "object", "patternProperties": {"^x": TEXT}},
        {"type": "array", "prefixItems": [TEXT]},
        {"$ref": "#/$defs/missing"},
        {"$ref": "other.json"},
        object_of(inner=object_of(deep={"not": TEXT})),
        {"$defs": {"T": object_of(kids={"$ref": "#/$defs/T"})}, "$ref": "#/$defs/T"},
    ],
)
def test_a_schema_that_says_more_has_none(schema: Any) -> None:
    assert sketch(schema) is None
    assert json.dumps(schema) in demand_of_schema(schema)


def test_references_that_double_at_each_level_end() -> None:
    levels = {
        f"L{i}": object_of(a={"$ref": f"#/$defs/L{i + 1}"}, b={"$ref": f"#/$defs/L{i + 1}"})
        for i in range(40)
    }
    assert sketch({"$defs": {**levels, "L40": TEXT}, "$ref": "#/$defs/L0"}) is None
    flat = object_of(**{f"p{i}": {"$ref": "#/$defs/A"} for i in range(MOST_REFERENCES)})
    assert sketch({**flat, "$defs": {"A": TEXT}}) is not None


def test_a_schema_of_very_many_levels_has_none() -> None:
    schema: dict[str, Any] = TEXT
    for _ in range(5000):
        schema = {"type": "array", "items": schema}
    assert sketch(schema) is None


class Ship(BaseModel):
    """A vessel at sea."""

    name: Annotated[str, Field(max_length=20)]
    kind: Literal["sail", "steam"]
    crew: list[str] = Field(default=[], description="names of the sailors")


def test_a_pydantic_model_is_asked_for_in_few_words() -> None:
    demand = from_type(Ship).demand
    assert demand == (
        "Answer with JSON alone, of this shape:\n"
        '{"name": string (at most 20 characters), "kind": "sail" | "steam", '
        '"crew"?: string[] (names of the sailors)} (A vessel at sea.)'
    )


def test_a_limit_of_an_older_draft_is_not_taken_for_a_number() -> None:
    assert sketch({"type": "number", "minimum": 0, "exclusiveMinimum": True}) is None


def test_equal_limits_are_one_number() -> None:
    assert sketch({"type": "array", "items": True, "minItems": 3, "maxItems": 3}) == "any[] (3 items)"
