"""llama.cpp keeps answers to a JSON schema."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

import redraft


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
