"""The table and the page of `redraft arbiter`, from the chains in its folder alone, and their verification.

A way is compared with the others at equal tokens, as `redraft diagnose` does: within a task, and over all
tasks together, where each prompt counts the same. p-values are corrected by Holm's procedure in two families:
all comparisons within tasks, and all over tasks. Revising alone is compared with `UNGUIDED` ways only.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redraft import __version__
from redraft.chain import Chain, read_jsonl
from redraft.chain.read.records import read_records
from redraft.errors import OutputError, RecordError, UsageError
from redraft.evaluation import stats
from redraft.evaluation.diagnosis.equal_tokens import (
    Curves,
    Point,
    Versus,
    corrected,
    curves_in,
    named,
    verdict,
    versus_line,
)
from redraft.evaluation.diagnosis.matrix import PLAN, RUNS, read_plan
from redraft.evaluation.diagnosis.strategies import Strategy
from redraft.evaluation.diagnosis.truth import chains_of
from redraft.evaluation.pages.page import Part, render
from redraft.evaluation.stats import Estimate, without_nan
from redraft.evaluation.tables import Line, p_value, percent, tokens_text
from redraft.evaluation.tasks.tasks import KEY, asked, checks_of, scored, task_of
from redraft.jobs.counting import counted
from redraft.jobs.files import sha256_of, write_file

TABLE, PAGE = "table.json", "index.html"
_MOST = 20  # differing figures to list
_HOW = """\
Each way may spend as many new tokens as revising did: best of N and a vote draw as many answers as fit. \
≠ marks a way without a run of that many tokens; its nearest run is shown.
One answer, a vote and revising alone see no checks. The other ways see the checks that score. Revising \
alone is compared only with ways that see none.
Intervals are at 95 %, paired by prompt. Holm's procedure corrects p: once for all comparisons over all \
tasks, and once for all within tasks.""".splitlines()
_FINDINGS = {"for": "better", "against": "worse", "open": "open", "none": "not comparable"}
ALL = "all tasks"
REVISING = ("revise", "alone", "auto", "repair")
UNGUIDED = ("plain", "vote")
"""Ways that see no checks: revising alone is compared with these."""


@dataclass(frozen=True)
class Run:
    """The result of a way on a task, over all seeds. Tokens are means over prompts."""

    model: str
    task: str
    way: str  # its kind
    texts: int
    right: Estimate
    tokens: float  # new tokens
    prompts: float  # prompt tokens


@dataclass(frozen=True)
class Level:
    """What a way reaches with the tokens that revising took."""

    model: str
    task: str
    way: str
    right: Estimate
    equal: bool  # whether it has runs of that many tokens; if not, `right` is that of its nearest run


@dataclass(frozen=True)
class Comparison(Versus):
    """How far a way of a model is ahead of another one, paired by prompt."""

    IN_JSON = f"{Versus.IN_JSON} model task"

    model: str
    task: str


@dataclass(frozen=True)
class Table:
    """All figures, in the order in which the page shows them."""

    models: Sequence[str]
    tasks: Sequence[str]
    items: Mapping[str, int]  # by task, how many prompts every run has
    seeds: int
    levels: Sequence[Level]
    comparisons: Sequence[Comparison]
    runs: Sequence[Run]
    remarks: Sequence[str]  # what is missing


def table_of(folder: Path) -> Table:
    """Return the figures of a folder.

    Raises:
        UsageError: It has no finished runs.
    """
    plan = read_plan(folder)
    cells = dict(_cells(folder, plan))
    if not cells:
        raise UsageError(
            f"{folder} has no finished runs.",
            hint=f"Make them: redraft arbiter {folder} --models default --tasks add",
        )
    models = list(dict.fromkeys(model for model, _ in cells))
    tasks = [name for name in plan["tasks"] if any(task == name for _, task in cells)]
    several = {
        (model, ALL): pooled([cells[model, task] for task in tasks if (model, task) in cells])
        for model in models
        if len(tasks) > 1
    }
    within = [row for key, curves in cells.items() for row in _comparisons(*key, curves)]
    over = [row for key, curves in several.items() for row in _comparisons(*key, curves)]
    return Table(
        models,
        tasks,
        {task: curves.items for (_, task), curves in cells.items()},
        min(curves.seeds for curves in cells.values()),
        [row for key, curves in {**several, **cells}.items() for row in _levels(*key, curves)],
        [*corrected(over), *corrected(within)],
        [
            Run(*key, each.way.kind, each.way.texts, each.score, each.tokens, each.mean.prompts)
            for key, curves in cells.items()
            for each in curves.points
        ],
        [*_remarks(plan, cells), *_natives(folder, plan)],
    )


