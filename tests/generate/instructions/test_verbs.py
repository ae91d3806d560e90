"""The heuristic for verbs and nouns."""

from __future__ import annotations

import pytest

from redraft.generate.instructions.report import verb_and_noun


@pytest.mark.parametrize(
    ("instruction", "found"),
    [
        ("Write a short story about a fox.", ("write", "story")),
        ("Name three rivers of France.", ("name", "rivers")),
        ("Please give me an example.", ("give", "example")),
        ("Can you suggest some good book titles?", ("suggest", "titles")),
        ("Explain why the sky is blue.", ("explain", "")),
        ("Translate into French.", ("translate", "")),
        ("Classify the following sentence: I like it.", ("classify", "sentence")),
        ("Summarise", ("summarise", "")),
        ("Edit the below code to print a table.", ("edit", "code")),
        ("Find one of the errors.", ("find", "")),
        ("Explain what I am.", ("explain", "")),
        ("What is the capital of Peru?", None),
        ("Nenne drei Flüsse.", None),
        ("", None),
    ],
)
def test_verb_and_noun(instruction: str, found: tuple[str, str] | None) -> None:
    assert verb_and_noun(instruction) == found
