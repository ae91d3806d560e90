"""Compare strategies, such as revising and best of N, at equal tokens, seconds or money.

Each size of a strategy, such as best of 4, is a point: mean score and mean cost over all seeds. Lines join
the points into a curve. A position on a line stands for a random choice between the sizes at both ends, for
each prompt. Two strategies are compared at the highest cost that both curves reach. Curves without a common
cost cannot be compared at equal cost. All generated tokens count, including tokens of criticism.
Costs vary by chance, often together with scores. So each item's score is moved along the line, from the
item's cost to the cost of the comparison (net benefit: Stinnett and Mullahy, Medical Decision Making 18
(1998), S68). The mean gain stays the same, and its interval includes the costs' variance (delta method).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import ClassVar, Literal, NamedTuple, Self

from redraft.evaluation import stats
from redraft.evaluation.diagnosis.figures import LEVEL, Decision, decide, points_of, split
from redraft.evaluation.diagnosis.strategies import NAMES, Strategy
from redraft.evaluation.diagnosis.truth import Known, chains_of, known, preferences
from redraft.evaluation.stats import Estimate
from redraft.evaluation.tables import Line, p_value, percent, plain, tokens_text
from redraft.jobs.counting import counted, printable
from redraft.jobs.ledger import failures
from redraft.revision.state import ANSWERED

Cost = Literal["tokens", "seconds", "money"]  # the cost to compare at
_OF_BASE = " of the base model"


def amount(cost: float, by: Cost) -> str:
    """Return a cost with its unit: `13 tokens`."""
    if by == "tokens":
        return f"{tokens_text(cost)} tokens"
    return f"{cost:.{1 if cost >= 1 else 3}f} s" if by == "seconds" else f"{cost:.6f} USD"


def around(costs: Sequence[float], at: float) -> tuple[int, int, float]:
    """Return the indices of the sorted `costs` around `at`, and the position of `at` between them, 0 to 1."""
    low = max(bisect_left(costs, at) - 1, 0)  # below `at` if possible, so that there is a line to it
    high = max(bisect_right(costs, at) - 1, min(low + 1, len(costs) - 1))
    gap = costs[high] - costs[low]
    return low, high, (at - costs[low]) / gap if gap else 1.0


class Spent(NamedTuple):
    """A strategy's score and costs on an item, or means over runs or items."""

    score: float  # 1 if the answer is right, else 0; from a judge, -1 to 1 (`preferences`)
    tokens: float  # new tokens of all texts; NaN if a chain has texts but no usage
    prompts: float  # prompt tokens of all requests
    seconds: float = math.nan  # time spent writing; NaN if unknown
    money: float = math.nan  # in USD; NaN without a price
    estimated: float = 0.0  # 1 if some tokens are estimates (`Usage.estimated`)
    base: float = 0.0  # 1 if the base model of a model with adapters answered
    cut: float = 0.0  # 1 if the token limit cut off the best answer
    revised: float = 0.0  # 1 if the chain has a revision

    @classmethod
    def of(cls, known: Known, score: float | None = None) -> Self:
        """Return the result of a chain. The default score is 1 if the best answer is right, otherwise 0."""
        chain, usd = known.chain, known.chain.usage.cost_usd
        seconds = sum(step.usage.seconds for step in (*chain.steps, *chain.drafts))
        if chain.model.get("engine") == "scripted":  # canned replies take the machine's time, not a model's
            seconds = math.nan
        prompts = chain.usage.prompt_tokens
        usd, score = math.nan if usd is None else usd, known.best if score is None else score
        base = chain.meta.get(ANSWERED) == "the base model"
        cut, revised = chain.best is not None and known.cuts[chain.best], chain.revisions > 0
        return cls(score, known.tokens, prompts, seconds, usd, chain.usage.estimated, base, cut, revised)

    @classmethod
    def mean(cls, found: Iterable[Self]) -> Self:
        """Return the means over several results."""
        return cls(*map(fmean, zip(*found, strict=True)))

    @property
    def beside(self) -> str:
        """Text to append to a token count, such as ` (partly estimated), 1.2 s`, or ""."""
        seconds = f", {amount(self.seconds, 'seconds')}" * (self.seconds >= 0.05)
        partly = " (partly estimated)" * (self.estimated > 0)
        money = f", {amount(self.money, 'money')}" * (self.money > 0)
        return partly + seconds + money + f", {self.cut * 100:.1f} % cut off" * (self.cut > 0)