def _cells(folder: Path, plan: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], Curves]]:
    """Yield the curves of each model and task that has finished runs."""
    for name, model in plan["models"].items():
        for task in plan["tasks"]:
            runs = folder / RUNS / name / task
            if any(runs.glob("seed-*/revise-*.jsonl")):
                yield (model, task), curves_in(runs)


def pooled(each: Sequence[Curves]) -> Curves:
    """Return the curves of several tasks as one. A task that has no run of a size counts with `_run_of` it.

    A kind of way that a task lacks is left out.
    """
    kinds = set.intersection(*({point.way.kind for point in one.points} for one in each))
    ways = {point.way for one in each for point in one.points if point.way.kind in kinds}
    points = tuple(
        Point(way, tuple(spent for one in each for spent in _run_of(one, way).spent))
        for way in sorted(ways, key=lambda way: way.place)
    )
    return Curves(points, min(one.seeds for one in each))


def _run_of(curves: Curves, way: Strategy) -> Point:
    """Return the run with as many texts as `way`; else the largest smaller one; else the smallest."""
    own = [point for point in curves.points if point.way.kind == way.kind]
    return max((p for p in own if p.way.texts <= way.texts), key=lambda p: p.way.texts, default=own[0])


def _comparisons(model: str, task: str, curves: Curves) -> Iterator[Comparison]:
    for ours in (kind for kind in REVISING if kind in curves.kinds):
        for other in curves.kinds:
            apart = other not in UNGUIDED if ours == "alone" else other in REVISING
            if other != ours and not apart:
                yield Comparison(**vars(curves.against(ours, other)), model=model, task=task)


def _levels(model: str, task: str, curves: Curves) -> Iterator[Level]:
    """Yield what each way reaches with the tokens that revising took."""
    tokens = curves.last("revise").tokens
    for kind in curves.kinds:
        curve = curves.curve(kind)
        equal = bool(curve) and curve[0].tokens <= tokens <= curve[-1].tokens
        scores = curves.scores(kind, tokens) if equal else curves.nearest(kind, tokens).scores
        yield Level(model, task, kind, stats.proportions(scores, [1] * len(scores)), equal)


def _natives(folder: Path, plan: Mapping[str, Any]) -> Iterator[str]:
    """Yield which ways a model writes with its own adapters for revising, if not all."""
    for name, model in plan["models"].items():
        modes: dict[str, set[str]] = {}
        for file in sorted((folder / RUNS / name).glob("*/seed-*/*.jsonl")):
            if "." not in file.stem and (chain := next(read_jsonl(file), None)):
                mode = str(chain.model.get("revision_mode"))
                modes.setdefault(named(Strategy.of(file.stem).kind), set()).add(mode)
        native = [way for way, found in modes.items() if found == {"native"}]
        if native and len(native) < len(modes):
            ways = f"{' and '.join(native)} {'are' if len(native) > 1 else 'is'}"
            yield f"{model}: {ways} written with its adapters, the other ways with its base."


def _remarks(plan: Mapping[str, Any], cells: Mapping[tuple[str, str], Curves]) -> Iterator[str]:
    for model in plan["models"].values():
        for task in plan["tasks"]:
            curves = cells.get((model, task))
            if curves is None:
                yield f"{model}, {task}: no finished runs."
                continue
            if curves.left_out:
                yield f"{model}, {task}: {curves.left_out} prompts are left out, because a run lacks them."
            if curves.unfinished:
                seeds = ", ".join(curves.unfinished)
                yield f"{model}, {task}: {seeds} not counted, because runs are missing."


