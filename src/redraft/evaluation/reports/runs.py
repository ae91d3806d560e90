"""The report on runs: chains of `redraft answer` and `redraft eval`, and scores of `redraft eval --json`.

Of each file: the share of right answers (or of those that passed their checks), revisions, stops and cost;
and the differences between files with the same task, over the records that both have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from redraft.chain import Chain, describe
from redraft.chain.read.files import decode, name_of, open_input, reading, stem_of
from redraft.chain.read.records import Ids
from redraft.errors import RecordError, UsageError
from redraft.evaluation.records import listed, names_of, question_id, text_in_source
from redraft.evaluation.reports.inputs import KEEP, Given, Input, Material, is_result
from redraft.evaluation.reports.paired import Paired, Scores, sections, side_by_side, since
from redraft.evaluation.stats import without_nan
from redraft.evaluation.tables import Section
from redraft.evaluation.tasks.tally import Tally, truth_of
from redraft.evaluation.tasks.tasks import empty_answers
from redraft.jobs.counting import counted
from redraft.jobs.ledger import failures

MOST_SHOWN = 2_000  # records to keep for the page


@dataclass(frozen=True)
class Run:
    """A file of chains, or the scores of one."""

    name: str  # the name of the file, without folder and ending where that is unique
    tally: Tally
    empty: int = 0  # how many answers are empty

    @property
    def scores(self) -> Scores:
        """The outcomes as 1 and 0."""
        values = {(name, 1): float(right) for name, right in self.tally.outcomes.items()}
        return Scores(self.name, self.tally.task, values, self.tally.items)

    def facts(self) -> Iterator[tuple[str, str]]:
        """Yield what is no share: revisions, stops, cost, failures and the records that are wrong."""
        tally = self.tally
        yield from (row for row in tally.rows() if tally.task or row[0] != "checks")  # that repeats the score
        if tally.failed:
            yield "failed", ", ".join(f"{cause} {count:,}" for cause, count in tally.failed.items())
        if self.empty:
            yield "empty", f"{counted(self.empty, 'answer')}: wrong"
        if tally.wrong:
            yield "wrong" if tally.task else "not passed", listed(tally.wrong)


@dataclass
class Shown:
    """A record with its chains in the runs, for the page."""

    question: str
    category: str
    chains: dict[str, Chain] = field(default_factory=dict)  # by the name of the run


@dataclass(frozen=True)
class RunReport:
    """Runs, and their differences."""

    files: tuple[str, ...]
    runs: tuple[Run, ...]
    differences: tuple[Paired, ...]  # between runs of the same task
    changes: tuple[Paired, ...]  # what changed since an earlier report, if one was given
    shown: Mapping[str, Shown]  # the first records, by id

    @property
    def title(self) -> str:
        """The title of the page."""
        return f"Report on {counted(sum(run.tally.chains for run in self.runs), 'answer')}"

    def sections(self) -> Iterator[Section]:
        """Yield the sections: each run, what changed, and differences."""
        for run in self.runs:
            task = f"{run.tally.task}, " * bool(run.tally.task)
            note = task + counted(run.tally.chains, "answer")
            lines = tuple(run.tally.lines()) if run.tally.outcomes else ()
            yield Section(run.name, note, lines, tuple(run.facts()), run)
        yield from sections(self.differences, self.changes, "record", as_percent=True)

    def record(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        runs = [{"name": run.name, **run.tally.record()} for run in self.runs]
        about = {"files": self.files, "runs": runs}
        return without_nan({**about, "differences": self.differences, "changes": self.changes})


def describe_runs(given: Given) -> RunReport:
    """Describe files of chains, or of scores. Each is of one task, and given once."""
    inputs = given.inputs
    for number, each in enumerate(inputs):
        if each.path in [other.path for other in inputs[:number]]:
            raise UsageError(f"{name_of(each.path)} is given twice.", hint="Give each file once.")
    shown: dict[str, Shown] = {}
    named = zip(names_of([each.path for each in inputs]), inputs, strict=True)
    runs = tuple(_run(*each, given.material, shown) for each in named)
    scores = [run.scores for run in runs if run.tally.outcomes]
    changes = since(scores, _past(given.against), given) if given.against else ()
    return RunReport(given.names, runs, side_by_side(scores, given.draws, given.seed), changes, shown)


def _run(name: str, given: Input, material: Material, shown: dict[str, Shown]) -> Run:
    if given.kind == "scores":
        raw, *more = given.records
        if more:
            raise RecordError(f"{more[0].where}: is a second record.", hint="Give each score its own file.")
        return Run(name, _tally_of(decode(raw.data, raw.where), raw.where))
    tally, done, ids = Tally(), set[str](), Ids()
    for raw in given.records:
        chain = raw.chain()
        record = ids.new(chain.id)  # an id may be repeated
        done.add(chain.id)
        truth = truth_of(chain)
        task = truth.task if truth else ""
        if not tally.chains:
            tally.task = task
        elif task != tally.task:
            raise RecordError(
                f"{raw.where}: is a chain of {task or 'no task'}, after chains of {tally.task or 'none'}.",
                hint="Give each task its own file.",
            )
        asked = material.questions.get(question_id(chain))
        own = text_in_source(chain, "category") or text_in_source(chain, "group")
        category = (asked.category if asked else "") or own or ""
        tally.add(chain, [category] if category else [], record)
        if record in shown or len(shown) < MOST_SHOWN:
            shown.setdefault(record, Shown(chain.prompt.text, category)).chains[name] = chain
    return _with_failures(Run(name, tally), given.path, done)


def _with_failures(run: Run, file: Path, done: Container[str]) -> Run:
    """Count the failures beside a file. An empty answer to a task is a wrong one."""
    tally = run.tally
    empty = {chain.id: chain for chain in empty_answers(file, done) if tally.task}
    for chain in empty.values():
        tally.add(chain)
    others = {name: each for name, each in failures(file).items() if name not in done and name not in empty}
    tally.failed = dict(Counter(each["cause"] for each in others.values()))
    return replace(run, empty=len(empty))


def _tally_of(record: Mapping[str, Any], where: str) -> Tally:
    try:
        return Tally.of(record)
    except ValidationError as error:
        raise RecordError(f"{where}: is no score of redraft eval: {describe(error)}.") from None


def _past(path: Path) -> list[Scores]:
    """Read the runs of an earlier report, or scores of `redraft eval --json`."""
    where = name_of(path)
    with reading(path), open_input(path) as file:
        record = decode(file.read(), where)
    if isinstance(record, Mapping) and is_result(record):
        record = {"runs": [record]}
    runs = record.get("runs") if isinstance(record, Mapping) else None
    if not isinstance(runs, list) or not all(isinstance(each, Mapping) for each in runs):
        raise RecordError(f"{where}: is no report on chains or scores.", hint=KEEP)
    return [Run(str(each.get("name") or stem_of(path)), _tally_of(each, where)).scores for each in runs]