@dataclass(frozen=True)
class Point:
    """A strategy's results on the items that all strategies answered, in the same order for all points."""

    IN_JSON: ClassVar = "way.kind way.texts score mean.tokens mean.prompts mean.seconds mean.money"

    way: Strategy
    spent: tuple[Spent, ...]
    base: bool = False  # whether the base model answered, though the other ways ask a trained one

    @cached_property
    def scores(self) -> list[float]:
        """The score of each item."""
        return [each.score for each in self.spent]

    @cached_property
    def score(self) -> Estimate:
        """The mean score with its interval."""
        return stats.proportions(self.scores, [1] * len(self.scores))

    @cached_property
    def mean(self) -> Spent:
        """The mean result over items."""
        return Spent.mean(self.spent)

    @property
    def idle(self) -> bool:
        """Whether the strategy revises, but revised no answer."""
        return self.way.revises and not self.mean.revised


Basis = Literal["equal", "fewer", "more", "unknown"]
"""The second strategy's cost compared with the first strategy's; `unknown` if a cost is unknown."""


@dataclass(frozen=True)
class Versus:
    """A comparison of two strategies, such as revising and best of N."""

    IN_JSON: ClassVar = "model task by ours kind basis cost at decision p finding"

    model: str
    task: str
    by: Cost
    ours: str  # the kind of the first way
    kind: str  # the second way's kind
    basis: Basis
    cost: float  # mean cost per item of the first way at its largest size
    at: float  # the cost at which the second way is compared
    decision: Decision  # of the first way's gain; `better` and `worse` come from the runs nearest to `at`
    p: float  # the decision's p, corrected by Holm's procedure for the number of comparisons
    base: bool = False  # whether the second way is the base model's, as in `Point`
    between: bool = False  # whether a way has no point at this cost, if it is equal

    @property
    def other(self) -> str:
        """The second strategy's name in tables."""
        return named(self.kind) + _OF_BASE * self.base

    @property
    def finding(self) -> Literal["better", "worse", "open", "not comparable"]:
        """Whether the first strategy is better or worse than the second strategy.

        At unequal cost, only the cheaper strategy can be found better.
        """
        if self.basis == "unknown":
            return "not comparable"
        if self.p >= LEVEL:
            return "not comparable" if self.basis == "more" else "open"
        if self.decision.gain.value > 0:
            return "not comparable" if self.basis == "fewer" else "better"
        return "not comparable" if self.basis == "more" else "worse"


