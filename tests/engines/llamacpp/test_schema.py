"""llama.cpp keeps answers to a JSON schema, if its grammar can express it."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

import redraft
from redraft.engines.load import load_engine


class Tower(BaseModel):
    kind: Literal["lighthouse", "castle"]
    metres: Annotated[int, Field(ge=1, le=400)]


class Colour(TypedDict):
    colour: Literal["red", "white"]


@pytest.mark.parametrize("output", [Tower, list[Colour], Tower | Colour, Colour])
def test_a_weak_model_answers_in_the_form_at_once(output: object) -> None:
    chain = redraft.revise(
        "Describe a lighthouse. Name at most two colours.",
        output=output,
        max_tokens=150,
        temperature=0.0,
        max_revisions=0,
    )
    assert chain.passed, chain.answer
    assert chain.value is not None


def test_a_schema_beyond_its_grammar_is_only_checked_and_it_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lookahead = {"type": "object", "properties": {"name": {"type": "string", "pattern": "^(?=A).*$"}}}
    (tmp_path / "bird.json").write_text(json.dumps(lookahead))

    async def ask() -> redraft.Chain:
        async with aclosing(await load_engine("default")) as engine:
            return await redraft.arevise(
                "Name a bird.",
                model=engine,
                checks=[f"json-schema:{tmp_path}/bird.json"],
                max_tokens=12,
                temperature=0.0,
                max_revisions=1,
            )

    with caplog.at_level(logging.WARNING):
        assert not asyncio.run(ask()).passed
    (record,) = caplog.records
    assert "does not keep to the JSON schema" in record.getMessage()
