"""Answer the records of a task into a file, and score the answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from redraft.chain import Chain
from redraft.errors import EmptyReply
from redraft.evaluation.tasks.tally import Tally
from redraft.evaluation.tasks.tasks import asked, checks_of, empty_answers, scored, task_named, unanswered
from redraft.formats.read.records import read_records
from redraft.options import EvalFlags
from redraft.runs.answers import AnswerRun
from redraft.verify.base import Check


@dataclass
class ScoredRun(AnswerRun):
    """A run whose chains get the truth about their answers.

    Attributes:
        task: Its name.
    """

    task: str = "checks"
    must_pass = False

    def records(self) -> Iterator[Chain]:
        """Yield the records with the task's prompts."""
        return asked(task_named(self.task), read_records(self.source), self.limit)

    def checks(self, record: Chain) -> tuple[Check, ...]:
        """Return the checks that score the answers to a record."""
        return checks_of(task_named(self.task), record)

    async def finish(self, chain: Chain, record: Chain) -> Chain | None:
        """Return a chain with the truth about its answers."""
        return await scored(chain, self.task, self.checks(record))

    async def finish_empty(self, error: EmptyReply, record: Chain) -> None:
        """Give the chain without an answer the truth about that, for all who count it."""
        if error.chain is not None:
            truth = await scored(unanswered(record), self.task, self.checks(record))
            error.chain = error.chain.model_copy(update={"meta": {**truth.meta, **error.chain.meta}})


@dataclass
class EvalRun(ScoredRun):
    """A run of `redraft eval`.

    Attributes:
        guides: Other checks that guide revising, if the task's own do; else None.
    """

    summary: Tally = field(default_factory=lambda: Tally(task=""))
    guides: tuple[str, ...] | None = None
    options = EvalFlags

    def __post_init__(self) -> None:
        self.verb, self.summary = f"eval {self.task}", Tally(task=self.task)

    def options_of(self, record: Chain) -> Mapping[str, Any]:
        """Return the checks that guide the chain of a record, if the task's own do."""
        return {} if self.guides is None else {"checks": (*self.guides, *self.checks(record))}

    def end(self) -> None:
        """Count empty answers, which are listed as failures, as wrong ones."""
        for chain in empty_answers(self.plan.out, self.summary.outcomes, self.task):
            self.summary.add(chain)
