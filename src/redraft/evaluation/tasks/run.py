"""Answer a task's records and score the answers, in a file or in memory.

`evaluate_file` does the same as `redraft eval`, and can resume a stopped run. `evaluate` is for regression
suites in Python. With the option `cache`, `evaluate` requests each reply only once.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Unpack

from redraft.chain import Chain
from redraft.chain.read.records import Ids, chain_of, id_of, read_records, sample_id, with_id
from redraft.checks.base import Check
from redraft.checks.parse import parse_checks
from redraft.errors import EmptyReply, RecordError, UsageError, path_of, shown
from redraft.evaluation.records import SAMPLE_OF
from redraft.evaluation.stats import Estimate
from redraft.evaluation.tasks import tasks
from redraft.evaluation.tasks.tally import FIRST, Tally
from redraft.jobs.counting import tell
from redraft.jobs.harness import Job
from redraft.options import EvalFlags
from redraft.revision.api import revise
from redraft.revision.keywords import EvalFileKeywords, RevisionKeywords
from redraft.revision.runs.answers import AnswerRun, FileResult
from redraft.revision.runs.options import EvalFileOptions
from redraft.revision.runs.plan import RunPlan
from redraft.revision.settings import Settings


@dataclass
class ScoredRun(AnswerRun):
    """A run that stores the check results of each answer in the chain."""

    task: str = "checks"
    must_pass = False

    def records(self) -> Iterator[Chain]:
        """Yield the records with the task's prompts."""
        records = read_records(self.source, self.limit, wanted=self.plan.holds if self.plan.share else None)
        return tasks.asked(tasks.task_named(self.task), records, file=self.source)

    def checks(self, record: Chain) -> tuple[Check, ...]:
        """Return the checks that score the answers to a record."""
        return tasks.checks_of(tasks.task_named(self.task), record)

    async def finish(self, chain: Chain, record: Chain) -> Chain:
        """Return the chain with the check results of all answers."""
        return await tasks.scored(chain, self.task, self.checks(record))

    async def finish_empty(self, error: EmptyReply, record: Chain) -> None:
        """Score the chain in `error`: without an answer, it is wrong."""
        if error.chain is not None:
            truth = await tasks.scored(tasks.unanswered(record), self.task, self.checks(record))
            error.chain = error.chain.model_copy(update={"meta": {**truth.meta, **error.chain.meta}})


@dataclass
class EvalRun(ScoredRun):
    """A run of `redraft eval`."""

    summary: Tally = field(default_factory=lambda: Tally(task=""))
    guides: tuple[str, ...] | None = None  # checks that guide besides the task's own; None unless `guided`
    options = EvalFlags

    def __post_init__(self) -> None:
        self.verb, self.summary = f"eval {self.task}", Tally(task=self.task)
        if self.settings.get("guided"):
            self.guides = tuple(self.settings.get("check") or ())
            self.settings = replace(self.settings, stand_ins={"checks": (*self.guides, "words>=1")})

    def records(self) -> Iterator[Chain]:
        """Yield each record once per sample. Each copy gets a different id and therefore a different seed."""
        count = self.settings.get("samples") or 1
        for record in super().records():
            yield record
            meta = {**record.meta, SAMPLE_OF: record.id}
            for number in range(2, count + 1):
                yield record.model_copy(update={"id": sample_id(record.id, number), "meta": meta})

    def _job(self) -> Job[Chain]:
        if (self.settings.get("samples") or 1) > 1:
            if self.settings.get("temperature") == 0:
                hint = "Leave out --temperature 0, or --samples."
                raise UsageError("at temperature 0, all samples would be the same answer.", hint=hint)
            if self.settings.get("seed") is None:  # without a seed, a cache would give all samples one reply
                self.settings = self.settings.over(seed=0)
        return replace(super()._job(), needs=f"A record should have {tasks.task_named(self.task).has}.")

    def options_of(self, record: Chain) -> Mapping[str, Any]:
        """Return guiding checks as options: those of `--check` and the task's own; {} unless `guided`."""
        return {} if self.guides is None else {"checks": (*self.guides, *self.checks(record))}

    def rows(self) -> list[tuple[str, str]]:
        """Return the notes that apply to the result: why nothing was revised, and that no seed was set."""
        told, rows = self.settings.get, []
        single = {*self.summary.stops} == {"max_revisions"} and told("mode") != "best-of"
        if single and self.summary.revisions == 0 != told("max_revisions"):
            rows.append(("guides", "none, so no answer was revised (add --guided or --check)"))
        if told("seed") is None and told("temperature") != 0:
            rows.append(("seed", "none: answers differ between runs (repeatable: --seed 0 --parallel 1)"))
        return rows

    def end(self) -> None:
        """Count empty answers as wrong. The run lists them as failures."""
        for chain in tasks.empty_answers(self.plan.out, self.summary.outcomes):
            self.summary.add(chain)


def evaluate_file(
    task: str, source: str | Path, output: str | Path, **options: Unpack[EvalFileKeywords]
) -> FileResult:
    """Answer a task's file, and score the answers. `redraft eval` reads and writes the same files.

    The same call or command resumes a stopped run. The function works in notebooks too.

    Args:
        task: The name of a task, as for `redraft eval`.
        source: The task's file.
        output: The file for the chains, with the check results of each answer in `meta["eval"]`.
        **options: See docs/options.md; all are optional. Models must be references, not engines.

    Returns:
        The result of the run, with a `Tally` as `summary`. `summary.score.rate` is the share of right answers
        with a 95 % interval.

    Raises:
        UsageError: The task is unknown or needs `run_code`, or an option is wrong.
        RecordError: The file cannot be read, or a record does not fit the task.
        OutputError: `output` cannot be written, is in use, or was made with other settings.
        EngineError, CheckError: The run failed. `output` contains the results so far.
        KeyboardInterrupt: Ctrl-C ended the run. `output` contains the results so far.
    """
    return _run_of(task, source, output, options).run()


