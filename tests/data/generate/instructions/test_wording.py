"""What Self-Instruct's requests show, and how their replies are read."""

from __future__ import annotations

import pytest

from redraft.data.generate.instructions import wording
from redraft.data.generate.instructions.rules import (
    check_instances,
    read_instances,
    read_instructions,
    read_kind,
)
from redraft.data.generate.instructions.tasks import Task

WANTED = wording.Wanted("English")
SORT = Task("Is the animal wild or tame?", is_classification=True)
COUNT = Task("Count the vowels.", is_classification=False)


def test_numbered_instructions_are_read() -> None:
    reply = (
        "Sure:\n9. Name a river.\n10) **Count the vowels of it,**\nall of them.\n### Instruction 11: Sing."
    )
    texts = [found.task.instruction for found in read_instructions(reply, cut=False)]
    assert texts == ["Name a river.", "Count the vowels of it,**\nall of them.", "Sing."]
    assert [bool(found.fault) for found in read_instructions(reply, cut=True)] == [False, False, True]


def test_the_request_numbers_what_it_shows() -> None:
    text = wording.ask_instructions(["A b.", "C\nd."], WANTED)
    assert "1. A b.\n2. C d." in text
    assert "instructions 3 to 10" in text


@pytest.mark.parametrize(
    ("reply", "kind"), [("Yes.", True), (" no, since …", False), ("It is not.", None), ("", None)]
)
def test_the_kind(reply: str, kind: bool | None) -> None:
    assert read_kind(reply) is kind


def test_the_kinds_of_examples_are_shown() -> None:
    text = wording.ask_kind("Sing.", [SORT, COUNT, Task("Unknown?")])
    assert "wild or tame?\nClassification: yes" in text
    assert "vowels.\nClassification: no" in text
    assert "Unknown" not in text


def test_a_classification_gets_its_labels_first() -> None:
    reply = "Example 1\nLabel: wild\nInput: fox\n\nExample 2\nLabel: tame\nInput: cow"
    assert [(task.input, task.output) for task in read_instances(reply, SORT, cut=False)] == [
        ("fox", "wild"),
        ("cow", "tame"),
    ]
    assert len(read_instances(reply, SORT, cut=True)) == 1
    text = wording.ask_instances(SORT, [Task("Yes or no?", "so", "no", is_classification=True)], WANTED)
    assert "Label: no\nInput: so" in text


def test_another_task_gets_its_inputs_first_and_at_most_five() -> None:
    reply = "".join(f"Example {n}\nInput: {'a' * n}\nOutput: {n}\n\n" for n in range(1, 9))
    assert [task.output for task in read_instances(reply, COUNT, cut=False)] == ["1", "2", "3", "4", "5"]


def test_instances_with_faults() -> None:
    pairs = [("a", "1"), ("a", "2"), ("b", "3"), ("b", "3"), ("c", "c"), ("d", "this:"), ("", "6"), ("e", "")]
    found = check_instances([Task("Count it all now.", i, o) for i, o in pairs], WANTED)
    rules = [each.fault.rule if each.fault else "" for each in found]
    assert rules == ["conflict", "conflict", "", "duplicate", "same", "colon", "", "empty"]