@dataclass(frozen=True)
class Curves:
    """All results of a model on a task, with a point for each strategy."""

    IN_JSON: ClassVar = "model task by items seeds left_out unfinished points"

    model: str
    task: str
    points: tuple[Point, ...]
    seeds: int  # number of seeds that are counted
    left_out: int = 0  # number of items that are missing from some run
    unfinished: tuple[str, ...] = ()  # seeds with missing or partial runs, such as `seed-2 (vote-4)`
    settings: str = ""  # sampling settings of the first run, and the counted seeds
    by: Cost = "tokens"

    def cost(self, point: Point) -> float:
        """Return a point's mean cost per item, in the unit of `by`."""
        return float(getattr(point.mean, self.by))

    @property
    def kinds(self) -> list[str]:
        """The kinds of strategies, without repeats."""
        return list(dict.fromkeys(point.way.kind for point in self.points))

    def last(self, kind: str) -> Point:
        """Return the point with the most answers per prompt, among the points of a kind of strategy."""
        return next(point for point in reversed(self.points) if point.way.kind == kind)

    @property
    def native(self) -> int:
        """The number of items with equal scores and equal token counts in `revise` and `alone`."""
        one, other = ([p.spent for p in self.points if p.way.kind == kind] for kind in ("revise", "alone"))
        return sum(a[:3] == b[:3] for a, b in zip(one[-1], other[-1], strict=True)) if one and other else 0

    @property
    def trained(self) -> int:
        """The number of items that the base model answered in `one`, but an adapter in another strategy."""
        each = zip(*(point.spent for point in self.points if self.points[0].base), strict=True)
        return sum(any(other.base < one.base for other in rest) for one, *rest in each)

    @property
    def items(self) -> int:
        """The number of items that every run answered."""
        return len(self.points[0].spent)

    def curve(self, kind: str) -> tuple[Point, ...]:
        """Return a kind's points by cost. The point of `one` comes first if comparable and the cheapest."""
        own = [point for point in self.points if point.way.kind == kind and not math.isnan(self.cost(point))]
        own.sort(key=self.cost)
        single = (one for one in self.points if one.way.kind == "plain" and not one.base and kind != "alone")
        return (*(point for point in single if own and self.cost(point) < self.cost(own[0])), *own)

    def against(self, ours: str, kind: str) -> Versus:
        """Compare two kinds at the highest cost that both reach or, if there is none, at similar costs."""
        last = self.last(ours)
        basis: Basis = "equal"
        if (at := self._budget(ours, kind)) is not None:
            decision = self._decision(ours, kind, at)
        else:
            runs = [point for point in self.curve(kind) if point.way.kind == kind] or [self.last(kind)]
            run = min(runs, key=lambda point: abs(self.cost(point) - self.cost(last)))
            decision, at = decide(run.scores, last.scores), self.cost(run)
            basis = "fewer" if at < self.cost(last) else "more"
            if math.isnan(at + self.cost(last)):
                basis = "unknown"
        about = (self.model, self.task, self.by, ours, kind)
        between = any(at not in map(self.cost, self.curve(way)) for way in (ours, kind))
        base = self.last(kind).base
        return Versus(*about, basis, self.cost(last), at, decision, decision.p, base, between)

    def _budget(self, ours: str, kind: str) -> float | None:
        curves = {way: self.curve(way) for way in (ours, kind)}
        if not all(curves.values()):
            return None
        most = min(self.cost(self.last(ours)), *(self.cost(curve[-1]) for curve in curves.values()))
        reached = all(
            most > (least := self.cost(curve[0])) or (most == least and curve[0].way.kind == way)
            for way, curve in curves.items()
        )
        return most if reached else None

    def _decision(self, ours: str, kind: str, at: float) -> Decision:
        curves = self.curve(kind), self.curve(ours)
        places = [around([*map(self.cost, curve)], at) for curve in curves]
        lines = [(curve[a], curve[b], part) for curve, (a, b, part) in zip(curves, places, strict=True)]
        start, end, _ = lines[self.cost(self.last(ours)) > at]  # the other way's curve ends at `at`
        slope = (end.mean.score - start.mean.score) / (self.cost(end) - self.cost(start) or math.inf)

        def net(low: Point, high: Point, part: float) -> list[float]:
            both = ([x.score - slope * (getattr(x, self.by) - at) for x in p.spent] for p in (low, high))
            return [(1 - part) * a + part * b for a, b in zip(*both, strict=True)]

        near = [high if part >= 0.5 else low for low, high, part in lines]
        found = decide(*(net(*line) for line in lines))
        # Chance bends the lines too, so the nearest runs must also differ.
        p = max(found.p, stats.paired(*(net(each, each, 1) for each in near)))
        return Decision(found.items, *split(*(each.scores for each in near)), found.gain, p)


