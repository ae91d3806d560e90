"""Self-Instruct's way: instructions, then whether each asks for a classification, then its instances.

A classification gets its labels before the inputs. Otherwise a teacher invents inputs for one label only.
Examples in the later requests are seeds of that kind.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from redraft.generate.instructions.blocks import input_of, read_blocks, shown_input
from redraft.generate.instructions.rules import CUT, Fault, Found
from redraft.generate.instructions.task import Task
from redraft.generate.instructions.wording import CLASSIFY, INPUT_FIRST, INSTRUCTIONS, OUTPUT_FIRST, Wanted

SEEDS_SHOWN, MADE_SHOWN, NEW = 6, 2, 8
"""Instructions of people and of earlier requests in a request (Self-Instruct, section 2.2), and new ones."""

INSTANCES = 5
"""Most instances of an instruction."""

KINDS_SHOWN, INSTANCES_SHOWN = 20, 2
"""Examples in the request for a kind, and in that for instances."""

_NUMBERED = re.compile(
    r"[\s#*>_-]*(?:instruction\s*)?\d+\s*[.:)][*_]*\s*(?:instruction\s*:\s*)?(.*)", re.IGNORECASE
)
_YES_OR_NO = re.compile(r"\b(yes|no)\b", re.IGNORECASE)
_KIND = {True: "yes", False: "no"}


def request_instructions(examples: Sequence[str], wanted: Wanted) -> str:
    """Return the request for new instructions."""
    shown = [f"{number}. {' '.join(text.split())}" for number, text in enumerate(examples, start=1)]
    return INSTRUCTIONS.format(
        demands=wanted.demands(),
        shown=len(shown),
        examples="\n".join(shown),
        first=len(shown) + 1,
        last=len(shown) + NEW,
    )


def read_instructions(reply: str, *, cut: bool) -> list[Found]:
    """Return the numbered instructions of a reply. The last one of a reply that was cut is not whole."""
    texts: list[list[str]] = []
    for line in reply.splitlines():
        if found := _NUMBERED.fullmatch(line):
            texts.append([found[1]])
        elif texts:
            texts[-1].append(line)
    found_all = [Found(Task("\n".join(lines).strip().strip("*").strip())) for lines in texts]
    if cut and found_all:
        found_all[-1] = Found(found_all[-1].task, Fault(CUT, "the reply ends in it, at the limit of tokens"))
    return found_all


def request_kind(instruction: str, examples: Sequence[Task]) -> str:
    """Return the request that asks whether an instruction wants a classification."""
    shown = [
        f"Instruction: {' '.join(task.instruction.split())}\nClassification: {_KIND[task.is_classification]}"
        for task in examples
        if task.is_classification is not None
    ]
    return CLASSIFY.format(examples="\n\n".join(shown), instruction=instruction)


def read_kind(reply: str) -> bool | None:
    """Return whether a reply says yes or no first; None if it says neither."""
    found = _YES_OR_NO.search(reply)
    return found[1].lower() == "yes" if found else None


def request_instances(task: Task, examples: Sequence[Task], wanted: Wanted) -> str:
    """Return the request for inputs and outputs of an instruction whose kind is known."""
    form, shown = (OUTPUT_FIRST, _labelled) if task.is_classification else (INPUT_FIRST, _solved)
    return form.format(
        language=wanted.language,
        most=INSTANCES,
        examples="\n\n".join(map(shown, examples)),
        instruction=task.instruction,
    )


def _labelled(task: Task) -> str:
    head = f"Instruction: {task.instruction}\n\nExample 1"
    return f"{head}\nLabel: {task.output}\nInput: {shown_input(task.input)}"


def _solved(task: Task) -> str:
    return (
        f"Instruction: {task.instruction}\n\nExample 1\nInput: {shown_input(task.input)}\n"
        f"Output: {task.output}"
    )


def read_instances(reply: str, task: Task, *, cut: bool) -> list[Task]:
    """Return the whole instances of a reply, at most five, as tasks."""
    labels = ("label", "input") if task.is_classification else ("input", "output")
    answer = labels[0] if task.is_classification else labels[1]
    blocks = read_blocks(reply, labels)
    whole = blocks[:-1] if cut else blocks
    return [
        Task(task.instruction, input_of(block["input"]), block[answer], task.is_classification)
        for block in whole
        if block.keys() >= {"input", answer}
    ][:INSTANCES]
