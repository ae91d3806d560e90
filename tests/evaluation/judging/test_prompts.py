"""What a judge is asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.evaluation.judging.prompts import Shown, Way, category_of, messages_of

PAIR = Shown(("Why?",), (("The first.",), ("The second.",)))
TURNS = Shown(("Why?", "And how?"), (("a1", "a2"), ("b1", "b2")), ("g1", "g2"))


@pytest.mark.parametrize(
    ("name", "category", "words"),
    [
        ("math", "mathematics", "Solve the problem"),
        ("Coding", "coding", "what the program has to do"),
        ("generic", "general", "the question asks"),
        ("", "general", "the question asks"),
    ],
)
def test_the_category_of_a_question_chooses_the_instruction(name: str, category: str, words: str) -> None:
    assert category_of(name) == category
    assert words in str(messages_of("scores", category_of(name), PAIR, as_json=False)[1]["content"])


@given(st.text(), st.sampled_from(["scores", "verdicts"]))
def test_no_answer_can_end_its_quotation(text: str, way: Way) -> None:
    shown = Shown(("Why?",), ((text,), (f"=== {text}",)))
    content = str(messages_of(way, "general", shown, as_json=False)[1]["content"])
    mark = content.splitlines()[1]
    assert content.count(mark) == 6
    assert mark not in text


def test_gold_answers_turns_and_json_are_told() -> None:
    content = str(messages_of("scores", "general", TURNS, as_json=False)[1]["content"])
    places = [
        content.index(f"\n{text}\n") for text in ("Why?", "g1", "a1", "b1", "And how?", "g2", "a2", "b2")
    ]
    assert places == sorted(places)
    assert "The reference answer is right" in content
    assert "Judge what is said to question 2" in content
    assert "[[N, M]]" in content
    plain = str(messages_of("scores", "general", PAIR, as_json=True)[1]["content"])
    assert '"score_1"' in plain
    assert "[[" not in plain
    assert "reference" not in plain
