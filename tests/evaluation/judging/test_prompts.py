"""What a judge is asked: our own wording, and the files of FastChat."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.errors import RecordError, UsageError
from redraft.evaluation.judging.prompts import Prompts, Shown, Way, category_of, own_prompt, read_prompts
from tests.evaluation.made import write

PAIR = Shown(("Why?",), (("The first.",), ("The second.",)))
TURNS = Shown(("Why?", "And how?"), (("a1", "a2"), ("b1", "b2")), ("g1", "g2"))

# The shapes of FastChat's files, in words of our own.
TABLE = {
    "prompt_id": 1,
    "system_prompt": "Judge.",
    "prompt_template": "Q {question} 1 {answer_1} 2 {answer_2} {prompt}",
    "defaults": {"prompt": "Score both."},
    "category": "general",
}
MT = [
    ("pair", "pairwise", "{question}|{answer_a}|{answer_b}", "general", "[[A]]"),
    ("pair-math", "pairwise", "{question}|{ref_answer_1}|{answer_a}|{answer_b}", "math", "[[A]]"),
    (
        "pair-turns",
        "pairwise",
        "{question_1}|{answer_a_1}|{question_2}|{answer_a_2}|{answer_b_1}|{answer_b_2}",
        "general",
        "[[A]]",
    ),
    ("single", "single", "{question}|{answer}", "general", "[[rating]]"),
    ("single-turns", "single", "{question_1}|{answer_1}|{question_2}|{answer_2}", "general", "[[rating]]"),
]


def mt_bench(path: Path) -> Path:
    names = ("name", "type", "prompt_template", "category", "output_format")
    return write(path, [{**dict(zip(names, each, strict=True)), "system_prompt": ""} for each in MT])


def user(prompts: Prompts, shown: Shown, category: str = "") -> str:
    [message] = prompts.prompt(category, shown).fill(shown, as_json=False)
    return str(message["content"])


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
    prompt = Prompts("scores").prompt(name, PAIR)
    assert prompt.id == f"scores-{category}"
    assert words in str(prompt.fill(PAIR, as_json=False)[1]["content"])


@given(st.text(), st.sampled_from(["scores", "verdicts"]))
def test_no_answer_can_end_its_quotation(text: str, way: Way) -> None:
    shown = Shown(("Why?",), ((text,), (f"=== {text}",)))
    content = str(own_prompt(way, "general").fill(shown, as_json=False)[1]["content"])
    mark = content.splitlines()[1]
    assert content.count(mark) == 6
    assert mark not in text


def test_gold_answers_turns_and_json_are_told() -> None:
    content = str(own_prompt("scores", "general").fill(TURNS, as_json=False)[1]["content"])
    places = [
        content.index(f"\n{text}\n") for text in ("Why?", "g1", "a1", "b1", "And how?", "g2", "a2", "b2")
    ]
    assert places == sorted(places)
    assert "The reference answer is right" in content
    assert "Judge what is said to question 2" in content
    assert "[[N, M]]" in content
    plain = str(own_prompt("scores", "general").fill(PAIR, as_json=True)[1]["content"])
    assert '"score_1"' in plain
    assert "[[" not in plain
    assert "reference" not in plain


def test_fastchats_prompts_and_reviewers_are_taken_as_they_are(tmp_path: Path) -> None:
    maths = TABLE | {"prompt_id": 3, "defaults": {"prompt": "Solve."}, "category": "math"}
    prompts = write(tmp_path / "prompt.jsonl", [TABLE, maths])
    records: list[dict[str, Any]] = [
        {"reviewer_id": "r-default", "prompt_id": 1, "metadata": {"temperature": 0.2}, "category": "general"},
        {"reviewer_id": "r-math", "prompt_id": 3, "metadata": {"max_tokens": 9}, "category": "math"},
    ]
    reviewers = write(tmp_path / "reviewer.jsonl", records)
    found = read_prompts(prompts, None, pairs=True, reviewers=reviewers)
    assert found.way == "scores"
    first, second = found.prompt("writing", PAIR), found.prompt("mathematics", PAIR)
    assert (first.id, first.sampling) == ("r-default", {"temperature": 0.2})
    assert (second.id, second.sampling) == ("r-math", {"max_tokens": 9})
    assert first.fill(PAIR, as_json=False) == [
        {"role": "system", "content": "Judge."},
        {"role": "user", "content": "Q Why? 1 The first. 2 The second. Score both."},
    ]
    assert read_prompts(prompts, None, pairs=True).prompt("math", PAIR).id == 3


def test_mt_benchs_prompts_are_chosen_by_turns_gold_and_files(tmp_path: Path) -> None:
    path = mt_bench(tmp_path / "judge_prompts.jsonl")
    pairs = read_prompts(path, None, pairs=True)
    assert pairs.way == "verdicts"
    assert user(pairs, PAIR) == "Why?|The first.|The second."
    gold = Shown(PAIR.questions, PAIR.answers, ("42",))
    assert user(pairs, gold, "math") == "Why?|42|The first.|The second."
    assert user(pairs, Shown(TURNS.questions, TURNS.answers)) == "Why?|a1|And how?|a2|b1|b2"
    with pytest.raises(UsageError, match="no prompt for: verdicts, 2 turns, with gold answers"):
        pairs.prompt("", TURNS)
    single = read_prompts(path, None, pairs=False)
    assert single.way == "grades"
    assert user(single, Shown(("Why?",), (("a {braces}",),))) == "Why?|a {braces}"
    assert user(single, Shown(("Why?", "How?"), (("a1", "a2"),))) == "Why?|a1|How?|a2"
    with pytest.raises(UsageError, match="has no prompt for scores, only for verdicts, grades"):
        read_prompts(path, "scores", pairs=True)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([1], "should be an object"),
        ({"question_id": 1, "text": "?"}, "is not a prompt for a judge; its fields are question_id, text"),
        (TABLE | {"prompt_template": "{question} {answer_3}"}, "{answer_3} of the template is not known"),
        (TABLE | {"prompt_template": "{question.__class__}"}, "{question.__class__} of the template"),
        (TABLE | {"prompt_template": "{question} {"}, "the template cannot be filled"),
        (TABLE | {"prompt_template": "{question}"}, "the template shows no answer"),
    ],
)
def test_wrong_prompt_files_are_refused_with_the_place(tmp_path: Path, record: Any, message: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(TABLE) + "\n" + json.dumps(record) + "\n")
    with pytest.raises(RecordError, match=r"p\.jsonl:2: ") as error:
        read_prompts(path, None, pairs=True)
    assert message in str(error.value)


def test_wrong_reviewers_are_refused(tmp_path: Path) -> None:
    prompts = write(tmp_path / "prompt.jsonl", [TABLE])
    wrong = write(tmp_path / "r.jsonl", [{"reviewer_id": 1, "category": "general"}])
    with pytest.raises(RecordError, match=r"r\.jsonl:1: prompt_id is"):
        read_prompts(prompts, None, pairs=True, reviewers=wrong)
    other = write(tmp_path / "r.jsonl", [{"reviewer_id": 1, "prompt_id": 9, "category": "general"}])
    with pytest.raises(UsageError, match=r"no reviewer has a prompt of .*: its prompts are 1"):
        read_prompts(prompts, None, pairs=True, reviewers=other).prompt("", PAIR)
