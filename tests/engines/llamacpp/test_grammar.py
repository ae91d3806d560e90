"""What of a JSON schema is sent to llama.cpp's grammar: all but the keywords that would undo it."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer
from pydantic import TypeAdapter

from redraft.engines.bounds import within
from redraft.engines.schemas import expressible


def accepted(schema: Any, text: str) -> bool:
    grammar = LLMatcher.grammar_from_json_schema(json.dumps(expressible(within(schema, 100))[0]))
    return LLMatcher(LLTokenizer("byte"), grammar).validate_tokens([*text.encode()]) == len(text)


def test_json_of_any_names_may_have_space_as_models_write_it_and_no_more() -> None:
    free, named = {"type": ["object", "array"]}, {"properties": {"name": True}, "type": "object"}
    for text in (
        '{\n  "name": "Ravi",\n  "age": 29\n}',
        '{"name": "Ravi", "age": 29}',
        '{"name":"Ravi","age":29}',
    ):
        assert accepted(free, text), text
    assert not accepted(free, '{\n  \n  "name": "Ravi"}'), "space without an end"
    assert accepted(named, '{"name":"Ravi"}')
    assert not accepted(named, '{"name": "Ravi"}'), "a space costs a token, and the name is given"


def kept(schema: Any) -> Any:
    return {k: v for k, v in expressible(schema)[0].items() if k != "x-guidance"}


def test_a_schema_that_can_be_expressed_stays() -> None:
    schema = {
        "$defs": {"Bird": {"type": "string", "pattern": "^[A-Z]\\w+$|^-$", "minLength": 2}},
        "type": "object",
        "properties": {"pattern": {"$ref": "#/$defs/Bird"}, "not": {"enum": [{"uniqueItems": True}, 1]}},
        "patternProperties": {"^x_": {"type": "number", "multipleOf": 0.01, "minimum": 0}},
        "additionalProperties": False,
        "required": ["pattern"],
    }
    assert (kept(schema), expressible(schema)[1]) == (schema, frozenset())


@pytest.mark.parametrize(
    ("keywords", "left"),
    [
        ({"type": "array", "items": {"type": "string"}, "uniqueItems": True}, {"uniqueItems"}),
        ({"type": "string", "pattern": "^(?!a)"}, {"pattern"}),
        ({"type": "array", "contains": {"const": 1}, "minContains": 2}, {"contains", "minContains"}),
        ({"not": {"uniqueItems": True}}, {"not"}),
        ({"if": {"pattern": "(?=a)"}, "then": False, "else": {"minLength": 9}}, {"if", "then", "else"}),
        ({"type": "number", "multipleOf": 2**31}, {"multipleOf"}),
        ({"type": "integer", "maximum": 2**64}, {"maximum"}),
        ({"properties": {"a": True}, "minProperties": 1}, {"minProperties"}),
        ({"patternProperties": {"^a": True, "b$": True}}, {"patternProperties"}),
        (
            {"patternProperties": {"^(?!a)": True}, "additionalProperties": False},
            {"patternProperties", "additionalProperties"},
        ),
        ({"$ref": "https://example.org/other"}, {"$ref"}),
    ],
)
def test_other_keywords_are_left_to_checking_at_any_depth(keywords: dict[str, Any], left: set[str]) -> None:
    rest = {name: value for name, value in keywords.items() if name not in left}
    schema = {"type": "array", "items": {"anyOf": [keywords, {"type": "null"}]}}
    assert kept(schema) == {"type": "array", "items": {"anyOf": [rest, {"type": "null"}]}}
    assert expressible(schema)[1] == left


@pytest.mark.parametrize(
    "pattern",
    [
        "(?=a)", "(?<!a)b", r"(a)\1", r"\bfoo", r"a\Z", "(?>a)", "(?m)^a$", "a^b", "^^a", "(a|b$)c",
        "x(a|^b)", "a{,3}", "[a&&b]", "[[]", "(?x)a b", "^a{$", r"a\<b", r"\h",
    ],
)  # fmt: skip
def test_patterns_that_undo_the_grammar_or_mean_something_else_in_it(pattern: str) -> None:
    assert kept({"pattern": pattern}) == {}


@pytest.mark.parametrize(
    "pattern",
    [
        "^a", "a$", "", "^$", "a|^b$", r"\\b", "[$^]", r"^\$?\d+(\.\d{2})?$", "^(?i)a$", "(?P<x>a)",
        r"[^\]]", "a/b",
    ],
)  # fmt: skip
def test_patterns_that_the_grammar_takes(pattern: str) -> None:
    assert kept({"pattern": pattern}) == {"pattern": pattern}


@pytest.mark.parametrize(("output", "format_"), [(Path, "path"), (bytes, "binary")])
def test_an_unknown_format_is_not_sent(output: Any, format_: str) -> None:
    schema = TypeAdapter(output).json_schema()
    assert (schema["format"], kept(schema)) == (format_, {"type": "string"})
    assert kept({"type": "string", "format": "email"}) == {"type": "string", "format": "email"}


def test_one_of_becomes_any_of_which_is_never_stricter() -> None:
    parts = [{"type": "string", "pattern": "(?=a)"}, {"type": "string"}]
    assert kept({"oneOf": parts}) == {"anyOf": [{"type": "string"}, {"type": "string"}]}
    assert kept({"oneOf": parts, "anyOf": [True]}) == {"anyOf": [True]}


def test_decimals_and_sets_keep_their_structure() -> None:
    schema = TypeAdapter(dict[str, Decimal | set[int]]).json_schema()
    assert {json.dumps(part) for part in kept(schema)["additionalProperties"]["anyOf"]} == {
        '{"items": {"type": "integer"}, "type": "array"}',
        '{"type": "number"}',
        '{"type": "string"}',
    }


_PATTERNS = st.sampled_from(["^a", "(?=a)b", "(?!a)", "b$", r"(a)\1", "^a$|^b$"])
_VALUES = st.recursive(
    st.sampled_from([None, True, 0, 1, 3, 1.5, "", "a", "b", "aa", "ab"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=5,
)
_SMALL = st.integers(0, 3)
_SCHEMAS: Any = st.recursive(
    st.booleans()
    | st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["string", "array", "object", "number"]), "pattern": _PATTERNS,
            "minLength": _SMALL, "uniqueItems": st.booleans(), "multipleOf": st.sampled_from([2, 0.5, 1e10]),
            "maxProperties": _SMALL, "maximum": _SMALL, "const": _VALUES,
        },
    ),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("items", "contains", "not", "if", "then", "else"), inner),
            **dict.fromkeys(("additionalProperties", "propertyNames", "unevaluatedProperties"), inner),
            **{name: st.lists(inner, min_size=1, max_size=2) for name in ("anyOf", "oneOf", "allOf")},
            "prefixItems": st.lists(inner, min_size=1, max_size=2),
            "properties": st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
            "patternProperties": st.dictionaries(_PATTERNS, inner, max_size=2),
            "required": st.lists(st.sampled_from("ab"), unique=True),
        },
    ),
    max_leaves=6,
)  # fmt: skip


@given(_SCHEMAS, _VALUES)
def test_what_the_whole_schema_accepts_is_never_refused(schema: Any, value: Any) -> None:
    if jsonschema.Draft202012Validator(schema).is_valid(value):
        assert jsonschema.Draft202012Validator(expressible(schema)[0]).is_valid(value)


@given(_SCHEMAS, _VALUES, st.integers(0, 200))
@example({"type": "object", "pattern": "^a", "maximum": 0, "maxProperties": 0}, {}, 9)
def test_what_has_room_fits_the_whole(schema: Any, value: Any, tokens: int) -> None:
    whole = {"anyOf": [expressible(schema)[0]]}
    if jsonschema.Draft202012Validator(within(whole, tokens)).is_valid(value):
        assert jsonschema.Draft202012Validator(whole).is_valid(value)
