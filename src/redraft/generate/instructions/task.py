"""A task: an instruction, an optional input, and the output. What both ways of generating make.

A kept task is written as a chain with one step, so that every verb of `redraft data` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from redraft.chain import Chain, Prompt, Step
from redraft.errors import RecordError

GENERATED = "generated"
"""The field of a chain's `meta` that says how a task was generated."""


@dataclass(frozen=True)
class Task:
    """A task with its answer.

    Attributes:
        is_classification: Whether its outputs are labels; None if that was not asked.
    """

    instruction: str
    input: str = ""
    output: str = ""
    is_classification: bool | None = None

    def record(self) -> dict[str, Any]:
        """Return the fields as JSON values, without what is unknown."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Origin:
    """Where a task was generated.

    Attributes:
        way: `alpaca` or `self-instruct`.
        request: The number of the request.
        number: The task's place in the reply, from 1.
        instance: Which of the instruction's instances it is, from 1.
    """

    way: str
    request: int
    number: int
    instance: int = 1

    @property
    def id(self) -> str:
        """The task's id, unique in its file."""
        more = f"-{self.instance}" if self.instance > 1 else ""
        return f"{self.way}/{self.request}-{self.number}{more}"


def to_chain(task: Task, origin: Origin, model: Mapping[str, str], sampling: Mapping[str, Any]) -> Chain:
    """Return the chain record of a kept task."""
    about = asdict(origin)
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
        meta={GENERATED: about},
    )


def place_of(chain: Chain) -> tuple[int, int, str]:
    """Return the request of a kept task, its place there, and its instruction.

    Raises:
        RecordError: It was not generated so.
    """
    about = chain.meta.get(GENERATED)
    request, number = (about.get("request"), about.get("number")) if isinstance(about, dict) else (None, None)
    if not isinstance(request, int) or not isinstance(number, int):
        raise RecordError(
            f"the record {chain.id!r} does not say which request it was generated in: no meta.{GENERATED}.",
            hint="Give it as seeds: --seeds FILE, and write to another file with -o.",
        )
    return request, number, chain.prompt.instruction
