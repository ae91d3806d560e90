from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from redraft.chain import Prompt
from redraft.checks.base import schema_of
from redraft.checks.output import from_type
from redraft.checks.parse import parse_checks
from redraft.checks.structure import MOST_REFERENCES, JsonSchema, demand_of_schema, sketch
from redraft.errors import CheckSyntaxError

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def test_a_schema_in_python_is_a_check() -> None:
    [check] = parse_checks([PERSON])
    assert (check.name, schema_of(check)) == (
        'json-schema:{"type": "object", "properties": {"name"…',
        PERSON,
    )
    with pytest.raises(CheckSyntaxError, match="it is not a JSON Schema"):
        parse_checks([{"type": str}])


class TestSchema:
    def made(self, tmp_path: Path, schema: object) -> JsonSchema:
        path = tmp_path / "schema.json"
        path.write_text(json.dumps(schema), encoding="utf-8")
        return JsonSchema.of(str(path))

    @pytest.mark.parametrize(
        ("schema", "answer", "said"),
        [
            (PERSON, '{"name": "Ada", "age": 36}', "The answer is JSON that fits the schema."),
            ({"items": {"type": "string"}}, "[1, 2, 3, 4, 5]", "; and 2 more."),
            ({"type": "object"}, json.dumps(["x" * 10_000]), "is not of type 'object'."),
            ({"enum": ["km", None]}, '["é"]', 'schema: ["é"] is not one of "km", null.'),
            (
                {"anyOf": [{"type": "string"}, {"properties": {"a": {"type": "integer"}}}]},
                '{"a": "x"}',
                "$.a: 'x' is not of type 'integer'.",
            ),
            (
                {"$defs": {"p": PERSON}, "properties": {"boss": {"$ref": "#/$defs/p"}, "up": {"$ref": "#"}}},
                '{"up": {"boss": {"name": "Ada"}}}',
                "$.up.boss: 'age' is a required property.",
            ),
            (
                {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]},
                "[1]",
                "$[0]: 1 is not of type 'string'.",
            ),
            ({"prefixItems": [{"type": "string"}]}, '["a", 1]', "The answer is JSON that fits the schema."),
        ],
        ids=[
            "fits", "three faults", "long", "enum", "the nearest", "references", "an old draft",
            "the new draft",
        ],
    )  # fmt: skip
    def test_what_is_said(self, tmp_path: Path, schema: object, answer: str, said: str) -> None:
        message = self.made(tmp_path, schema).check(answer, Prompt()).message
        assert message.endswith(said)
        assert len(message) < 300
        assert message.count("is not of type 'string'") <= 3

    def test_faults_are_told_with_their_path(self, tmp_path: Path) -> None:
        schema = {"type": "array", "items": PERSON}
        outcome = self.made(tmp_path, schema).check('[{"name": "Ada", "age": -1}, {"name": 3}]', Prompt())
        assert not outcome.passed
        assert outcome.message == (
            "The JSON does not fit the schema: $[0].age: -1 is less than the minimum of 0; "
            "$[1].name: 3 is not of type 'string'; $[1]: 'age' is a required property."
        )

    def test_fewer_faults_score_higher_and_no_json_least(self, tmp_path: Path) -> None:
        check = self.made(tmp_path, PERSON)
        objects = ['{"name": ', '{"name": 1, "x": 2}', '{"name": 1, "age": 2}', '{"name": "a", "age": 2}']
        scores = [check.check(answer, Prompt()).score for answer in ("no", *objects)]
        assert scores == sorted(scores)
        assert scores[-2] < scores[-1] == 1

    @pytest.mark.parametrize(
        ("schema", "problem"),
        [
            (
                {"type": "text"},
                "not a JSON Schema: $.type: 'text' is not one of ['array', 'boolean', 'integer', 'null', 'n",
            ),
            (["a"], "not a JSON Schema"),
            (
                {"$ref": "http://127.0.0.1:9/x"},
                "it refers to 'http://127.0.0.1:9/x', which is not in the file",
            ),
            ({"items": {"$ref": "other.json"}}, "it refers to 'other.json', which is not in the file"),
            ({"$dynamicRef": "#x"}, "it refers to '#x', which is not in the file"),
            ({"$ref": "#"}, "it refers to itself without end."),
        ],
    )
    def test_a_wrong_schema_is_known_at_once(self, tmp_path: Path, schema: object, problem: str) -> None:
        with pytest.raises(CheckSyntaxError) as caught:
            self.made(tmp_path, schema)
        assert problem in caught.value.message
        assert caught.value.message.startswith(f"json-schema:{tmp_path / 'schema.json'}: ")

    def test_a_file_that_is_no_json_or_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(CheckSyntaxError, match=r"the schema cannot be read: No such file or directory\."):
            JsonSchema.of(str(tmp_path / "none.json"))
        (tmp_path / "a.json").write_bytes(b"\xff{")
        with pytest.raises(CheckSyntaxError, match="the schema is not JSON"):
            JsonSchema.of(str(tmp_path / "a.json"))


