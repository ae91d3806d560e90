"""The compared parts of a chain."""

from __future__ import annotations

import pytest

from redraft.chain import Chain, Feedback, Prompt, Step
from redraft.data.texts import Part, text_of, texts_in

ALPACA = Chain(
    prompt=Prompt(instruction="Add.", input="1 and 2"), meta={"reference": "3", "rationale": "1 + 2"}
)
TALK = Chain(
    prompt=Prompt(
        messages=(
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Hi."}]},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "Who are you?"},
        )
    ),
    steps=(
        Step(answer="A cat.", feedback=Feedback(text="No. Revise.", verdict="revise")),
        Step(answer="A model."),
    ),
    best=1,
    meta={"reference": ["x", "y", 3]},
)


@pytest.mark.parametrize(
    ("chain", "part", "text"),
    [
        (ALPACA, "instruction", "Add."),
        (ALPACA, "query", "Add.\n\n1 and 2"),
        (ALPACA, "all", "Add.\n\n1 and 2\n3\n1 + 2"),
        (TALK, "instruction", "Hi."),
        (TALK, "query", "Hi."),
        (Chain(), "query", ""),
        (Chain(), "all", ""),
    ],
)
def test_parts(chain: Chain, part: Part, text: str) -> None:
    assert text_of(chain, part) == text


def test_all_that_is_said_has_drafts_feedback_and_gold_answers() -> None:
    said = "Be brief.|Hi.|Hello.|Who are you?|A cat.|No. Revise.|A model.|x|y"
    assert texts_in(TALK) == said.split("|")
