"""Write the requests to the teacher, for both methods, with Alpaca's requirements in our words.

The provenance of an output contains a digest of the wording. After a change of the wording, replies in the
journal are not used again, because the keys of replies contain the whole request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redraft.chain.documents import yaml_of
from redraft.data.generate.instructions.tasks import Task

SHOWN, _LAST = 3, 20
"""Number of seeds in a request for tasks, and the last task's number (Alpaca's `generate_instruction.py`)."""

NEW_TASKS = _LAST - SHOWN  # most new tasks of a reply

SEEDS_SHOWN, MADE_SHOWN, NEW = 6, 2, 8
"""Seeds, generated examples, and new instructions per request (Self-Instruct, section 2.2)."""

KINDS_SHOWN, INSTANCES_SHOWN = 20, 2  # examples in the requests for a kind and for instances

INSTANCES = 5  # most instances of an instruction

LEAST_WORDS, MOST_WORDS = 4, 150
"""Alpaca drops instructions with fewer than 4 or more than 150 words (`generate_instruction.py`)."""

AFTER_TASKS = (f"\nTask {_LAST + 1}", f"\n{_LAST + 1}. Instruction")
AFTER_INSTANCES = (f"\nExample {INSTANCES + 1}", "\nInstruction:")
"""Stop strings: the beginnings of tasks and examples beyond the requested number."""

NO_INPUT = "<noinput>"  # stands for an empty input in requests and replies, as in Alpaca


@dataclass(frozen=True)
class Wanted:
    """The language and the topic that tasks should have. An empty topic allows any topic."""

    language: str
    topic: str = ""

    def demands(self) -> str:
        """Return the requirements for instructions, one per line."""
        demands = [
            *([f"Every task is about this topic: {self.topic}."] if self.topic else []),
            f"All texts are in {self.language}.",
            f"An instruction has one or two sentences, with {LEAST_WORDS} to {MOST_WORDS} words.",
            *_VARIETY,
        ]
        return "\n".join(f"- {demand}" for demand in demands)


_TEXTS: dict[str, Any] = yaml_of((_FILE := Path(__file__).with_suffix(".yaml")).read_text("utf-8"), _FILE)
_VARIETY: list[str] = _TEXTS["variety"]
_REQUESTS = ("tasks", "instructions", "kind", "input_first", "output_first")


def digest() -> str:
    """Return the SHA-256 of the texts of all requests."""
    return hashlib.sha256("\0".join([*map(_TEXTS.__getitem__, _REQUESTS), *_VARIETY]).encode()).hexdigest()


def ask_tasks(examples: Sequence[Task], wanted: Wanted) -> str:
    """Return the request for a list of whole tasks."""
    shown = [
        f"Task {number}\nInstruction: {task.instruction}\n{_solved(task)}"
        for number, task in enumerate(examples, start=1)
    ]
    return _listed(_TEXTS["tasks"], "\n\n".join(shown), len(shown), _LAST, wanted)


def ask_instructions(examples: Sequence[str], wanted: Wanted) -> str:
    """Return the request for new instructions."""
    shown = [f"{number}. {' '.join(text.split())}" for number, text in enumerate(examples, start=1)]
    return _listed(_TEXTS["instructions"], "\n".join(shown), len(shown), len(shown) + NEW, wanted)


def _listed(form: str, examples: str, shown: int, last: int, wanted: Wanted) -> str:
    return form.format(demands=wanted.demands(), shown=shown, examples=examples, first=shown + 1, last=last)


def ask_kind(instruction: str, examples: Sequence[Task]) -> str:
    """Return the request that asks whether an instruction is a classification task."""
    kinds = {True: "yes", False: "no"}
    shown = [
        f"Instruction: {' '.join(task.instruction.split())}\nClassification: {kinds[task.is_classification]}"
        for task in examples
        if task.is_classification is not None
    ]
    return str(_TEXTS["kind"]).format(examples="\n\n".join(shown), instruction=instruction)


def ask_instances(task: Task, examples: Sequence[Task], wanted: Wanted) -> str:
    """Return the request for instances of an instruction: inputs with outputs."""
    # For a classification, labels come before inputs. In the other order, teachers use only one label.
    name, shown = ("output_first", _labelled) if task.is_classification else ("input_first", _solved)
    return str(_TEXTS[name]).format(
        language=wanted.language,
        most=INSTANCES,
        examples="\n\n".join(
            f"Instruction: {each.instruction}\n\nExample 1\n{shown(each)}" for each in examples
        ),
        instruction=task.instruction,
    )


def _solved(task: Task) -> str:
    return f"Input: {task.input or NO_INPUT}\nOutput: {task.output}"


def _labelled(task: Task) -> str:
    return f"Label: {task.output}\nInput: {task.input or NO_INPUT}"