TEXT, NUMBER = {"type": "string"}, {"type": "integer"}


def object_of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


@pytest.mark.parametrize(
    ("schema", "shape"),
    [
        (TEXT, "string"),
        ({}, "any"),
        (True, "any"),
        ({"type": "string", "title": "Name", "default": "x"}, "string"),
        ({"type": "string", "maxLength": 40}, "string (at most 40 characters)"),
        ({"type": "string", "minLength": 1, "pattern": "^a"}, "string (at least 1 characters; matches ^a)"),
        ({"type": "integer", "minimum": 0, "maximum": 9}, "integer (0 to 9)"),
        ({"type": "number", "exclusiveMinimum": 0, "multipleOf": 0.5}, "number (over 0; a multiple of 0.5)"),
        ({"enum": ["a", 1, None]}, '"a" | 1 | null'),
        ({"const": "a", "type": "string"}, '"a"'),
        ({"anyOf": [TEXT, {"type": "null"}]}, "string | null"),
        ({"type": "array", "items": TEXT, "minItems": 2}, "string[] (at least 2 items)"),
        ({"type": "array", "items": {"anyOf": [TEXT, NUMBER]}}, "(string | integer)[]"),
        ({"type": "array", "uniqueItems": True}, "any[] (each different)"),
        ({"type": "array", "minItems": 3, "maxItems": 3}, "any[] (3 items)"),
        ({"type": "array", "prefixItems": [TEXT, NUMBER], "minItems": 2, "maxItems": 2}, "[string, integer]"),
        (object_of(name=TEXT, born=NUMBER), '{"name": string, "born": integer}'),
        ({"type": "object", "properties": {"name": TEXT}}, '{"name"?: string}'),
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
        False, {"type": ["string", "null"]},
        {"type": "string", "contentEncoding": "base64"},
        {"type": "string", "maximum": 3},
        {"type": "number", "minimum": 0, "exclusiveMinimum": True},  # of Draft 4
        {"not": TEXT}, {"allOf": [TEXT]}, {"anyOf": [TEXT], "minLength": 3},
        {"type": "object", "required": ["born"]},
        {"type": "object", "patternProperties": {"^x": TEXT}},
        {"type": "array", "prefixItems": [TEXT]},
        {"$ref": "other.json"},
        object_of(inner=object_of(deep={"not": TEXT})),
        {"$defs": {"T": object_of(kids={"$ref": "#/$defs/T"})}, "$ref": "#/$defs/T"},
    ],
)  # fmt: skip
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


class Ship(BaseModel):
    """A vessel at sea."""

    name: Annotated[str, Field(max_length=20)]
    kind: Literal["sail", "steam"]
    crew: list[str] = Field(default=[], description="names of the sailors")


def test_a_pydantic_model_is_asked_for_in_few_words() -> None:
    assert from_type(Ship).demand == (
        "Answer with JSON alone, of this shape:\n"
        '{"name": string (at most 20 characters), "kind": "sail" | "steam", '
        '"crew"?: string[] (names of the sailors)} (A vessel at sea.)'
    )
