"""Seeds: the shipped ones are varied, and bad files are refused with what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from redraft.data.generate.instructions.rules import check_answer, check_instruction
from redraft.data.generate.instructions.tasks import read_seeds
from redraft.data.generate.instructions.wording import Wanted
from redraft.data.similarity import Pool
from redraft.errors import RedraftError
from tests.cli.verbs import write


def test_the_shipped_seeds_pass_our_own_rules_and_differ() -> None:
    seeds = read_seeds(None)
    wanted, pool = Wanted("English"), Pool()
    assert len(seeds.tasks) == 20
    assert sum(task.is_classification is True for task in seeds.tasks) >= 4
    for task in seeds.tasks:
        assert check_instruction(task, wanted) is None, task
        assert check_answer(task, wanted) is None, task
        assert pool.nearest(task.instruction) is None, task
        pool.add(task.instruction)


def test_seeds_of_self_instruct_keep_their_kind(shared_data: Path) -> None:
    seeds = read_seeds(shared_data / "self_instruct" / "seed_tasks.jsonl")
    assert len(seeds.tasks) + seeds.repeats == 175
    assert {task.is_classification for task in seeds.tasks} == {True, False}
    assert all(task.output for task in seeds.tasks)


def test_repeats_are_left_out_and_counted(tmp_path: Path) -> None:
    records = [{"instruction": text, "output": "x"} for text in ("A b.", "a  B", "C d.")]
    seeds = read_seeds(write(tmp_path / "seeds.jsonl", records))
    assert [task.instruction for task in seeds.tasks] == ["A b.", "C d."]
    assert seeds.repeats == 1


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "no task|no record|empty"),
        ([{"instruction": "A b.", "output": "x"}] * 20, "20 tasks, all the same"),
        ([{"instruction": "A b.", "output": "x"}], "has 1 task, but generating needs"),
        ([{"instruction": "A b.", "output": "x"}, {"instruction": " ", "output": "x"}], "has no instruction"),
        ([{"instruction": "A b.", "output": "x"}, {"instruktion": "C d."}], r"seeds\.jsonl:2"),
        ([{"instruction": "A b.", "output": "x"}, {"instruction": 7}], r"seeds\.jsonl:2"),
    ],
    ids=["empty", "all alike", "one", "blank", "unknown", "number"],
)
def test_seeds_that_cannot_be_used(tmp_path: Path, records: list[object], message: str) -> None:
    with pytest.raises(RedraftError, match=message) as caught:
        read_seeds(write(tmp_path / "seeds.jsonl", records))
    assert caught.value.exit_status == 2
