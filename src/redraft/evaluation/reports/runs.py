"""Report on runs, which are files of chains from `redraft answer` and `redraft eval`.

For each file, show revisions, stops, cost, and the share of right answers (without a task, of answers that
passed all checks). For files of the same task, show the differences over shared records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from shlex import quote
from typing import Any

from redraft.chain import Chain
from redraft.chain.read.files import name_of
from redraft.chain.read.records import Ids
from redraft.errors import RecordError, UsageError
from redraft.evaluation.records import listed, names_of, question_id, text_in_source
from redraft.evaluation.reports.inputs import Input, Material
from redraft.evaluation.reports.paired import Paired, Scores, sections, side_by_side
from redraft.evaluation.stats import without_nan
from redraft.evaluation.tables import Part, tokens_text
from redraft.evaluation.tasks.tally import Tally, Truth, truth_of
from redraft.evaluation.tasks.tasks import empty_answers
from redraft.jobs.counting import counted
from redraft.jobs.ledger import failures
from redraft.jobs.provenance import RunFile

MOST_SHOWN = 2_000  # most records that the page shows


@dataclass(frozen=True)
class Run:
    """The results of one run, which is a file of chains."""

    name: str  # the stem of the file, or its whole name if the stem is not unique
    tally: Tally
    empty: int = 0  # number of empty answers
    made: str = ""  # the models, modes and seed, if known
    guided: bool = False  # whether the checks that score also guided revising

    @property
    def scores(self) -> Scores:
        """The outcomes as scores, 1 and 0."""
        values = {(name, 1): float(right) for name, right in self.tally.outcomes.items()}
        return Scores(self.name, self.tally.task, values, self.tally.items)

    def facts(self) -> Iterator[tuple[str, str]]:
        """Yield facts as name and text: revisions, stops, cost, failures and wrong records."""
        tally = self.tally
        if self.made:
            yield "model", self.made
        without = [] if tally.task else ["checks"]  # they repeat the score
        without += ["revisions", "stopped"] if [*tally.stops] == ["unknown"] else []  # as in other logs
        yield from (row for row in tally.rows() if row[0] not in without)
        if tally.failed:
            yield "failed", ", ".join(f"{cause} {count:,}" for cause, count in tally.failed.items())
        if self.empty:
            yield "empty", f"{counted(self.empty, 'answer')}, counted as wrong"
        if tally.wrong:
            yield "wrong" if tally.task else "not passed", listed(tally.wrong)


@dataclass
class Shown:
    """A record for the page, with the record's chains in all runs."""

    question: str
    category: str
    chains: dict[str, Chain] = field(default_factory=dict)  # by the name of the run


@dataclass(frozen=True)
class RunReport:
    """Runs, and differences between runs."""

    files: tuple[str, ...]
    runs: tuple[Run, ...]
    differences: tuple[Paired, ...]  # between runs of the same task
    shown: Mapping[str, Shown]  # the first records, by id

    @property
    def title(self) -> str:
        """The title of the page."""
        return f"Report on {counted(sum(run.tally.chains for run in self.runs), 'answer')}"

    def sections(self) -> Iterator[Part]:
        """Yield the sections of the report: each run, then the differences."""
        for run in self.runs:
            note = f"{run.tally.task}, " * bool(run.tally.task) + counted(run.tally.chains, "answer")
            lines = tuple(run.tally.lines()) if run.tally.outcomes else ()
            yield Part(run.name, note, lines=lines, facts=[*run.facts()])
        runs = {run.name: run for run in self.runs}
        differences = sections(self.differences, "record", as_percent=True)
        for each, part in zip(self.differences, differences, strict=True):
            both = runs[each.name], runs[each.other]
            notes = [f"In {run.name}, the scoring checks also guided revising." for run in both if run.guided]
            tokens = [run.tally.usage.completion_tokens / run.tally.chains for run in both]
            one, other = map(tokens_text, tokens)
            if one != other and all(tokens):
                notes.append(f"Not at equal tokens: an answer takes {one} new tokens, against {other}.")
            yield replace(part, notes=notes)

    def record(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        runs = [{"name": run.name, **run.tally.record()} for run in self.runs]
        return without_nan({"files": self.files, "runs": runs, "differences": self.differences})


def describe_runs(inputs: Sequence[Input], material: Material) -> RunReport:
    """Return a report on files of chains. A repeated file raises `UsageError`, a mixed file `RecordError`."""
    for number, each in enumerate(inputs):
        if each.path in [other.path for other in inputs[:number]]:
            raise UsageError(f"{name_of(each.path)} is given twice.", hint="Give each file once.")
    shown: dict[str, Shown] = {}
    named = zip(names_of([each.path for each in inputs]), inputs, strict=True)
    runs = tuple(_run(*each, material, shown) for each in named)
    scores = [run.scores for run in runs if run.tally.outcomes]
    return RunReport(tuple(name_of(each.path) for each in inputs), runs, side_by_side(scores), shown)


def _run(name: str, given: Input, material: Material, shown: dict[str, Shown]) -> Run:
    tally, done, ids, first, made = Tally(), set[str](), Ids(), ("", ""), dict[tuple[str, str], None]()
    guided = False
    for raw in given.records:
        chain = raw.chain()
        record = ids.new(chain.id)  # an id may be repeated
        done.add(chain.id)
        made |= {(of, str(word)): None for of in ("name", "revision_mode") if (word := chain.model.get(of))}
        truth = truth_of(chain) or Truth()
        about = truth.task, truth.model
        if not tally.chains:
            first, tally.task = about, truth.task
        elif about != first:
            raise _mixed(about, first, raw.where, given)
        scoring = {each.name for results in truth.steps for each in results}
        told = {each.name for step in chain.steps for each in step.checks}
        guided |= bool(chain.revisions or chain.drafts) and bool(scoring) and scoring <= told
        asked = material.questions.get(question_id(chain))
        own = text_in_source(chain, "category") or text_in_source(chain, "group")
        category = (asked.category if asked else "") or own or ""
        tally.add(chain, [category] if category else [], record)
        if record in shown or len(shown) < MOST_SHOWN:
            shown.setdefault(record, Shown(chain.prompt.text, category)).chains[name] = chain
    empty = {chain.id: chain for chain in empty_answers(given.path, done) if tally.task}  # they are wrong
    for chain in empty.values():
        tally.add(chain)
    others = (each for id_, each in failures(given.path).items() if id_ not in done and id_ not in empty)
    tally.failed = dict(Counter(each["cause"] for each in others))
    config = (RunFile(given.path).read() or {}).get("config") or {}
    parts = [listed([word for of, word in made if of == each], 5) for each in ("name", "revision_mode")]
    if "seed" in config:
        parts.append("no seed" if config["seed"] is None else f"seed {config['seed']}")
    return Run(name, tally, len(empty), " · ".join(filter(None, parts)), guided)


def _mixed(about: tuple[str, str], first: tuple[str, str], where: str, given: Input) -> RecordError:
    (task, model), (before, other) = about, first
    field, one = ("evaluation_name", before) if model else ("", "")
    if model and task == before:
        (task, before), field, one = (model, other), "model_id", other
    elif before.startswith("lm-eval, ") and (named := before.split(", ")[2:]):
        field, one = "filter", named[0]
    take = f"Choose one: jq -c --arg f {quote(one)} 'select(.{field} == $f)' {quote(name_of(given.path))}"
    message = f"{where}: this chain is from {task or 'no task'}, but the first is from {before or 'no task'}."
    return RecordError(message, hint=take if field else "Give each task its own file.")
