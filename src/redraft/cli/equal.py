"""The runs of `redraft diagnose --run`: each way to spend tokens on the answers to a task, for each seed.

Every run is that of `redraft eval` with other options (`evaluate.ways`), in a file of its own below one
folder. All share a cache, so no text is asked for twice: all ways begin with the same first answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from redraft.cli.shell import tell
from redraft.errors import OutputError, UsageError

if TYPE_CHECKING:
    from redraft.chain import Chain
    from redraft.evaluation.diagnosis.runs import WayRun
    from redraft.evaluation.diagnosis.ways import Way
    from redraft.jobs.harness import JobResult
    from redraft.jobs.limits import Limits
    from redraft.revision.settings import Settings
    from redraft.verify.base import Check

CACHE = "replies.db"

SEEDS, SAMPLES = 3, 4
"""Default rounds over the records, and most answers of best of N."""


@dataclass(frozen=True)
class EqualRun:
    """Runs of all ways over the records of a task.

    Attributes:
        source: The task's file.
        task: Its name.
        folder: Where the runs go.
        limit: The most records.
        seeds: Rounds over the records.
        samples: Most answers of best of N.
        limits: Of all ways together, in this command.
    """

    source: Path
    task: str
    folder: Path
    settings: Settings
    parallel: int
    limits: Limits
    limit: int | None = None
    seeds: int = SEEDS
    samples: int = SAMPLES
    retry_failed: bool = False
    quiet: bool = False

    def run(self, *, run_code: bool) -> int:
        """Make every run that is not finished, and return the exit status: that of failed items, or 0.

        Args:
            run_code: Let humaneval and mbpp run the model's programs, in a sandbox.

        Raises:
            UsageError: There is no such task, or it runs programs and may not.
            typer.Exit: A signal or a limit ended a run; the same command goes on.
        """
        from redraft.evaluation.tasks.tasks import task_of

        task_of(self.task, run_code=run_code)
        for name in ("drafts", "min_revisions"):
            if self.settings.get(name) is not None:
                flag = f"--{name.replace('_', '-')}"
                raise UsageError(f"{flag} is what --run varies.", hint="Use --samples and --max-revisions.")
        if not self.settings.get("max_revisions"):
            raise UsageError("--max-revisions is 0, and --run compares revising.", hint="Give 1 or more.")
        if self.settings.get("mode") == "best-of":
            raise UsageError("--mode best-of is one of the ways of --run.", hint="Leave it out.")
        with self._other_folder():
            self._check_folder()
            return self._make_all()

    def _make_all(self) -> int:
        first, limits, status = self.settings.get("seed") or 0, self.limits, 0
        for seed in range(first, first + self.seeds):
            for way in self.ways:
                result = self._make(way, seed, limits)
                limits = limits.after(result.spent, result.seconds)
                status = max(status, result.exit_status)
        return status

    @contextmanager
    def _other_folder(self) -> Iterator[None]:
        """Say in errors that the folder is one output."""
        try:
            yield
        except OutputError as error:
            if "to start over" in (error.hint or ""):
                error.hint = f"Name another folder with -o, or delete {self.folder} to start over."
            raise

    @cached_property
    def records(self) -> tuple[Chain, ...]:
        """The records with the task's prompts."""
        from redraft.evaluation.tasks.tasks import KEY, asked, task_named
        from redraft.formats.read.records import read_records

        found = tuple(asked(task_named(self.task), read_records(self.source), self.limit))
        if any(KEY in record.meta for record in found):
            raise UsageError(
                f"{self.source} has chains of redraft eval, and --run answers the task's own records.",
                hint=f"Give the file that was answered, or write: redraft diagnose {self.source}",
            )
        return found

    @cached_property
    def ways(self) -> list[Way]:
        """The ways that suit the task."""
        from redraft.evaluation.diagnosis.ways import all_ways, reader_of

        if not self.records:
            raise UsageError(f"{self.source} has no record.", hint="Give the task's file.")
        voting = reader_of(self.checks(self.records[0])) is not None
        return all_ways(self.settings.get("max_revisions"), self.samples, voting=voting)

    def _file(self, way: Way, seed: int) -> Path:
        return self.folder / f"seed-{seed}" / f"{way.name}.jsonl"

    def checks(self, record: Chain) -> tuple[Check, ...]:
        """Return the checks that score the answers to a record."""
        from redraft.evaluation.tasks.tasks import checks_of, task_named

        return checks_of(task_named(self.task), record)

    @property
    def _checks(self) -> list[str]:
        return self.settings.get("check") or []

    @cached_property
    def _given(self) -> tuple[Check, ...]:
        from redraft.verify.parse import parse_checks

        return parse_checks(self._checks)

    def _make(self, way: Way, seed: int, limits: Limits) -> JobResult:
        """Make a run. Items that failed do not end it: the comparison leaves them out, or they are wrong."""
        from redraft.counting import counted
        from redraft.jobs.causes import in_words

        file = self._file(way, seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        if not self.quiet:
            tell(f"{way.name}, seed {seed}")
        result = self._run_of(way, seed, limits).run().job
        if result.counts.limit:
            raise typer.Exit(result.exit_status)
        if result.causes:
            tell(f"{file}: {counted(result.causes.total(), 'prompt')} failed: {in_words(result.causes)}.")
        return result

    def _check_folder(self) -> None:
        """Raise if a run in the folder was made in another way, of another seed too: all are compared."""
        from redraft.jobs.provenance import RunFile

        for way in self.ways:
            for file in sorted(self.folder.glob(f"seed-*/{way.name}.jsonl")):
                seed = file.parent.name.removeprefix("seed-")
                if seed.isdecimal() and file.stat().st_size:
                    RunFile(file).check(self._run_of(way, int(seed), self.limits).provenance())

    def _run_of(self, way: Way, seed: int, limits: Limits) -> WayRun:
        from redraft.evaluation.diagnosis.runs import WayRun
        from redraft.runs.plan import RunPlan

        file = self._file(way, seed)
        settings = self.settings.over(check=self._checks, **way.options, seed=seed)
        plan = RunPlan(
            file,
            self.parallel,
            limits,
            cache=self.folder / CACHE,
            retry_failed=self.retry_failed,
            quiet=self.quiet,
            tell=tell,
        )
        return WayRun(
            replace(settings, stand_ins={"checks": ("words>=1",)}),
            self.source,
            plan,
            task=self.task,
            way=way,
            given=self.records,
            guides=self._given,
            revised=self._file(replace(way, kind="revise"), seed),
        )
