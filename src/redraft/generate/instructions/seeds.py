"""Read the tasks to begin with: a file of any known shape, or the shipped ones.

The shipped seeds are our own writing, for tests and first runs. A real set of a hundred or more gives more
varied tasks.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from redraft.chain import Chain
from redraft.collect.view.shingles import words
from redraft.errors import RecordError, UsageError
from redraft.formats.gold import answer_of
from redraft.formats.read.records import read_records
from redraft.generate.instructions.task import GENERATED, Task

SHIPPED = Path(__file__).with_name("seeds.jsonl")

FEWEST = 2
"""With one example, a teacher writes variations of it."""


@dataclass(frozen=True)
class Seeds:
    """The tasks to begin with.

    Attributes:
        tasks: Tasks with different instructions.
        repeats: How many more repeated an instruction.
        digest: The SHA-256 of the file.
        shipped: They are redraft's own.
    """

    tasks: tuple[Task, ...]
    repeats: int
    digest: str
    shipped: bool = False


def read_seeds(path: Path | None) -> Seeds:
    """Return the tasks of a file, or the shipped ones. Those that repeat an instruction are left out.

    Raises:
        RecordError: The file cannot be read, or a record has no instruction; the message names it.
        UsageError: Fewer than two tasks are different.
    """
    source = path or SHIPPED
    found: dict[tuple[str, ...], Task] = {}
    total = 0
    for chain in read_records(source):
        total += 1
        task = task_of(chain)
        if not task.instruction:
            raise RecordError(
                f"{source}: the seed {chain.id!r} has no instruction.",
                hint='Write one a line: {"instruction": "…", "input": "", "output": "…"}',
            )
        found.setdefault(tuple(words(task.instruction)), task)
    if len(found) < FEWEST:
        count = f"{total} tasks, all the same" if total > 1 else f"{total or 'no'} task"
        raise UsageError(
            f"{source} has {count}, and generating needs at least {FEWEST} different ones.",
            hint="Add tasks of your own, or leave out --seeds for those that are shipped.",
        )
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    return Seeds(tuple(found.values()), total - len(found), digest, shipped=path is None)


def task_of(chain: Chain) -> Task:
    """Return a chain as a task. Its output is the best answer, or the gold one."""
    about = {**_meta(chain, "source"), **_meta(chain, GENERATED)}
    kind = about.get("is_classification")
    extra = "" if chain.prompt.messages else chain.prompt.input
    instruction = chain.prompt.text if chain.prompt.messages else chain.prompt.instruction
    is_classification = kind if isinstance(kind, bool) else None
    return Task(instruction.strip(), extra.strip(), answer_of(chain).strip(), is_classification)


def _meta(chain: Chain, name: str) -> dict[str, object]:
    value = chain.meta.get(name)
    return value if isinstance(value, dict) else {}