async def aevaluate_file(
    task: str, source: str | Path, output: str | Path, **options: Unpack[EvalFileKeywords]
) -> FileResult:
    """Do the same as `evaluate_file`, in the running event loop."""
    return await _run_of(task, source, output, options).arun()


def _run_of(task: str, source: str | Path, output: str | Path, options: Mapping[str, Any]) -> EvalRun:
    settings = Settings.read(EvalFileOptions, options, tell=tell)
    found: EvalFileOptions = settings.values
    tasks.task_of(task, run_code=found.run_code)
    return EvalRun(settings, path_of(source), RunPlan.of(output, settings), limit=found.limit, task=task)


Record = Mapping[str, Any] | Chain  # a record in the format of its task's files


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`."""

    chains: tuple[Chain, ...]  # in the order of the records, with the check results in `meta["eval"]`
    tally: Tally  # the counts behind the rates

    @property
    def rate(self) -> Estimate:
        """The share of right answers, 0 to 1, as `value`, with a 95 % interval from `low` to `high`."""
        return self.tally.score.rate

    @property
    def first(self) -> Estimate:
        """The share of right first answers, before any revision."""
        return self.tally.beside[FIRST].rate

    @property
    def groups(self) -> dict[str, Estimate]:
        """The share of right answers in each group."""
        return {name: share.rate for name, share in self.tally.groups.items()}

    @property
    def wrong(self) -> list[Chain]:
        """The chains whose best answer is wrong."""
        ids = {*self.tally.wrong}
        return [chain for chain in self.chains if chain.id in ids]

    def to_json(self) -> str:
        """Return the JSON text that `redraft eval --json` prints."""
        return json.dumps(self.tally.record(), ensure_ascii=False, indent=1)

    def __str__(self) -> str:
        return "\n".join(self.tally.table())


def evaluate(
    task: str | Iterable[Record],
    records: str | Path | Iterable[Record] | None = None,
    *,
    parallel: int = 4,
    limit: int | None = None,
    guided: bool = False,
    run_code: bool = False,
    **options: Unpack[RevisionKeywords],
) -> Evaluation:
    """Answer records, and score the answers.

    Args:
        task: The name of a task, as for `redraft eval`; or records with `prompt` and `checks` (texts,
            functions or check objects), without the argument `records`.
        records: The task's file or records. Chains keep their ids. Other ids begin with the file's name.
        parallel: The number of chains to make at once.
        limit: The largest number of records to answer.
        guided: Whether the task's checks also guide revising.
        run_code: Whether humaneval and mbpp may run the model's programs, in a sandbox.
        **options: The same as for `redraft.revise`. `checks` guide revising but do not score.

    Raises:
        UsageError: The task or the options are wrong.
        RecordError: A record does not fit the task, or there are no records.
        EngineError, CheckError: As for `redraft.revise`. An empty answer is wrong but raises no error.
    """
    if parallel < 1:
        raise UsageError(f"parallel is {parallel}, but must be at least 1.", hint="Set it to 1 or more.")
    name, given = (task, records) if isinstance(task, str) else ("checks", task)
    if given is None:
        call = f'"checks", {name!r}' if Path(name).suffix else f'{name!r}, "records.jsonl"'
        raise UsageError("no records were given.", hint=f"Write evaluate({call}, …).")
    tasks.task_of(name, run_code=run_code)
    if not (items := list(islice(_items(name, given), limit))):
        raise RecordError("there is no record to evaluate.", hint="Give at least one record.")

    def make(item: tuple[Chain, tuple[Check, ...]]) -> Chain:
        record, checks = item
        own: Any = {**options, "id": record.id}
        if guided:
            own["checks"] = (*options.get("checks", ()), *checks)
        try:
            chain = revise(record.prompt, **own)
        except EmptyReply:
            return asyncio.run(tasks.scored(tasks.unanswered(record), name, checks))
        chain = chain.model_copy(update={"meta": {**record.meta, **chain.meta}})
        return asyncio.run(tasks.scored(chain, name, checks))

    pool, tally = ThreadPoolExecutor(parallel), Tally(task=name)
    try:
        chains = tuple(pool.map(make, items))
    finally:
        pool.shutdown(cancel_futures=True)
    for chain in chains:
        tally.add(chain)
    return Evaluation(chains, tally)


def _items(name: str, records: str | Path | Iterable[Record]) -> Iterator[tuple[Chain, tuple[Check, ...]]]:
    task, ids = tasks.task_named(name), Ids()
    if isinstance(records, str | Path) or not isinstance(records, Iterable):
        records = read_records(path_of(records))
    for number, record in enumerate(records, start=1):
        where, own, given = f"record {number}", None, record
        if isinstance(record, Mapping):
            fields = dict(record)
            if name == "checks" and isinstance(fields.get("checks"), list | tuple) and fields["checks"]:
                own = parse_checks(fields.pop("checks"))  # from the caller's code, so of any kind
            record = chain_of(fields, where)
        elif not isinstance(record, Chain):
            raise RecordError(f"{where} is {shown(record)}, not a record.", hint="Give chains or mappings.")
        chain = record if record.id else with_id(record, ids.new(id_of(given, "", where)))
        if own is None:
            chain = next(tasks.asked(task, [chain]))
            own = tasks.checks_of(task, chain)
        yield chain, own
