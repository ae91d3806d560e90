"""Several answers to a record, and examples in front of it."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest

pytest.importorskip("scipy")

from redraft.chain import read_jsonl
from redraft.evaluation.tasks.tally import Tally, pass_at, steps_to
from tests.cli.verbs import redraft, refused, script, write

EVAL = ("-o", "out.jsonl", "-m", "script:script.jsonl", "--max-revisions", "0", "-j", "1")


@pytest.fixture(autouse=True)
def _files(here: Path) -> None:
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
    draws = [any(drawn) for drawn in combinations([place < right for place in range(of)], k)]
    assert pass_at({"a": (right, of)}, k).value == pytest.approx(sum(draws) / len(draws))


def test_records_with_too_few_answers_do_not_count() -> None:
    assert pass_at({"a": (1, 4), "b": (0, 1)}, 2).value == 0.5
    tally = Tally(task="gsm8k", outcomes={"a": True, "a2": False, "b": False}, items={"a2": "a"})
    assert next(line.note for line in tally.lines() if line.name == "  pass@2").endswith(
        "; leaves out 1 record with fewer answers"
    )
    assert tally.record()["pass@2"]["records"] == 1
    assert (steps_to(1), steps_to(12)) == ([1], [1, 2, 5, 10, 12])


def test_each_record_is_answered_several_times() -> None:
    done = redraft("eval", "gsm8k", "test.jsonl", "--samples", "3", *EVAL)
    assert done.exit_code == 0, done.output
    shown = [line.split()[:2] for line in done.stdout.splitlines()[1:4]]
    assert shown == [["score", "50.0"], ["pass@2", "83.3"], ["pass@3", "100.0"]]  # 83.3: (1 + (1 - 1/3)) / 2
    assert len({chain.id for chain in read_jsonl(Path("out.jsonl"))}) == 6
    found = json.loads(redraft("eval", "gsm8k", "test.jsonl", "--samples", "3", "--json", *EVAL).stdout)
    assert round(found["pass@2"]["value"], 3) == 0.833
    assert "pass@3" in found


def test_samples_of_a_cache_differ() -> None:
    script(*["Answer: 2", "Answer: 9"] * 6)
    more = ("--samples", "2", "--cache", "replies.db")
    assert redraft("eval", "gsm8k", "test.jsonl", *more, *EVAL).exit_code == 0
    assert {chain.answer for chain in read_jsonl(Path("out.jsonl"))} == {"Answer: 2", "Answer: 9"}
    refused(redraft("eval", "gsm8k", "test.jsonl", *more, "--temperature", "0", *EVAL), "the same answer")
