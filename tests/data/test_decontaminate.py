"""Evaluation items in the data are found, and no others."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import Chain, Prompt, Step
from redraft.chain.read.records import RawRecord
from redraft.data.decontaminate import Contaminated, Items, Match, Runs, check, contaminated, decontaminate
from redraft.errors import RecordError, UsageError
from tests.cli.verbs import write

LONG = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May."
MEDIUM = "What is the tallest mountain in all of Europe?"  # 9 words
SHORT = "Who wrote Hamlet?"


def items_of(folder: Path, *records: dict[str, Any], size: int = 13) -> Items:
    items = Items(size)
    items.add(write(folder / "eval.jsonl", records))
    items.save(folder)
    return items


def matches(folder: Path, chain: Chain) -> tuple[Match, ...]:
    return Runs(folder).matches([saying(LONG), chain, saying(SHORT)])[1]


def saying(text: str, answer: str = "I see.") -> Chain:
    return Chain(id="c", prompt=Prompt(instruction=text), steps=(Step(answer=answer),), best=0)


@pytest.fixture
def three(tmp_path: Path) -> Path:
    items_of(tmp_path, {"prompt": LONG}, {"prompt": MEDIUM}, {"prompt": SHORT})
    return tmp_path


def test_a_long_question_is_found_by_any_run_of_it(three: Path) -> None:
    part = "So she sold CLIPS — to 48 of her friends in april and\nthen she SOLD more."
    assert matches(three, saying(part)) == (
        Match(0, "sold clips to 48 of her friends in april and then she sold", 1),
    )
    assert matches(three, saying(LONG))[0].total == 8  # of 20 words
    assert matches(three, saying("Natalia sold clips to 48 of her friends in April, and then he")) == ()


def test_a_shorter_one_as_a_whole_anywhere(three: Path) -> None:
    found = matches(three, saying("Tell me.", f"You may ask: {MEDIUM.upper()} I do not know."))
    assert found == (Match(1, "what is the tallest mountain in all of europe", 1),)
    assert matches(three, saying("What is the tallest mountain in all of Asia?")) == ()


def test_a_very_short_one_where_it_is_a_whole_turn(three: Path) -> None:
    assert matches(three, saying("who wrote HAMLET")) == (Match(2, "who wrote hamlet", 1),)
    assert (matches(three, saying(f"{SHORT} And when?")), matches(three, saying("Hm.", SHORT))) == ((), ())
    talk = tuple({"role": "user", "content": text} for text in ("Hello!", SHORT, "Why?"))
    assert [match.item for match in matches(three, Chain(prompt=Prompt(messages=talk)))] == [2]


@given(st.text(max_size=40), st.text(max_size=40), st.integers(0, 6))
def test_a_run_is_found_whatever_is_around_it(before: str, after: str, start: int) -> None:
    with TemporaryDirectory() as folder:
        items_of(Path(folder), {"prompt": LONG})
        runs = Runs(Path(folder))
    run = " ".join(LONG.split()[start : start + 13])
    assert [match.item for match in runs.matches([saying(f"{before} {run} {after}")])[0]] == [0]


def test_gold_answers_are_found_unless_they_are_short(tmp_path: Path) -> None:
    solution = "In May she sold half of 48 which is 24 clips so together 48 plus 24 are 72."
    items_of(
        tmp_path,
        {"instruction": "How many?", "output": solution},
        {"instruction": "And now?", "output": "72"},
    )
    assert [match.item for match in matches(tmp_path, saying("Solve it.", solution))] == [0]
    assert matches(tmp_path, saying("Name a number.", "72")) == ()


def test_an_instruction_that_many_inputs_share_is_no_match(tmp_path: Path) -> None:
    record = {"instruction": "Classify the sentiment.", "input": "I love this film, it is great."}
    items_of(tmp_path, record)
    other = Prompt(instruction=record["instruction"], input="What a bore!")
    assert matches(tmp_path, Chain(prompt=other)) == ()
    same = Prompt(instruction=record["instruction"], input=record["input"])
    assert [match.item for match in matches(tmp_path, Chain(prompt=same))] == [0]


def test_system_messages_of_items_are_not_looked_for(tmp_path: Path) -> None:
    system = {
        "role": "system",
        "content": "You are a helpful, respectful and honest assistant. Always be as helpful as you can.",
    }
    items_of(tmp_path, {"messages": [system, {"role": "user", "content": MEDIUM}]})
    hello = Chain(prompt=Prompt(messages=(system, {"role": "user", "content": "Hello!"})))
    assert matches(tmp_path, hello) == ()


def test_the_second_turn_of_a_question_is_looked_for(tmp_path: Path) -> None:
    second = "Rewrite your previous answer and start every sentence of it with the letter A, please."
    items_of(tmp_path, {"question_id": 81, "turns": ["Write a blog post.", second]})
    assert [match.item for match in matches(tmp_path, saying(second))] == [0]


@pytest.mark.parametrize("turns", [3, "a b c", {"first": 1}])
def test_turns_that_are_no_list_are_of_another_kind(tmp_path: Path, turns: object) -> None:
    items_of(tmp_path, {"instruction": MEDIUM, "turns": turns})
    assert [match.item for match in matches(tmp_path, saying(MEDIUM))] == [0]


def test_scripts_without_spaces_are_found_by_characters(tmp_path: Path) -> None:
    items_of(tmp_path, {"prompt": "请问世界上最高的山峰是哪一座它有多高"})
    assert [
        match.item for match in matches(tmp_path, saying("题目：世界上最高的山峰是哪一座它有多高？"))
    ] == [0]
    assert matches(tmp_path, saying("世界上最长的河流是哪一条")) == ()


def test_a_run_of_two_items_is_of_the_first(tmp_path: Path) -> None:
    items_of(
        tmp_path,
        {"prompt": LONG},
        {"prompt": f"{LONG} How many clips did she sell altogether in April and May?"},
    )
    assert [match.item for match in matches(tmp_path, saying(LONG))] == [0]


def test_the_number_of_words_can_be_less(tmp_path: Path) -> None:
    items_of(tmp_path, {"prompt": LONG}, size=6)
    assert matches(tmp_path, saying("clips to 48 of her friends")) == (
        Match(0, "clips to 48 of her friends", 1),
    )


def test_a_file_without_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"eval\.jsonl contains no question") as raised:
        items_of(tmp_path, {"question_id": 1, "answer_id": "x", "text": "It is tall.", "model_id": "m"})
    assert "--against" in str(raised.value.hint)


def test_an_item_that_cannot_be_read_is_never_passed_over(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"eval\.jsonl:2"):
        items_of(tmp_path, {"prompt": LONG}, {"who": "knows"})


def test_a_record_is_checked_and_its_drop_names_what_it_has(tmp_path: Path) -> None:
    items = items_of(tmp_path, {"id": "q7", "prompt": LONG}, {"prompt": MEDIUM})

    def checked(record: dict[str, str]) -> Any:
        line = RawRecord("in.jsonl:1", "in", 0, json.dumps(record).encode())
        return check([line], tmp_path, strict=True)[0]

    assert checked({"prompt": "Hello there!"}).matches == ()
    drop = contaminated(checked({"id": "r1", "prompt": f"{LONG} {MEDIUM}"}), items)
    assert isinstance(drop, Contaminated)
    assert (drop.rule, drop.id, drop.where) == ("contaminated", "in/r1", "in.jsonl:1")
    assert drop.record["id"] == "in/r1"
    assert drop.reason == "quotes eval/q7: natalia sold clips to 48 of her friends in april and then she"
    assert [(match["eval"], match["count"]) for match in drop.matches] == [("eval/q7", 8), ("eval/1", 1)]
    assert {match["file"] for match in drop.matches} == {str(tmp_path / "eval.jsonl")}


def test_an_item_that_drops_many_records_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    against = write(tmp_path / "eval.jsonl", [{"prompt": LONG}])
    for count in (2, 3):
        questions = [{"prompt": f"{n}. {LONG if n < count else n}"} for n in range(10)]
        decontaminate(write(tmp_path / "in.jsonl", questions), tmp_path / str(count), against=against)
    said = [line for line in capsys.readouterr().err.splitlines() if "were dropped" in line]
    assert said == ["redraft: 3 of 10 records were dropped, 3 of them because of eval/0."]
