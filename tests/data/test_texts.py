"""The compared parts of a chain."""

from __future__ import annotations

from redraft.chain import Chain, Feedback, Prompt, Step
from redraft.data.texts import texts_in

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


def test_all_that_is_said_has_drafts_feedback_and_gold_answers() -> None:
    said = "Be brief.|Hi.|Hello.|Who are you?|A cat.|No. Revise.|A model.|x|y"
    assert texts_in(TALK) == said.split("|")
