"""Answer the records of a task into a file, and score the answers.

`evaluate_file` is the function, and `redraft eval` the command.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Unpack

from redraft.chain import Chain
from redraft.counting import tell
from redraft.errors import EmptyReply
from redraft.evaluation.tasks.keywords import EvalFileKeywords
from redraft.evaluation.tasks.tally import Tally
from redraft.evaluation.tasks.tasks import (
    asked,
    checks_of,
    empty_answers,
    scored,
    task_named,
    task_of,
    unanswered,
)
from redraft.formats.read.records import read_records
from redraft.options import EvalFlags, option
from redraft.revision.settings import Settings
from redraft.runs.answers import AnswerRun, FileResult
from redraft.runs.options import A_PATH, ItemOptions
from redraft.runs.plan import RunPlan
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
        if self.settings.get("guided"):
            self.guides = tuple(self.settings.get("check") or ())
            self.settings = replace(self.settings, stand_ins={"checks": (*self.guides, "words>=1")})

    def options_of(self, record: Chain) -> Mapping[str, Any]:
        """Return the checks that guide the chain of a record, if the task's own do."""
        return {} if self.guides is None else {"checks": (*self.guides, *self.checks(record))}

    def end(self) -> None:
        """Count empty answers, which are listed as failures, as wrong ones."""
        for chain in empty_answers(self.plan.out, self.summary.outcomes, self.task):
            self.summary.add(chain)


class EvalFileOptions(ItemOptions, EvalFlags):
    """The options of `evaluate_file`."""

    limit: int | None = option("only the first N records", ge=1)
    cache: Annotated[Path | None, A_PATH] = option(
        "a file of replies: no request that is in it is sent", what="a path"
    )
    run_code: bool = option("let humaneval and mbpp run the model's programs, in a sandbox", default=False)


def evaluate_file(
    task: str, source: str | Path, output: str | Path, **options: Unpack[EvalFileKeywords]
) -> FileResult:
    """Answer a task's file, and score the answers. As `redraft eval`, and in the same files.

    After any stop, the same call resumes, and so does the command. Works in notebooks too.

    Args:
        task: The name of a task, as for `redraft eval`.
        source: The task's file.
        output: Where the chains go, with the truth about each answer in `meta["eval"]`.
        **options: As listed below; all can be left out. Models are references.

    Returns:
        What the run came to. Its `summary` is the `Tally`, and `summary.score.rate` the share of right
        answers with its 95 % interval.

    Raises:
        UsageError: There is no such task, it may not run programs, or an option is wrong.
        RecordError: The file cannot be read, or a record is none of the task.
        OutputError: `output` cannot be written, is in use, or was made in another way.
        EngineError, CheckError: What ended the run. What was made until then is in `output`.
        KeyboardInterrupt: Ctrl-C ended the run. What was made until then is in `output`.
    """
    return _run_of(task, source, output, options).run()


async def aevaluate_file(
    task: str, source: str | Path, output: str | Path, **options: Unpack[EvalFileKeywords]
) -> FileResult:
    """Do what `evaluate_file` does, in the loop that runs. Arguments and errors as there."""
    return await _run_of(task, source, output, options).arun()


def _run_of(task: str, source: str | Path, output: str | Path, options: Mapping[str, Any]) -> EvalRun:
    settings = Settings.read(EvalFileOptions, options, tell=tell)
    found: EvalFileOptions = settings.values
    task_of(task, run_code=found.run_code)
    return EvalRun(settings, Path(source), RunPlan.of(output, settings), limit=found.limit, task=task)
