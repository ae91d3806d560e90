"""The figures of the arbiter, from the chains in its folder alone.

A way is compared with the others at equal tokens, as `redraft diagnose` does: within a task, and over all
tasks together, where each prompt counts the same. p-values are corrected by Holm's procedure in two families:
all comparisons within tasks, and all over tasks. Revising alone is compared with `UNGUIDED` ways only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redraft.chain import read_jsonl
from redraft.errors import UsageError
from redraft.evaluation import stats
from redraft.evaluation.arbiter.matrix import RUNS, read_plan
from redraft.evaluation.diagnosis.equal_tokens import Curves, Point, Versus, corrected, curves_in, named
from redraft.evaluation.diagnosis.strategies import Strategy
from redraft.evaluation.stats import Estimate, without_nan

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

    def record(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        rows = [without_nan(each) | {"finding": each.finding} for each in self.comparisons]
        return without_nan(self) | {"comparisons": rows}


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
        (model, ALL): pooled({task: cells[model, task] for task in tasks if (model, task) in cells})
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


def pooled(curves: Mapping[str, Curves]) -> Curves:
    """Return the curves of several tasks as one. A task that has no run of a size counts with `_run_of` it.

    A kind of way that a task lacks is left out.
    """
    each = curves.values()
    kinds = set.intersection(*({point.way.kind for point in one.points} for one in each))
    ways = {point.way for one in each for point in one.points if point.way.kind in kinds}
    points = tuple(
        Point(way, tuple(spent for one in each for spent in _run_of(one, way).spent))
        for way in sorted(ways, key=lambda way: way.place)
    )
    names = tuple(f"{task}/{name}" for task, one in curves.items() for name in one.names)
    return Curves(points, min(one.seeds for one in each), names=names)


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
