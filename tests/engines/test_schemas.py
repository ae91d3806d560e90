r"""Patterns of a schema are written out for servers, which drop `\d` and the like without a word."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from redraft.engines.schemas import plain, with_plain_patterns, within

FREE = r'[^"\\\x01-\x1F]'


@pytest.mark.parametrize(
    ("pattern", "everywhere", "for_llamacpp"),
    [
        (r"^\d{4}$", "^[0-9]{4}$", "^[0-9]{4}$"),
        (r"\d{4}", "[0-9]{4}", f"^{FREE}*[0-9]{{4}}{FREE}*$"),
        (r"^[\d\.\-]{5}$", "^[0-9.-]{5}$", "^[0-9.-]{5}$"),
        (r"^\d\-\d\/\.$", r"^[0-9]-[0-9]/\.$", r"^[0-9]-[0-9]/\.$"),
        (r"^[\w-.]$", "^[0-9A-Za-z_À-ÖØ-öø-῿Ⰰ-퟿.-]$", "^[0-9A-Za-z_À-ÖØ-öø-῿Ⰰ-퟿.-]$"),
        (r"^\D.$", "^[^0-9].$", rf'^[^0-9"\\\x01-\x1F]{FREE}$'),
        (r"^[^,]+$", "^[^,]+$", r'^[^"\\\x01-\x1F,]+$'),
        ("cat|dog", "cat|dog", f"^{FREE}*(cat|dog){FREE}*$"),
        (r"^(?:ab)+\d$", "^(ab)+[0-9]$", "^(ab)+[0-9]$"),
        (r"^#\d", "^#[0-9]", f"^#[0-9]{FREE}*$"),
        ("^a|b$", "^a|b$", "^a|b$"),
        (r"\bfoo\b", r"\bfoo\b", r"\bfoo\b"),
        (r"^[^\S]$", r"^[^\S]$", r"^[^\S]$"),
        (r"^a\$", r"^a\$", rf"^a\${FREE}*$"),
    ],
)
def test_shorthands_are_written_out(pattern: str, everywhere: str, for_llamacpp: str) -> None:
    assert plain(pattern, llamacpp=False) == everywhere
    assert plain(pattern, llamacpp=True) == for_llamacpp


PIECES = [
    r"\d", r"\w", r"\s", r"\D", "a", "é", ".", r"\.", r"\/",
    "[a-c]", r"[\w.-]", r"[-\d]", r"[^\s,]", "(?:a|1)",
]  # fmt: skip


@given(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join),
    st.tuples(st.sampled_from(["", "^"]), st.sampled_from(["", "$"])),
    st.text("ab1é .,-/", max_size=6),
    st.booleans(),
)
def test_a_written_out_pattern_takes_the_same_texts(
    middle: str, ends: tuple[str, str], text: str, llamacpp: bool
) -> None:
    pattern = middle.join(ends)
    assert bool(re.search(plain(pattern, llamacpp=llamacpp), text)) == bool(re.search(pattern, text))


def test_only_patterns_change_wherever_they_stand() -> None:
    year = {"type": "string", "pattern": r"^\d{4}$", "description": r"\d"}
    plain_year = {**year, "pattern": "^[0-9]{4}$"}

    def around(part: Any) -> Any:
        listed = {"type": "array", "items": {"anyOf": [part, {"type": "null"}]}}
        return {"properties": {"pattern": listed}, "$defs": {"Year": part}, "const": {"pattern": r"\d"}}

    assert with_plain_patterns(around(year), llamacpp=True) == around(plain_year)


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
    assert found["title"]["maxLength"] == 40
    assert found["summary"]["maxLength"] == 77
    assert "maxLength" not in found["kind"]
    steps = found["steps"]
    assert steps["maxItems"] == 2
    assert steps["items"]["properties"]["name"]["maxLength"] == 42
    assert steps["items"]["additionalProperties"] is False
    longer = within(Recipe.model_json_schema(), 1000)["properties"]
    assert longer["summary"]["maxLength"] > 10 * 77
    assert longer["steps"]["maxItems"] > 10


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a", "b"]},
        {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": True},
        {"allOf": [{"properties": {"a": {"type": "string"}}}, {"properties": {"b": {"type": "string"}}}]},
        {"$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}, "type": "integer"},
        {"type": "string", "enum": ["a long one"]},
        True,
    ],
)
def test_what_has_no_room_to_share_is_left_as_it_is(schema: Any) -> None:
    whole = {"anyOf": [schema]}
    assert within(whole, 10) == whole


def test_a_schema_within_itself_ends() -> None:
    tree = {"type": "object", "properties": {"name": {"type": "string"}, "more": {"$ref": "#/$defs/tree"}}}
    found = within({"$ref": "#/$defs/tree", "$defs": {"tree": tree}}, 100)
    assert found["properties"]["more"] == {"$ref": "#/$defs/tree"}
    assert found["properties"]["name"]["maxLength"] < 300
