"""llama.cpp keeps answers to what its grammar can express of a JSON schema."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from pydantic import BaseModel, Field, WithJsonSchema
from typing_extensions import TypedDict

import redraft
from redraft.checks.json_reading import read_json
from redraft.engines.base import Engine, Sampling
from redraft.engines.load import load_engine

OF_PYDANTIC_2_12 = {"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"}


class Bill(BaseModel):
    total: Annotated[Decimal, WithJsonSchema({"anyOf": [{"type": "number"}, OF_PYDANTIC_2_12]})]
    pieces: Annotated[set[Literal["tea", "cake"]], Field(min_length=1, max_length=2)]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    opened = asyncio.run(load_engine("default"))
    yield opened
    asyncio.run(opened.aclose())


class Step(TypedDict):
    name: str
    note: str


class Recipe(BaseModel):
    title: str
    summary: str
    tags: list[str]
    steps: list[Step]


@pytest.mark.parametrize("tokens", [100, pytest.param(200, marks=pytest.mark.slow)])
async def test_json_is_complete_before_its_tokens_end(engine: Engine, tokens: int) -> None:
    options: Any = {"max_tokens": tokens, "max_revisions": 0, "model": engine, "output": Recipe}
    chain = await redraft.arevise("Give a recipe for pancakes.", seed=0, **options)
    assert chain.stop == "passed"
    assert "\n" not in chain.answer


class Tree(BaseModel):
    v: int
    kids: list[Tree]


PATTERN = "pattern and length"
OPEN: dict[str, Any] = {
    "a tree": Tree.model_json_schema(),
    "numbers": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "number"}}},
    "any names": {"type": "object", "additionalProperties": {"type": "number"}},
    "no properties": {"type": "object", "properties": {"a": {"type": "object", "properties": {}}}},
    "anything": {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a", "b"]},
    PATTERN: {"type": "string", "pattern": "^[a-z]+( [a-z]+)*$", "maxLength": 12},
    "a family": {
        "type": "object",
        "patternProperties": {"^x_": {"type": "integer"}},
        "additionalProperties": False,
    },
    "long": {
        "type": "object",
        "properties": {"a": {"type": "string", "maxLength": 65536}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    },
    "a list of any": {"type": "array"},
    "any": {"type": ["object", "array"]},
}
"""Schemas that leave something open, in which models ran on until they were cut."""
NAMES = [
    name if name in ("a tree", "long", PATTERN) else pytest.param(name, marks=pytest.mark.slow)
    for name in OPEN
]


async def closes(engine: Engine, schema: dict[str, Any]) -> None:
    asked: Any = [{"role": "user", "content": "Give JSON for a person. Repeat: na na na na"}]
    sampling = Sampling(temperature=0.0, max_tokens=100, schema=schema)
    deltas = [delta async for delta in engine.chat(asked, sampling)]
    answer = "".join(delta.text for delta in deltas)
    assert deltas[-1].finish == "stop", answer
    assert deltas[-1].completion_tokens
    jsonschema.validate(read_json(answer)[0], schema)


@pytest.mark.parametrize("name", NAMES)
async def test_json_that_is_left_open_closes_before_its_tokens_end(engine: Engine, name: str) -> None:
    await closes(engine, OPEN[name])


async def test_a_weak_model_answers_with_json_of_any_form(engine: Engine) -> None:
    options: Any = {"max_tokens": 100, "temperature": 0.0, "max_revisions": 0, "tell_checks": False}
    asked = "Describe a lighthouse in a few words."
    chain = await redraft.arevise(asked, model=engine, checks=["json"], **options)
    assert chain.passed, chain.answer


@pytest.mark.slow
async def test_what_the_grammar_cannot_express_does_not_undo_the_rest(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    options: Any = {"max_tokens": 60, "temperature": 0.0, "max_revisions": 1, "min_revisions": 1}
    with caplog.at_level(logging.WARNING, logger="redraft.engines.schemas"):
        asked = "A cup of tea was 3.50. Write the bill."
        chain = await redraft.arevise(asked, model=engine, output=Bill, **options)
    assert all(set(json.loads(step.answer)) == {"total", "pieces"} for step in chain.steps)
    (said,) = (record.getMessage() for record in caplog.records if record.name == "redraft.engines.schemas")
    assert "the schema keywords pattern, uniqueItems. Only checks of the finished answer apply them." in said


@pytest.mark.slow
async def test_a_schema_that_undoes_the_grammar_is_only_checked_and_it_is_said_once(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    impossible = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string", "enum": [1]}},
    }
    (tmp_path / "bird.json").write_text(json.dumps(impossible))
    checks = [f"json-schema:{tmp_path}/bird.json"]
    options: Any = {"max_tokens": 12, "temperature": 0.0, "max_revisions": 1, "tell_checks": False}
    with caplog.at_level(logging.WARNING):
        chain = await redraft.arevise("Name a bird.", model=engine, checks=checks, **options)
    assert not chain.passed
    (record,) = caplog.records
    assert "does not follow the JSON schema" in record.getMessage()
