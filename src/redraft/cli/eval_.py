"""`redraft eval`: answer a task whose truth can be checked, and score the answers.

`cli.answer` does the work. This module adds the task: its prompts and its checks (`evaluate.tasks`), and the
table of scores (`evaluate.tally`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.answer import Form, Making, Out, answer_file
from redraft.cli.options import CacheFile, FlagGroup, fill_in, takes
from redraft.cli.running import First, Journal, RetryFailed, RunFlags
from redraft.options import EvalFlags

if TYPE_CHECKING:
    from redraft.chain import Chain
    from redraft.evaluation.tasks.tally import Tally
    from redraft.jobs.harness import JobResult
    from redraft.verify.base import Check

FLAGS = FlagGroup(EvalFlags)


def evaluate(
    flags: EvalFlags,
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK", help="gsm8k, aqua, math, humaneval, mbpp, ifeval, json-repair or checks."
        ),
    ],
    source: Annotated[Path, typer.Argument(metavar="RECORDS", help="The task's file, as it is published.")],
    out: Out,
    run: RunFlags,
    limit: First = None,
    run_code: Annotated[
        bool,
        typer.Option("--run-code", help="Let humaneval and mbpp run the model's programs, in a sandbox."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the scores as JSON, and nothing else.")
    ] = False,
    journal: Journal = None,
    cache: CacheFile = None,
    retry_failed: RetryFailed = False,
) -> None:
    """Score a model on a task whose truth can be checked.

    The model answers each record and revises its answers as in `redraft answer`; --max-revisions 0 scores
    plain answers. Prints the share of right answers with its 95 % interval, in all and by group.

    --check guides revising, and does not score. The task's own checks score, and do not guide unless --guided
    is given: then the score is no measure of what revising is worth without the truth.

    FILE gets the chain of each record, with the truth about each answer in `eval` of its `meta`. After any
    stop, the same command resumes. A low score is no failure: the exit status is 0. An empty answer is
    wrong, and tried again by the same command; other failures are listed, and do not count.

    Records of the task `checks` have a prompt and their own checks: {"prompt": "Describe rain.", "checks":
    ["words<=50"]}.
    """
    from redraft.evaluation.tasks.tally import Tally
    from redraft.evaluation.tasks.tasks import task_of

    task_of(task, run_code=run_code)
    settings = fill_in(flags, FLAGS)
    scoring = Scoring(source, task, limit, as_json, Tally(task=task))
    guided, given = bool(settings.get("guided")), tuple(settings.get("check") or ())
    if guided:
        settings = replace(settings, stand_ins={"checks": (*given, "words>=1")})
    answer_file(
        source,
        out,
        settings,
        form=Form("chain", None),
        run=replace(run, quiet=run.quiet or as_json),
        journal=journal,
        cache=cache,
        retry_failed=retry_failed,
        making=scoring.making(given if guided else None),
    )


@dataclass(frozen=True)
class Scoring:
    """How the answers of a run are scored, and what is said about it.

    Attributes:
        task: Its name.
        limit: The most records.
    """

    source: Path
    task: str
    limit: int | None
    as_json: bool
    tally: Tally

    def making(self, guides: tuple[str, ...] | None) -> Making:
        """Return what `answer_file` needs.

        Args:
            guides: Other checks that guide revising, if the task's own do; else None.
        """
        return Making(
            f"eval {self.task}",
            FLAGS,
            self.records,
            lambda record: {} if guides is None else {"checks": (*guides, *self.checks(record))},
            scored=self.scored,
            summary=self.tally,
            must_pass=False,
            said=self.said,
        )

    def records(self, file: Path) -> Iterator[Chain]:
        """Yield the records with the task's prompts."""
        from redraft.evaluation.tasks.tasks import asked, task_named
        from redraft.formats.read.records import read_records

        return asked(task_named(self.task), read_records(file), self.limit)

    def checks(self, record: Chain) -> tuple[Check, ...]:
        """Return the checks that score the answers to a record."""
        from redraft.evaluation.tasks.tasks import checks_of, task_named

        return checks_of(task_named(self.task), record)

    async def scored(self, chain: Chain, record: Chain) -> Chain:
        """Return a chain with the truth about its answers."""
        from redraft.evaluation.tasks.tasks import scored

        return await scored(chain, self.task, self.checks(record))

    def said(self, result: JobResult, usual: Callable[[], str]) -> str:
        """Return the scores, and the usual summary below the table. Both count the empty answers."""
        self._add_empty(result.out)
        if self.as_json:
            self.tally.failed = dict(result.causes)
            return json.dumps(self.tally.record(), ensure_ascii=False, indent=1)
        text = usual()
        return "\n".join([*self.tally.table(), "", text]) if text and self.tally.chains else text

    def _add_empty(self, out: Path) -> None:
        """Count the empty answers, which the ledger lists as failures, as wrong ones."""
        from redraft.evaluation.tasks.tasks import empty_answers

        for chain in empty_answers(out, self.tally.outcomes, self.task):
            self.tally.add(chain)


evaluate = takes(evaluate, FLAGS)