def corrected(found: Sequence[Versus]) -> tuple[Versus, ...]:
    """Return the comparisons with p-values corrected for the number of comparisons."""
    ps = stats.holm([each.decision.p for each in found])
    return tuple(replace(each, p=p) for each, p in zip(found, ps, strict=True))


def results_in(files: Iterable[Path], asked: Container[str] | None = None) -> dict[str, list[Spent]]:
    """Return each item's results in a strategy's runs. `asked` holds the ids to count; None means all ids."""
    items: dict[str, list[Spent]] = {}
    for file in files:
        scores = preferences(file)
        chains = [chain for chain in chains_of(file) if asked is None or chain.id in asked]
        for each in known(chains).chains if chains else ():
            items.setdefault(each.item, []).append(Spent.of(each, scores.get(each.chain.id)))
    return items


def curves_in(folder: Path, model: str, task: str, *, parts: bool = False) -> Curves | None:
    """Return the curves of the runs in `FOLDER/seed-1/revise-2.jsonl` and so on; None if too few finished.

    Unless `parts`, unfinished runs are left out, because the tried items may be the easy ones. The
    strategies of the seed with the most strategies are compared. Seeds without one of these strategies are
    left out. Items that some run lacks are left out too.
    """
    made: dict[str, dict[Strategy, Path]] = {}
    for seed in sorted(folder.glob("seed-*")):
        files = {Strategy.of(file.stem): file for file in seed.glob("*.jsonl") if "." not in file.stem}
        made[seed.name] = dict(sorted(files.items(), key=lambda item: item[0].place))
    every = [file for files in made.values() for file in files.values()]
    tried = {file: len({*failures(file), *(each.id for each in chains_of(file))}) for file in every}
    least = 0 if parts else max(tried.values(), default=0)
    whole = {seed: {way: file for way, file in made[seed].items() if tried[file] >= least} for seed in made}
    begun, first = (max(each.values(), key=len, default={}) for each in (made, whole))
    if not any(way.kind == "revise" for way in first):
        return None
    seeds = [seed for seed, files in whole.items() if files.keys() >= first.keys()]
    missing = {seed: [way.called for way in begun if way not in files] for seed, files in whole.items()}
    unfinished = tuple(f"{seed} ({', '.join(ways)})" for seed, ways in missing.items() if ways)
    runs = {way: results_in(whole[seed][way] for seed in seeds) for way in first}
    items = sorted({name for of_way in runs.values() for name in of_way})
    common = [name for name in items if len({len(of_way.get(name, ())) for of_way in runs.values()}) == 1]
    if not common:
        return None
    points = [Point(way, tuple(Spent.mean(runs[way][name]) for name in common)) for way in first]
    if any(point.mean.base < points[0].mean.base == 1 for point in points):
        points[0] = replace(points[0], base=True)
    drawn = next(chain for seed in seeds for chain in chains_of(whole[seed][points[0].way])).sampling
    drawn = {**drawn, "seed": None, "seeds": " ".join(seed[5:] for seed in seeds)}
    settings = ", ".join(f"{name} {value}" for name, value in drawn.items() if value is not None)
    return Curves(model, task, tuple(points), len(seeds), len(items) - len(common), unfinished, settings)


def series(found: Curves) -> dict[str, list[tuple[float, float, float, float, str]]]:
    """Return the chart points of each kind: (cost, score, low, high, tooltip), with scores in per cent."""
    drawn: dict[str, list[tuple[float, float, float, float, str]]] = {}
    for kind in sorted(found.kinds, key=lambda kind: kind == "revise"):  # revise is drawn last, on top
        points = drawn[named(kind) + _OF_BASE * found.last(kind).base] = []
        for point in found.curve(kind):
            score, (value, interval) = point.score.times(100), percent(point.score, 1)
            tip = f"{titled(point.way)}: {value} ({interval}), {amount(found.cost(point), found.by)}"
            points.append((found.cost(point), score.value, score.low, score.high, tip))
    return drawn