def put_report(folder: Path) -> str:
    """Write the table and the page of a folder. Return the sentences that the page begins with."""
    table = table_of(folder)
    record = {"version": 1, "redraft": __version__, "files": _hashes(folder), **without_nan(table)}
    write_file(folder / TABLE, f"{json.dumps(record, ensure_ascii=False, indent=1)}\n".encode())
    below = (
        f"{counted(len(table.models), 'model')}, {counted(len(table.tasks), 'task')}, "
        f"{counted(len({run.way for run in table.runs}), 'way')}, {counted(table.seeds, 'seed')}"
    )
    made = f"redraft {__version__} · redraft arbiter verify {folder.name} recomputes all figures"
    title = "Who should revise, when, and how?"
    write_file(folder / PAGE, render(title, below, [*parts_of(table)], made).encode())
    return "\n".join([*sentences(table), *table.remarks, f"page        {folder / PAGE}"])


def parts_of(table: Table) -> Iterator[Part]:
    """Yield the sections of the page."""
    whole = [each for each in table.comparisons if each.task == ALL]
    within = [each for each in table.comparisons if each.task != ALL]
    yield Part(verdict=" ".join(sentences(table)), notes=_HOW)
    prompts = ", ".join(f"{task} {count}" for task, count in table.items.items())
    yield Part(
        "Right answers, with the tokens that revising took",
        note=f"prompts of each task: {prompts}; {counted(table.seeds, 'seed')}",
        table=[*_level_rows(table)],
    )
    for title, rows in (("Over all tasks", whole), ("Within each task", within)):
        if rows:
            note = "points by which the way is ahead of the other"
            yield Part(title, note=note, lines=[_compared(each) for each in rows])
    head = ["model", "task", "way", "texts", "right", "new tokens", "prompt tokens"]
    runs = []
    for run in table.runs:
        right = "{} ({})".format(*percent(run.right, 1))
        costs = (tokens_text(run.tokens), f"{run.prompts:,.0f}")
        runs.append([run.model, run.task, named(run.way), f"{run.texts}", right, *costs])
    yield Part("What each way took per prompt", table=[head, *runs])
    if table.remarks:
        yield Part("To keep in mind", notes=table.remarks)


def sentences(table: Table) -> Iterator[str]:
    """Yield what the comparisons show, for each model and each way to revise."""
    over = {each.model: each.task for each in reversed(table.comparisons)}  # its first task: ALL if several
    for model, task in reversed(over.items()):
        for ours in REVISING:
            rows = [each for each in table.comparisons if (each.model, each.ours) == (model, ours)]
            if rows:
                yield f"{model}, {named(ours)}: {verdict([each for each in rows if each.task == task])}"
            within = [each for each in rows if each.task not in (task, ALL)]
            for finding, word in (("for", "better"), ("against", "worse")):
                found = [
                    f"{each.task} (than {named(each.kind)})" for each in within if each.finding == finding
                ]
                if found:
                    yield f"Within tasks, it does {word} in {'; '.join(found)}."


def _level_rows(table: Table) -> Iterator[list[str]]:
    kinds = list(dict.fromkeys(each.way for each in table.levels))
    yield ["model", "task", *map(named, kinds)]
    for model, task in dict.fromkeys((each.model, each.task) for each in table.levels):
        found = {each.way: each for each in table.levels if (each.model, each.task) == (model, task)}
        cells = []
        for kind in kinds:
            level = found.get(kind)
            shown = "{} ({})".format(*percent(level.right, 1)) if level else "–"
            cells.append(shown + " ≠" * (level is not None and not level.equal))
        yield [model, task, *cells]


def _compared(each: Comparison) -> Line:
    line = versus_line(each)
    name = f"{each.model}, {each.task}: {named(each.ours)} less {line.name}"
    return line._replace(
        name=name, note=f"{_FINDINGS[each.finding]}, corrected p {p_value(each.p)}; {line.note}"
    )


