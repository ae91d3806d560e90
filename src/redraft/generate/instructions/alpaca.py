"""Alpaca's way: one request asks for a list of whole tasks, with three tasks of the seeds as examples.

Examples come from the seeds alone, so a request depends on nothing that was generated.
"""

from __future__ import annotations

from collections.abc import Sequence

from redraft.generate.instructions.blocks import input_of, read_blocks, shown_input
from redraft.generate.instructions.rules import CUT, Fault, Found
from redraft.generate.instructions.task import Task
from redraft.generate.instructions.wording import ALPACA, Wanted

SHOWN, LAST = 3, 20
"""Seeds in a request, and the number of the last task in its list (Alpaca's `generate_instruction.py`)."""

NEW = LAST - SHOWN
"""Most tasks of a reply."""

LABELS = ("instruction", "input", "output")


def request(examples: Sequence[Task], wanted: Wanted) -> str:
    """Return the request for new tasks."""
    shown = "\n\n".join(_example(number, task) for number, task in enumerate(examples, start=1))
    return ALPACA.format(
        demands=wanted.demands(),
        shown=len(examples),
        examples=shown,
        first=len(examples) + 1,
        last=LAST,
    )


STOP = (f"\nTask {LAST + 1}", f"\n{LAST + 1}. Instruction")
"""Where a teacher that does not stop begins the task after the last one."""


def _example(number: int, task: Task) -> str:
    return (
        f"Task {number}\nInstruction: {task.instruction}\nInput: {shown_input(task.input)}\n"
        f"Output: {task.output}"
    )


def read_tasks(reply: str, *, cut: bool) -> list[Found]:
    """Return the tasks of a reply. The last one of a reply that was cut by length is not whole."""
    found = [_found(block) for block in read_blocks(reply, LABELS)]
    if cut and found:
        found[-1] = Found(found[-1].task, Fault(CUT, "the reply ends in it, at the limit of tokens"))
    return found


def _found(block: dict[str, str]) -> Found:
    task = Task(block["instruction"], input_of(block.get("input", "")), block.get("output", ""))
    missing = [name for name in ("input", "output") if name not in block]
    if missing:
        return Found(task, Fault("format", f"no line {missing[0].capitalize()}:"))
    return Found(task)
