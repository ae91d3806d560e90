"""Read seeds, and write tasks. A task is an instruction, an optional input, and an output.

Seeds are read from a file of any known shape. We wrote the shipped seeds, for tests and first runs. A kept
task becomes a chain with one step, which every command of `redraft data` can read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from redraft.chain import Chain, Prompt, Step, meta_of
from redraft.chain.read.inputs import licensed_records
from redraft.chain.texts import answer_of
from redraft.data.words import words
from redraft.errors import RecordError, UsageError
from redraft.jobs.licences import UNKNOWN, licence_in

SHIPPED = Path(__file__).with_name("seeds.jsonl")

FEWEST = 2  # fewest seeds: with one example, a teacher writes variations of it
GENERATED = "generated"  # the field of a chain's `meta` that says how a task was generated


@dataclass(frozen=True)
class Task:
    """An instruction with an input and an output."""

    instruction: str
    input: str = ""
    output: str = ""
    is_classification: bool | None = None  # whether the output is a label; None if unknown

    def record(self) -> dict[str, Any]:
        """Return the fields as JSON values. Fields that are None are left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Origin:
    """The request and reply in which a task was generated."""

    way: str  # `alpaca` or `self-instruct`
    request: int  # the number of the request
    number: int  # the task's position in the reply, from 1
    instance: int = 1  # the number of the instance for its instruction, from 1

    @property
    def id(self) -> str:
        """The id of the task, unique in the output file."""
        more = f"-{self.instance}" if self.instance > 1 else ""
        return f"{self.way}/{self.request}-{self.number}{more}"


def to_chain(
    task: Task,
    origin: Origin,
    model: Mapping[str, str],
    sampling: Mapping[str, Any],
    seeds: Mapping[str, Any] | None = None,
    *,
    is_last: bool = False,
) -> Chain:
    """Return a kept task as a chain. `seeds` becomes `meta.origin`. `is_last` marks a request's last task."""
    about = asdict(origin) | {"is_last": is_last}
    if task.is_classification is not None:
        about["is_classification"] = task.is_classification
    return Chain(
        id=origin.id,
        prompt=Prompt(instruction=task.instruction, input=task.input),
        steps=(Step(answer=task.output),),
        best=0,
        stop="ended",
        model=dict(model),
        sampling=dict(sampling),
        meta={**({"origin": dict(seeds)} if seeds else {}), GENERATED: about},
    )


def generated_in(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's `meta.generated`. Raise `RecordError` if it is missing or damaged."""
    meta = record.get("meta")
    about = meta.get(GENERATED) if isinstance(meta, dict) else None
    wanted = {"request": int, "number": int, "is_last": bool}
    if isinstance(about, dict) and all(isinstance(about.get(name), kind) for name, kind in wanted.items()):
        return about
    message = f"the record {record.get('id')!r} does not say in meta.{GENERATED} which request made it."
    raise RecordError(message, hint="To use the file as seeds: --seeds FILE, and another output with -o.")


@dataclass(frozen=True)
class Seeds:
    """The tasks from which a run starts."""

    tasks: tuple[Task, ...]  # tasks with different instructions
    repeats: int  # number of tasks left out because they repeat an instruction
    digest: str  # the SHA-256 of the file
    origin: dict[str, Any] | None = None  # `meta.origin` of the generated tasks, if a seed has a licence


def read_seeds(path: Path | None) -> Seeds:
    """Return the tasks of a file, or the shipped tasks, without repeated instructions.

    Raises:
        RecordError: The file cannot be read, or a seed has no instruction.
        UsageError: There are fewer than two different tasks.
    """
    source = path or SHIPPED
    found: dict[tuple[str, ...], Task] = {}
    total, licences = 0, set[str]()
    for chain in licensed_records(source):
        total += 1
        licences.add(licence_in(chain.meta.get("origin")))
        task = task_of(chain)
        if not task.instruction:
            hint = 'Write one per line: {"instruction": "…", "input": "", "output": "…"}'
            raise RecordError(f"{source}: the seed {chain.id!r} has no instruction.", hint=hint)
        found.setdefault(tuple(words(task.instruction)), task)
    if len(found) < FEWEST:
        count = f"{total} tasks, all the same" if total > 1 else f"{total or 'no'} task"
        message = f"{source} has {count}, but generating needs at least {FEWEST} different ones."
        raise UsageError(message, hint="Add tasks of your own, or leave out --seeds to use the shipped ones.")
    digest, known = hashlib.sha256(source.read_bytes()).hexdigest(), licences - {UNKNOWN}
    origin = {"dataset": f"made from {source.name}", "licence": sorted(licences)} if known else None
    return Seeds(tuple(found.values()), total - len(found), digest, origin)


def task_of(chain: Chain) -> Task:
    """Convert a chain to a task. The output is the best answer or, if that is blank, the gold answer."""
    kind = {**meta_of(chain, "source"), **meta_of(chain, GENERATED)}.get("is_classification")
    extra = "" if chain.prompt.messages else chain.prompt.input
    instruction = chain.prompt.text if chain.prompt.messages else chain.prompt.instruction
    is_classification = kind if isinstance(kind, bool) else None
    return Task(instruction.strip(), extra.strip(), answer_of(chain).strip(), is_classification)
