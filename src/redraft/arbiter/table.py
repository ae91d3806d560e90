"""The figures of the arbiter, from the chains in its folder alone.

A way is compared with the others at equal tokens, as `redraft diagnose` does: within a task, and over all
tasks together, where each prompt counts the same. p-values are corrected by Holm's procedure in two families:
all comparisons within tasks, and all over tasks. Revising alone is compared with `UNGUIDED` ways only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

from redraft import stats
from redraft.arbiter.matrix import RUNS, read_plan
from redraft.chain import Chain, read_jsonl
from redraft.errors import UsageError
from redraft.evaluation.diagnosis.equal_tokens import Basis, Curves, Point, Versus, curves_in, named
from redraft.evaluation.diagnosis.figures import LEVEL, Decision, decide
from redraft.evaluation.diagnosis.strategies import Strategy
from redraft.stats import Estimate

ALL = "all tasks"
REVISING = ("revise", "alone", "auto", "repair")
UNGUIDED = ("plain", "vote")
"""Ways that see no checks: revising alone is compared with these."""


@dataclass(frozen=True)
class Run:
    """The result of a way on a task, over all seeds. Costs are means over prompts."""

    model: str
    task: str
    way: str  # its kind
    texts: int
    right: Estimate
    tokens: float  # new tokens
    prompts: float  # prompt tokens
    money: float  # millionths of a USD; without a price, new tokens plus a fifth of the prompt tokens
    seconds: float  # of the requests, with as many at once as the run had


@dataclass(frozen=True)
class Level:
    """What a way reaches with the tokens that revising took."""

    model: str
    task: str
    way: str
    right: Estimate
    equal: bool  # whether it has runs of that many tokens; if not, `right` is that of its nearest run
    fewer: bool  # whether all its runs take fewer


@dataclass(frozen=True)
class Comparison:
    """How far a way is ahead of another one, paired by prompt."""

    model: str
    task: str
    ours: str
    other: str  # a kind of way; if models are compared, the other model
    basis: Basis
    at: float  # new tokens of the other way
    decision: Decision
    holm: float

    @property
    def finding(self) -> str:
        """`for`, `against`, `open` or `none`, as `Versus.finding` with the corrected p."""
        if self.basis == "unknown":
            return "none"
        if self.holm >= LEVEL:
            return "none" if self.basis == "more" else "open"
        better = self.decision.gain.value > 0
        return "none" if self.basis == ("fewer" if better else "more") else "for" if better else "against"


@dataclass(frozen=True)
class Table:
    """All figures, in the order in which the page shows them."""

    models: Sequence[str]
    tasks: Sequence[str]
    items: Mapping[str, int]  # by task, how many prompts every run has
    seeds: int
    levels: Sequence[Level]
    comparisons: Sequence[Comparison]
    between: Sequence[Comparison]  # models compared
    runs: Sequence[Run]
    remarks: Sequence[str]  # what is missing

    def record(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        found = asdict(self)
        for name in ("comparisons", "between"):
            for row, each in zip(found[name], getattr(self, name), strict=True):
                row["finding"] = each.finding
        return stats.without_nan(found)


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
    pools, at = {}, {model: folder / RUNS / name for name, model in plan["models"].items()}
    for model in models:
        pools[model] = pooled({task: cells[model, task] for task in tasks if (model, task) in cells})
    within = [row for key, curves in cells.items() for row in _comparisons(*key, curves)]
    several = {(model, ALL): curves for model, curves in pools.items() if len(tasks) > 1}
    over = [row for key, curves in several.items() for row in _comparisons(*key, curves)]
    return Table(
        models,
        tasks,
        {task: curves.items for (_, task), curves in cells.items()},
        min(curves.seeds for curves in cells.values()),
        [row for key, curves in {**several, **cells}.items() for row in _levels(*key, curves)],
        [*_corrected(over), *_corrected(within)],
        _corrected(list(_between(models, pools))),
        [row for (model, task), c in cells.items() for row in _runs(model, task, c, at[model] / task)],
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
    kinds = list(dict.fromkeys(point.way.kind for point in curves.points))
    for ours in (kind for kind in REVISING if kind in kinds):
        for other in kinds:
            apart = other not in UNGUIDED if ours == "alone" else other in REVISING
            if other != ours and not apart:
                found: Versus = curves.against(ours, other)
                yield Comparison(model, task, ours, other, found.basis, found.at, found.decision, found.p)


def _between(models: Sequence[str], curves: Mapping[str, Curves]) -> Iterator[Comparison]:
    """Yield the comparisons of each two models: the same way, on the prompts that both have."""
    for one, two in combinations([model for model in models if model in curves], 2):
        both = curves[one], curves[two]
        common = [name for name in both[0].names if name in {*both[1].names}]
        kinds, others = ([point.way.kind for point in each.points] for each in both)
        for kind in dict.fromkeys(kind for kind in kinds if kind in others and common):
            spent = [each.last(kind).tokens for each in both]
            reached = [_at(each, kind, min(spent)) for each in both]
            theirs, ours = ([scores[name] for name in common] for scores, _ in reached)
            basis: Basis = "fewer" if spent[0] < spent[1] else "more"
            basis = "equal" if all(equal for _, equal in reached) else basis
            basis = "unknown" if math.isnan(sum(spent)) else basis
            decision = decide(theirs, ours)
            yield Comparison(two, ALL, kind, one, basis, spent[0], decision, decision.p)


def _at(curves: Curves, kind: str, tokens: float) -> tuple[dict[str, float], bool]:
    """Return the scores of a way by prompt at a number of tokens, and whether its runs reach that number."""
    curve = curves.curve(kind)
    equal = bool(curve) and curve[0].tokens <= tokens <= curve[-1].tokens
    scores = curves.scores(kind, tokens) if equal else curves.nearest(kind, tokens).scores
    return dict(zip(curves.names, scores, strict=True)), equal


def _corrected(found: Sequence[Comparison]) -> list[Comparison]:
    corrected = stats.holm([each.decision.p for each in found])
    return [replace(each, holm=p) for each, p in zip(found, corrected, strict=True)]


def _levels(model: str, task: str, curves: Curves) -> Iterator[Level]:
    """Yield what each way reaches with the tokens that revising took."""
    for kind in dict.fromkeys(point.way.kind for point in curves.points):
        most = curves.revised.tokens
        scores, equal = _at(curves, kind, most)
        right = stats.proportions([*scores.values()], [1] * len(scores))
        yield Level(model, task, kind, right, equal, fewer=curves.last(kind).tokens < most)


def _runs(model: str, task: str, curves: Curves, folder: Path) -> Iterator[Run]:
    seconds = seconds_in(folder)
    for point in curves.points:
        way, mean = point.way, point.mean
        yield Run(
            model,
            task,
            way.kind,
            way.texts,
            point.score,
            mean.tokens,
            mean.prompts,
            mean.money,
            seconds.get(way.name, math.nan),
        )


def seconds_in(folder: Path) -> dict[str, float]:
    """Return the seconds that a way's texts took, on average over its chains.

    A text that several ways share was generated once, and the others took it from the cache. So it counts for
    each with the longest time that any of them recorded.
    """
    longest: dict[tuple[str, ...], float] = {}
    chains = [
        (file.stem, [*_texts(file.parent.name, chain)])
        for file in sorted(folder.glob("seed-*/*.jsonl"))
        if "." not in file.stem
        for chain in read_jsonl(file)
    ]
    for key, seconds in (text for _, texts in chains for text in texts):
        longest[key] = max(seconds, longest.get(key, 0.0))
    found: dict[str, list[float]] = {}
    for way, texts in chains:
        found.setdefault(way, []).append(sum(longest[key] for key, _ in texts))
    return {way: fmean(each) for way, each in found.items()}


def _texts(seed: str, chain: Chain) -> Iterator[tuple[tuple[str, ...], float]]:
    for step in (*chain.steps, *chain.drafts):
        told = step.feedback.text if step.feedback and step.feedback.by == "model" else ""
        yield (seed, chain.id, step.answer, told), step.usage.seconds if step.usage else 0.0


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
