"""Joining answers by question: what belongs together, and what is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from redraft.chain import Chain, Prompt, Step
from redraft.errors import RecordError, UsageError
from redraft.evaluation.judging.pairs import read_matches
from tests.cli.verbs import write
from tests.evaluation.made import answer


def files(tmp_path: Path, ours: list[Any], theirs: list[Any]) -> list[Path]:
    return [write(tmp_path / "new.jsonl", ours), write(tmp_path / "old.jsonl", theirs)]


def asked(tmp_path: Path, *ids: int | str, **more: Any) -> Path:
    records = [{"question_id": id_, "text": f"Why {id_}?", **more} for id_ in ids]
    return write(tmp_path / "questions.jsonl", records)


def test_answers_are_joined_by_question_in_the_order_of_the_questions(tmp_path: Path) -> None:
    given = files(
        tmp_path,
        [answer("new", 1, "Wärme 🌳"), answer("new", "zwei", "b")],
        [answer("old", "zwei", "y"), answer("old", 1, "x")],
    )
    found = read_matches(given, asked(tmp_path, "zwei", 1, category="math"))
    assert [match.question.id for match in found] == ["zwei", 1]
    assert (found[1].question.turns, found[1].question.category) == (("Why 1?",), "math")
    assert [(each.id, each.name, each.turns) for each in found[1].answers] == [
        ("new-1", "new", ("Wärme 🌳",)),
        ("old-1", "old", ("x",)),
    ]


def test_released_answers_are_joined(shared_data: Path) -> None:
    names = ("selfee_13b_enforce_3_revisions", "chatgpt")
    given = [shared_data / "selfee" / "answers" / f"{name}.jsonl" for name in names]
    found = read_matches(given, shared_data / "questions" / "vicuna_80.jsonl")
    assert (len(found), [each.name for each in found[0].answers]) == (80, list(names))
    # SelFee's records say what was asked, ChatGPT's do not.
    assert [match.question.turns for match in read_matches(given)] == [m.question.turns for m in found]


def test_chains_say_what_was_asked_and_are_joined_by_id(tmp_path: Path) -> None:
    def chain(text: str) -> Chain:
        return Chain(
            id="prompts/1",
            prompt=Prompt(instruction="Why?"),
            steps=(Step(answer=text),),
            best=0,
            meta={"reference": "Because.", "source": {"category": "coding"}},
        )

    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path in paths:
        path.write_text(chain(f"Of {path.stem}.").to_json() + "\n", "utf-8")
    [match] = read_matches(paths)
    assert (match.question.id, match.question.turns) == ("prompts/1", ("Why?",))
    assert (match.question.category, match.question.gold) == ("coding", ("Because.",))
    assert [each.turns for each in match.answers] == [("Of a.",), ("Of b.",)]


def turns(model: str, *texts: str) -> dict[str, Any]:
    return {
        "question_id": 81,
        "answer_id": model,
        "model_id": model,
        "choices": [{"index": 0, "turns": list(texts)}],
    }


def test_two_turns_of_mt_bench(tmp_path: Path) -> None:
    questions = write(
        tmp_path / "q.jsonl",
        [{"question_id": 81, "category": "math", "turns": ["One?", "Two?"], "reference": ["1", "2"]}],
    )
    [match] = read_matches(files(tmp_path, [turns("new", "a", "b")], [turns("old", "c", "d")]), questions)
    assert (match.question.turns, match.question.gold) == (("One?", "Two?"), ("1", "2"))
    assert [each.turns for each in match.answers] == [("a", "b"), ("c", "d")]
    first_only = files(tmp_path, [turns("new", "a")], [turns("old", "c")])
    assert read_matches(first_only, questions)[0].question.turns == ("One?",)
    with pytest.raises(RecordError, match=r"the number of turns is 2 in question 81, but 2 in .*1 in"):
        read_matches(files(tmp_path, [turns("new", "a", "b")], [turns("old", "c")]), questions)


def test_what_does_not_belong_together_is_refused_by_name(tmp_path: Path) -> None:
    one, two = answer("new", 1, "a"), answer("new", 2, "b")
    there = [answer("old", 1, "x"), answer("old", 2, "y")]
    questions = asked(tmp_path, 1, 2)

    def refused(ours: list[Any], theirs: list[Any], words: str) -> None:
        with pytest.raises(RecordError, match=words):
            read_matches(files(tmp_path, ours, theirs), questions)

    refused([one, two, answer("new", 3, "c")], there, "new.jsonl has answers to questions that are not.*: 3")
    refused([one, two], there[:1], "old.jsonl has no answer to 1 of 2 questions of .*: 2")
    refused([one, one, two], there, "new.jsonl has two answers to question 1")
    refused([one, two], [{"question_id": 1, "text": "Why?"}], "the record of question 1 has no answer")
    selfee = {**there[0], "whole_generation": "x", "instruction": "?"}
    refused([one, two], [selfee], "has no answer to 1 of 2")
    with pytest.raises(RecordError, match=r"text of these questions is not.*new.jsonl or.*old.jsonl: 1, 2\."):
        read_matches(files(tmp_path, [one, two], there))
    with pytest.raises(UsageError, match="is given twice"):
        read_matches([tmp_path / "new.jsonl", tmp_path / "new.jsonl"], questions)
    with pytest.raises(RecordError, match="has question 1 twice"):
        read_matches(files(tmp_path, [one], there[:1]), asked(tmp_path, 1, 1))


def test_answers_to_another_question_of_the_same_id_are_refused(tmp_path: Path) -> None:
    ours = [{"question_id": 1, "prompt": "Why 1?", "response": "a"}]
    theirs = [{"question_id": 1, "prompt": "Who?", "response": "b"}]
    with pytest.raises(RecordError, match=r"question 1 is 'Who\?' in .*old.jsonl, but 'Why 1\?' in"):
        read_matches(files(tmp_path, ours, theirs))