def point_line(point: Point) -> Line:
    """Return a table row with a strategy's score and costs."""
    note = f"{tokens_text(point.mean.tokens)} new tokens a prompt, {point.mean.prompts:,.0f} prompt tokens"
    share = f"{100 * point.mean.revised:.1f} %" if point.mean.revised else "none"
    note += point.mean.beside + f", {share} revised" * point.way.revises
    return Line(titled(point.way) + _OF_BASE * point.base, *percent(point.score, 1), note)


def titled(way: Strategy) -> str:
    """Return a strategy's title with the size, such as `best of 4`."""
    texts = f" of {way.texts}" * (way.texts > 1)
    if way.revises:
        texts = f", {counted(way.texts - 1, 'revision')}"
    return "steered" if way == Strategy("steered", 1) else named(way.kind).removesuffix(" of N") + texts


def versus_line(versus: Versus) -> Line:
    """Return a table row with a comparison."""
    decision = versus.decision
    counts = f"better in {counted(decision.better, 'prompt')}, worse in {decision.worse:,}"
    if versus.basis == "equal":
        at = f"{'interpolated ' * versus.between}at {amount(versus.at, versus.by)}"
        counts = f"in the nearest runs, {counts}"
    elif versus.basis == "unknown":
        which = named(versus.ours) if math.isnan(versus.cost) else versus.other
        at = f"some chains of {which} do not record {versus.by}"
    else:
        at = f"{amount(versus.cost, versus.by)} against {amount(versus.at, versus.by)}"
    name = f"{named(versus.ours)} minus {versus.other}"
    found = f"{versus.finding}, corrected p {p_value(versus.p)}; {at}; {counts}"
    return Line(name, *plain(decision.gain.times(100), 1, sign=True), found)


def verdict(versus: Sequence[Versus]) -> str:
    """Return advice on whether to revise, such as `Don't revise here: …`."""
    equal = f"equal {versus[0].by}"
    less = f"{'less' if versus[0].by == 'money' else 'fewer'} {versus[0].by}"
    lost, open_, beaten = (
        [each for each in versus if each.finding == name] for name in ("worse", "open", "better")
    )
    apart = _apart(versus)
    if lost:
        ways = (
            f"{f'at {equal}' if each.basis == 'equal' else f'with {less}'} {each.other} does better, "
            f"by {points_of(each.decision.gain)}"
            for each in sorted(lost, key=lambda each: each.basis != "equal")
        )
        return f"Don't revise here: {'; '.join(ways)}.{apart}"
    if open_:
        return f"Undecided: revising is not shown to do better than {_names(open_, 'or')}.{apart}"
    if not beaten:
        return f"Undecided: no other way can be compared at {equal}.{apart}"
    at = f"at {equal}" if all(each.basis == "equal" for each in beaten) else f"at equal or {less}"
    close = min(beaten, key=lambda each: each.decision.gain.value)
    least = f"beating the closest of them ({close.other}) " * (len(beaten) > 1)
    gain = points_of(close.decision.gain)
    return f"Revise: {at} it does better than {_names(beaten)}, {least}by {gain}.{apart}"


def _apart(versus: Sequence[Versus]) -> str:
    said, others = "", []
    for each in versus:
        if each.finding == "not comparable" and each.basis == "fewer":
            gain, more = points_of(each.decision.gain), amount(each.cost - each.at, each.by)
            said += f" Revising gains {gain} over {each.other}, for {more} more a prompt."
        elif each.finding == "not comparable":
            others.append(each)
    return said + f" Not comparable at equal {versus[0].by}: {_names(others)}." * bool(others)


def named(kind: str) -> str:
    """Return the name that tables show for a kind of strategy."""
    return printable(NAMES.get(kind, kind))


def _names(found: Sequence[Versus], word: str = "and") -> str:
    *most, last = (each.other for each in found) if found else ("",)
    return f"{', '.join(most)} {word} {last}" if most else last
