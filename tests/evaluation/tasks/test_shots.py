"""Several answers to a record, and examples in front of it."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("scipy")

from redraft.chain import read_jsonl
from redraft.evaluation.tasks.tally import Tally, pass_at, steps_to
from tests.cli.verbs import redraft, refused, script, write

EVAL = ("-o", "out.jsonl", "-m", "script:script.jsonl", "--max-revisions", "0", "-j", "1")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(
        "test.jsonl", [{"question": f"What is {n} + 1?", "answer": f"It is.\n#### {n + 1}"} for n in (1, 2)]
    )
    write(
        "train.jsonl",
        [{"question": f"What is {n} + 1?", "answer": f"So it is.\n#### {n + 1}"} for n in (7, 8)],
    )
    script("Answer: 2", "Answer: 9", "Answer: 2", "Answer: 3", "Answer: 9", "Answer: 9")


@pytest.mark.parametrize(("right", "of", "k"), [(0, 4, 2), (1, 4, 2), (2, 5, 3), (4, 5, 2), (3, 3, 3)])
def test_pass_at_k_is_the_share_of_draws_with_a_right_answer(right: int, of: int, k: int) -> None:
    answers = [place < right for place in range(of)]
    draws = [any(drawn) for drawn in combinations(answers, k)]
    assert pass_at({"a": (right, of)}, k).value == pytest.approx(sum(draws) / len(draws))


def test_records_with_too_few_answers_do_not_count() -> None:
    assert pass_at({"a": (1, 4), "b": (0, 1)}, 2).value == 0.5
    tally = Tally(task="gsm8k", outcomes={"a": True, "a2": False, "b": False}, items={"a2": "a"})
    assert next(line.note for line in tally.lines() if line.name == "  pass@2").endswith(
        "; without 1 record of fewer answers"
    )
    assert tally.record()["pass@2"]["records"] == 1
    assert steps_to(1) == [1]
    assert steps_to(12) == [1, 2, 5, 10, 12]


def test_each_record_is_answered_several_times() -> None:
    done = redraft("eval", "gsm8k", "test.jsonl", "--samples", "3", *EVAL)
    assert done.exit_code == 0, done.output
    shown = [line.split()[:2] for line in done.stdout.splitlines()[1:4]]
    assert shown == [["score", "50.0"], ["pass@2", "83.3"], ["pass@3", "100.0"]]  # 83.3: (1 + (1 - 1/3)) / 2
    chains = list(read_jsonl(Path("out.jsonl")))
    assert len({chain.id for chain in chains}) == 6
    again = redraft("eval", "gsm8k", "test.jsonl", "--samples", "3", "--json", *EVAL)
    found = json.loads(again.stdout)
    assert round(found["pass@2"]["value"], 3) == 0.833
    assert "pass@3" in found


def test_samples_of_a_cache_differ() -> None:
    script(*["Answer: 2", "Answer: 9"] * 6)
    more = ("--samples", "2", "--cache", "replies.db")
    assert redraft("eval", "gsm8k", "test.jsonl", *more, *EVAL).exit_code == 0
    assert {chain.answer for chain in read_jsonl(Path("out.jsonl"))} == {"Answer: 2", "Answer: 9"}
    refused(redraft("eval", "gsm8k", "test.jsonl", *more, "--temperature", "0", *EVAL), "the same answer")


def test_examples_are_earlier_turns() -> None:
    more = ("--few-shot", "2", "--examples", "train.jsonl")
    done = redraft("eval", "gsm8k", "test.jsonl", *more, *EVAL)
    assert done.exit_code == 0, done.output
    messages: Any = next(read_jsonl(Path("out.jsonl"))).prompt.messages
    assert [each["role"] for each in messages] == ["user", "assistant"] * 2 + ["user"]
    assert messages[0]["content"].startswith("What is 7 + 1?")
    assert messages[1]["content"] == "So it is.\n\nAnswer: 8"
    assert messages[4]["content"].startswith("What is 1 + 1?")


def test_a_conversation_keeps_its_messages_behind_the_examples() -> None:
    told = [("system", "Be brief."), ("user", "Hi."), ("assistant", "Hello."), ("user", "What is rain?")]
    messages = [{"role": role, "content": text} for role, text in told]
    write("talk.jsonl", [{"messages": messages, "checks": ["words<=50"]}])
    write("seen.jsonl", [{"prompt": "What is snow?", "answer": "Ice.", "checks": ["words<=50"]}])
    done = redraft("eval", "checks", "talk.jsonl", "--few-shot", "1", "--examples", "seen.jsonl", *EVAL)
    assert done.exit_code == 0, done.output
    asked: Any = next(read_jsonl(Path("out.jsonl"))).prompt.messages
    texts = ["Be brief.", "What is snow?", "Ice.", "Hi.", "Hello.", "What is rain?"]
    assert [each["content"] for each in asked] == texts


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--few-shot", "2"), "--few-shot and --examples go together"),
        (("--few-shot", "3", "--examples", "train.jsonl"), "has 2 records, and 3 examples are wanted"),
        (("--few-shot", "1", "--examples", "test.jsonl"), "is among the examples"),
        (("--few-shot", "1", "--examples", "checks.jsonl"), "Give it"),
        (("--few-shot", "1", "--examples", "none.jsonl"), "none.jsonl"),
    ],
)
def test_examples_that_cannot_be_shown_are_refused(more: tuple[str, ...], said: str) -> None:
    write("checks.jsonl", [{"prompt": "Describe rain.", "checks": ["words<=3"]}])
    task, file = ("checks", "checks.jsonl") if "checks.jsonl" in more else ("gsm8k", "test.jsonl")
    done = redraft("eval", task, file, *more, *EVAL)
    assert done.exit_code == 2, done.output
    assert said in done.output