def _hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that figures come from."""
    files = [folder / PLAN, *(folder / "tasks").iterdir(), *(folder / RUNS).glob("*/*/seed-*/*.jsonl")]
    return {file.relative_to(folder).as_posix(): sha256_of(file) for file in sorted(files)}


def verified(folder: Path, *, run_code: bool = False) -> tuple[list[str], str]:
    """Return the faults of a folder, and a sentence on the whole.

    Raises:
        OutputError: There is no table, or it is damaged.
        UsageError: A task runs a model's programs, and `run_code` was not given.
    """
    stored = _stored(folder)
    hashes, before = _hashes(folder), stored["files"]
    faults = [f"{name}: was added after the table was made." for name in hashes if name not in before]
    faults += [f"{name}: is gone." for name in before if name not in hashes]
    changed = [name for name in hashes if before.get(name, hashes[name]) != hashes[name]]
    faults += [f"{name}: was changed after the table was made." for name in changed]
    answers, wrong = _wrong_truths(folder, run_code=run_code)
    faults += _some(wrong)
    try:
        now = json.loads(json.dumps(without_nan(table_of(folder))))
    except (RecordError, OutputError) as error:
        return [*faults, error.message], "The figures cannot be recomputed."
    told, made = (dict(_leaves(values, "")) for values in ({name: stored.get(name) for name in now}, now))
    faults += _some(
        [
            f"{TABLE}: {place} is {told.get(place)!r:.60}, and the records give {made.get(place)!r:.60}."
            for place in (told | made)
            if told.get(place) != made.get(place)
        ]
    )
    if faults:
        return faults, "Not verified."
    figures = sum(isinstance(value, int | float) for value in made.values())
    files = counted(len(hashes), "file")
    return [], f"Verified: {figures:,} figures from {files}, and the truth of {counted(answers, 'answer')}."


def _some(faults: list[str]) -> list[str]:
    return [*faults[:_MOST], *[f"{len(faults) - _MOST:,} more differ."] * (len(faults) > _MOST)]


def _stored(folder: Path) -> dict[str, Any]:
    file = folder / TABLE
    hint = f"Make it: redraft arbiter {folder}"
    try:
        found = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise OutputError(f"{folder} has no {TABLE}.", hint=hint) from None
    except ValueError:
        raise OutputError(f"{file} cannot be read.", hint=hint) from None
    if not isinstance(found, dict) or not isinstance(found.get("files"), dict):
        raise OutputError(f"{file} is no table of the arbiter.", hint=hint)
    return found


def _wrong_truths(folder: Path, *, run_code: bool) -> tuple[int, list[str]]:
    """Check the answers of all chains again. Return their number, and where the records disagree."""
    plan, count, faults = read_plan(folder), 0, list[str]()
    for name, task in plan["tasks"].items():
        kind = task_of(task["task"], run_code=run_code)
        records = {each.id: each for each in asked(kind, read_records(folder / "tasks" / task["file"]))}
        for file in sorted((folder / RUNS).glob(f"*/{name}/seed-*/*.jsonl")):
            if "." in file.stem:
                continue
            for chain in chains_of(file):
                count += len(chain.steps) + len(chain.drafts)
                faults += _faults(chain, records.get(chain.id), task["task"], file.relative_to(folder))
    return count, faults


def _faults(chain: Chain, record: Chain | None, task: str, file: Path) -> Iterator[str]:
    if record is None or chain.prompt != record.prompt:
        yield f"{file}, {chain.id}: " + ("is not in the task." if record is None else "has another prompt.")
        return
    bare = chain.model_copy(update={"meta": {k: v for k, v in chain.meta.items() if k != KEY}})
    now = asyncio.run(scored(bare, task, checks_of(task_of(task, run_code=True), record))).meta[KEY]
    told = chain.meta.get(KEY, {})
    if any(_passed(now, of) != _passed(told, of) for of in ("steps", "drafts")):
        yield f"{file}, {chain.id}: its record disagrees with its task's checks."


def _passed(truth: Mapping[str, Any], of: str) -> list[list[bool]]:
    return [[bool(check["passed"]) for check in checks] for checks in truth.get(of, ())]


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yield each value that holds no others, with where it is in the table."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _leaves(each, f"{place}.{name}".lstrip("."))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _leaves(each, f"{place}[{number}]")
    else:
        yield place, value
