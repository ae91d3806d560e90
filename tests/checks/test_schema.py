"""A schema that no JSON fits is refused before anything is generated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from pydantic import BaseModel

from redraft.checks.output import from_type
from redraft.checks.parse import parse_check
from redraft.checks.schema import impossible
from redraft.errors import CheckSyntaxError, UsageError
from tests.engines.llamacpp.test_grammar import _SCHEMAS, _VALUES

WITHIN_ITSELF = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
IMPOSSIBLE: list[Any] = [
    False, {"not": {}}, {"not": True}, {"enum": [], "type": "string"},
    {"type": "string", "minLength": 5, "maxLength": 2},
    {"type": "array", "minItems": 2, "items": {"not": {}}},
    {"type": "object", "required": ["a"], "properties": {"a": False}},
    {"type": "object", "required": ["a"], "additionalProperties": False},
    {"type": "integer", "minimum": 3, "maximum": 1},
    {"type": "array", "minItems": 1_000_000},
    {"anyOf": [False, {"type": "number", "minimum": 3, "maximum": 1}]},
    WITHIN_ITSELF,
]  # fmt: skip


@pytest.mark.parametrize("schema", IMPOSSIBLE, ids=json.dumps)
def test_what_no_json_fits_is_refused_with_a_hint(schema: Any, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps(schema))
    with pytest.raises(CheckSyntaxError) as caught:
        parse_check(f"json-schema:{tmp_path}/s.json")
    assert "no JSON fits it" in caught.value.message or "not a JSON Schema" in caught.value.message
    assert caught.value.hint


@given(_SCHEMAS, _VALUES)
def test_what_fits_is_never_refused(schema: Any, value: Any) -> None:
    if jsonschema.Draft202012Validator(schema).is_valid(value):
        assert not impossible(schema)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"$ref": "#foo", "$defs": {"A": {"$anchor": "foo", "type": "integer"}}}, 1),
        ({"const": -2.0}, -2),
        ({"required": ["a"], "patternProperties": {"a": True}, "additionalProperties": False}, {"a": 1}),
    ],
)
def test_corners_of_the_public_test_suite_are_not_refused(schema: Any, value: Any) -> None:
    assert jsonschema.Draft202012Validator(schema).is_valid(value)
    assert not impossible(schema)


def test_a_type_that_must_be_within_itself_is_refused_and_one_that_may_is_not() -> None:
    class Endless(BaseModel):
        next: Endless

    class Chain(BaseModel):
        next: Chain | None = None

    with pytest.raises(UsageError, match="no JSON fits Endless") as caught:
        from_type(Endless)
    assert "default" in str(caught.value.hint)
    assert from_type(Chain)
