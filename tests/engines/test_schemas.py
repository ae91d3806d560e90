"""JSON schemas: bounds that tokens have room for, and what each grammar is spared."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from redraft.engines.bounds import within
from redraft.engines.schemas import Names, expressible, for_servers_of_llamacpp, for_xgrammar


class Step(BaseModel):
    name: str
    minutes: int


class Recipe(BaseModel):
    title: Annotated[str, Field(max_length=40)]
    summary: str
    steps: list[Step]
    kind: Literal["sweet", "salty"]


def test_texts_and_lists_get_the_room_that_the_tokens_have() -> None:
    found = within(Recipe.model_json_schema(), 100)["properties"]
    assert (found["title"]["maxLength"], found["summary"]["maxLength"]) == (40, 77)
    assert "maxLength" not in found["kind"]
    steps = found["steps"]
    assert (steps["maxItems"], steps["items"]["properties"]["name"]["maxLength"]) == (2, 42)
    assert steps["items"]["additionalProperties"] is False
    longer = within(Recipe.model_json_schema(), 1000)["properties"]
    assert longer["summary"]["maxLength"] > 10 * 77
    assert longer["steps"]["maxItems"] > 10


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"properties": {"a": {"type": "string"}}}, {"properties": {"b": {"type": "string"}}}]},
        {"type": "string", "enum": ["a long one"]},
        {"type": "string", "format": "date"},
        {"type": "string", "pattern": r"^\d{4}$"},
        {"type": "object", "properties": {"a": True}, "dependentRequired": {"a": ["b"]}},
        {"$ref": "#/$defs/none"},
        False,
    ],
)
def test_what_has_no_room_to_share_is_left_as_it_is(schema: Any) -> None:
    whole = {"anyOf": [schema]}
    assert within(whole, 10) == whole


def test_a_date_is_a_real_day() -> None:
    pattern = expressible({"type": "string", "format": "date"})[0]["pattern"]
    days = [f"20{y}-{m:02}-{d:02}" for y in (23, 24) for m in range(14) for d in range(33)]
    assert sum(bool(re.search(pattern, day)) for day in days) == 365 + 366


@pytest.mark.parametrize(("kind", "day"), [("time", ""), ("date-time", "2024-02-29T")])
def test_a_time_ends(kind: str, day: str) -> None:
    pattern = expressible({"type": "string", "format": kind})[0]["pattern"]
    for time, fits in [("09:30:00Z", 1), ("23:59:59.123456+02:00", 1), ("24:00:00Z", 0), ("9:30Z", 0)]:
        assert bool(re.search(pattern, day + time)) == fits
    assert not re.search(pattern, f"{day}09:30:00.1111111111Z")


def test_a_duration_ends() -> None:
    pattern = expressible({"type": "string", "format": "duration"})[0]["pattern"]
    for text, fits in [("P1Y2M3DT4H5S", 1), ("PT90M", 1), ("P3W", 1), ("P", 0), ("PT1234567S", 0)]:
        assert bool(re.search(pattern, text)) == fits


def deepest(value: Any) -> int:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(deepest, parts), default=0)


@given(st.integers(20, 4000))
def test_a_schema_within_itself_ends(tokens: int) -> None:
    tree = {"type": "object", "properties": {"name": {"type": "string"}, "more": {"$ref": "#/$defs/tree"}}}
    kids = {
        "type": "object",
        "properties": {"v": {"type": "integer"}, "kids": {"items": {"$ref": "#/$defs/kids"}}},
    }
    chain = {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"next": {"$ref": "#"}}}]}
    for schema in (
        {"$ref": "#/$defs/tree", "$defs": {"tree": tree}},
        {"$ref": "#/$defs/kids", "$defs": {"kids": {**kids, "required": ["v", "kids"]}}},
        chain,
    ):
        found = {name: part for name, part in within(schema, tokens).items() if name != "$defs"}
        assert "$ref" not in str(found)
        assert deepest(found) < 20


def test_a_type_in_which_each_level_has_many_of_itself_does_not_explode() -> None:
    names = {f"p{number}": {"$ref": "#"} for number in range(30)}
    assert len(str(within({"type": "object", "properties": names}, 500))) < 1_000_000


@pytest.mark.parametrize(
    "schema",
    [
        {"type": ["object", "array"]}, {"type": "object"}, {"type": "object", "properties": {}},
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "object", "properties": {"a": {}}, "additionalProperties": True},
        {"type": "object", "required": ["a"]},
        {"type": "object", "patternProperties": {"^x": {"type": "string"}}, "additionalProperties": False},
        {"type": "array"}, {"type": "integer", "multipleOf": 7}, {"type": "number", "minimum": 10**15},
        {"type": "string", "maxLength": 65536}, {"pattern": "^[a-z]+$"}, {"format": "email"},
        {"type": "string", "format": "markdown"}, {"prefixItems": [{"type": "string"}]}, True,
    ],
)  # fmt: skip
def test_every_kind_of_value_has_a_bound(schema: Any) -> None:
    ends = {"string": "maxLength", "integer": "maximum", "number": "maximum", "array": "maxItems"}

    def look(part: Any) -> None:
        if isinstance(part, list):
            for each in part:
                look(each)
        elif isinstance(part, dict):
            kind = part.get("type")
            if kind == "object":
                assert part["additionalProperties"] is False
                assert part.get("maxProperties", 0) or not part.get("patternProperties")
            elif kind in ends and "prefixItems" not in part:
                assert ends[kind] in part
            for each in part.values():
                look(each)

    found = within({"anyOf": [schema]}, 200)["anyOf"]
    look(found)
    assert found != [schema]


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ('{"a": 1, "a": 2}', '{"a": 1}'),
        (
            '{"a": [{"b": "x, y", "c": {}, "pay": 1,\n "pay": 3}]}',
            '{"a": [{"b": "x, y", "c": {}, "pay": 1}]}',
        ),
        ('{"a": "\\"", "b": {"a": 1}, "b": 1}', '{"a": "\\"", "b": {"a": 1}}'),
        ('[{"a": 1}, {"a": "a", "b": ["a", "a"]}]', None),
        ('["a", "a"]', None),
        ('{"a": "b", "b": "a", "c": ["a"], "d": "\\\\"}', None),
    ],
)
@given(cuts=st.lists(st.integers(0, 60)))
def test_json_ends_before_a_name_that_an_object_has_already(
    text: str, whole: str | None, cuts: list[int]
) -> None:
    names, found = Names(), None
    for begin, end in pairwise(sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})):
        found = found or names.take(text[begin:end])
    assert found == whole


@pytest.mark.parametrize(
    ("text", "waits"), [('[1, "a"', False), ('{"a": [1, 2', False), ('{"a": 1, "b', True)]
)
def test_what_cannot_be_a_name_given_again_is_not_held_back(text: str, waits: bool) -> None:
    names = Names()
    assert names.take(text) is None
    assert (names.member >= 0) == waits


@pytest.mark.parametrize(
    ("schema", "written", "left"),
    [
        ({"type": "integer", "multipleOf": 7}, {"type": "integer"}, {"multipleOf"}),
        ({"items": {"pattern": "^a+$", "maxLength": 5}}, {"items": {"pattern": "^a+$"}}, {"maxLength"}),
        (
            {"properties": {"a": True}, "patternProperties": {"^b": True}},
            {"properties": {"a": True}, "additionalProperties": False},
            set(),
        ),
    ],
)
def test_what_openvino_would_drop_is_told_or_written_otherwise(
    schema: dict[str, Any], written: dict[str, Any], left: set[str]
) -> None:
    assert for_xgrammar(schema) == (written, left)


@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        ({"properties": {"a": {"maxLength": 65536}}}, {"properties": {"a": {}}}),
        ({"pattern": "^[a-z]+$", "maxLength": 5}, {"maxLength": 5}),
        (
            {"type": "object", "patternProperties": {"^x": True}, "additionalProperties": False},
            {"type": "object"},
        ),
        ({"properties": {"maxLength": True, "pattern": True}, "const": {"pattern": "a"}}, None),
    ],
)
def test_what_llamacpps_server_would_refuse_or_misread_is_left_to_the_check(
    schema: dict[str, Any], sent: dict[str, Any] | None
) -> None:
    assert for_servers_of_llamacpp(schema) == (schema if sent is None else sent)


@pytest.mark.parametrize(("names", "ended"), [("^x_", True), ("^x_$", False), ("^a|^b", False), ("x", False)])
def test_names_that_have_a_start_alone_get_an_end(names: str, ended: bool) -> None:
    schema = {
        "type": "object",
        "patternProperties": {names: {"type": "integer"}},
        "additionalProperties": False,
    }
    (found,) = within(schema, 100)["patternProperties"]
    assert found.startswith(names)
    assert (found != names) is ended
    assert bool(re.search(found, "x_" + "a" * 50)) is (not ended and names == "x")
