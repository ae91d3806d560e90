"""Read a teacher's replies: labelled blocks such as `Instruction: … Input: … Output: …`, and numbered lists.

A label counts only where the form allows it: in its order, at the start of a line. After `Output:`, a line
`Input:` is text of the output, because only a new block can come next. Where the first block has a heading
with a number, the others need one too: an output may show an instruction. Teachers add numbers, Markdown and
rules around labels; these are not part of a text. The patterns are possessive: otherwise a line of ten
thousand spaces or dashes, which weak models write, would take hours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from redraft.generate.instructions.rules import Fault, Found
from redraft.generate.instructions.tasks import Task
from redraft.generate.instructions.wording import INSTANCES

_NO_INPUT = re.compile(
    r"[\W_]*(?:no\W?input(?: (?:is )?(?:needed|required))?|none|n/a|empty)?[\W_]*", re.IGNORECASE
)
_SEPARATOR = re.compile(r"[#*=_\s-]*+((?:task|example)\s*+\d++\s*+[.:)]?+)?+[#*=_\s-]*+", re.IGNORECASE)
_NUMBERED = re.compile(
    r"[\s#*>_-]*+(?:instruction\s*+)?\d++\s*+[.:)][*_]*+\s*+(?:instruction\s*+:\s*+)?(.*)", re.IGNORECASE
)
_YES_OR_NO = re.compile(r"\b(yes|no)\b", re.IGNORECASE)

_CUT = Fault("cut", "the reply ends in it, at the limit of tokens")

LABELS = ("instruction", "input", "output")
"""The labels of a task."""

Block = dict[str, str]
"""The texts of a block by label. Labels that did not come are missing."""


def read_blocks(text: str, labels: Sequence[str]) -> list[Block]:
    """Return the blocks of a reply. Text before the first label is left out.

    Args:
        text: The reply.
        labels: The labels of a block in lower case, in their order. The first one begins a block.
    """
    label = re.compile(
        rf"[\s#*>_-]*+((?:task|example)?\s*+\d++\s*+[.:)]*+\s*+)?+[*_]*+({'|'.join(labels)})[*_]*+\s*+:[*_]*+\s?(.*)",
        re.IGNORECASE,
    )
    blocks: list[dict[str, list[str]]] = []
    place, heading, all_headed = -1, False, False
    for line in text.splitlines():
        found = label.fullmatch(line)
        due = labels.index(found[2].lower()) if found else -1
        headed = heading or bool(found and found[1])
        if found and due == 0 and (headed or not all_headed):
            all_headed = headed if not blocks else all_headed
            blocks.append({})
            place = -1
        if found and blocks and due > place:
            place = due
            blocks[-1][labels[due]] = [found[3]]
        elif blocks:
            blocks[-1][labels[place]].append(line)
        separator = _SEPARATOR.fullmatch(line)
        heading = bool(separator and (heading or separator[1]))
    return [{name: _text(lines) for name, lines in block.items()} for block in blocks]


def _text(lines: list[str]) -> str:
    """Return the lines of a text, without the heading of the next block at its end."""
    end = len(lines)
    while end and _SEPARATOR.fullmatch(lines[end - 1]):
        end -= 1
    return "\n".join(lines[:end]).strip()


def input_of(text: str) -> str:
    """Return an input; empty if it says that there is none."""
    return "" if len(text) < 40 and _NO_INPUT.fullmatch(text) else text


def read_tasks(reply: str, *, cut: bool) -> list[Found]:
    """Return the tasks of a reply. The last one of a reply that was cut by length is not whole."""
    found = [_found(block) for block in read_blocks(reply, LABELS)]
    if cut and found:
        found[-1] = Found(found[-1].task, _CUT)
    return found


def _found(block: dict[str, str]) -> Found:
    task = Task(block["instruction"], input_of(block.get("input", "")), block.get("output", ""))
    missing = [name for name in ("input", "output") if name not in block]
    if missing:
        return Found(task, Fault("format", f"no line {missing[0].capitalize()}:"))
    return Found(task)


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
        found_all[-1] = Found(found_all[-1].task, _CUT)
    return found_all


def read_kind(reply: str) -> bool | None:
    """Return whether a reply says yes or no first; None if it says neither."""
    found = _YES_OR_NO.search(reply)
    return found[1].lower() == "yes" if found else None


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
