"""Compare ways to spend tokens on an answer: score over tokens, and at equal tokens.

A point of a curve is a run: a way with its most texts (`ways`), over all seeds. Between two points lies what
one gets by choosing for each prompt at random which of the two to use, so scores and tokens in between are on
the line that joins them. That is how a way that stops at 250 tokens is compared with one that stops at 310.

Tokens are those that the models generated, criticisms included. An item is a prompt; its scores are means
over seeds, and intervals are over items (`stats`). Nothing here asks a model.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean

from redraft import stats
from redraft.errors import UsageError
from redraft.evaluation.diagnosis.decide import Decision, decide
from redraft.evaluation.diagnosis.truth import chains_of, known
from redraft.evaluation.diagnosis.ways import NAMES, Way
from redraft.stats import Estimate


@dataclass(frozen=True)
class Spent:
    """What a way made of one item, or the mean of that over seeds.

    Attributes:
        score: Whether the answer is right, 0 to 1.
        guided: Whether it passes the checks that guide.
        tokens: New tokens of all texts.
        prompts: Tokens of all requests.
    """

    score: float
    guided: float
    tokens: float
    prompts: float


@dataclass(frozen=True)
class Point:
    """A way over the items that all ways have, in the same order."""

    way: Way
    spent: tuple[Spent, ...]

    @cached_property
    def scores(self) -> list[float]:
        """Scores by item."""
        return [each.score for each in self.spent]

    @cached_property
    def score(self) -> Estimate:
        """The mean score with its interval."""
        return stats.mean(self.scores)

    @cached_property
    def guided(self) -> float:
        """The share that passes the checks that guide."""
        return fmean(each.guided for each in self.spent)

    @cached_property
    def tokens(self) -> float:
        """New tokens an item."""
        return fmean(each.tokens for each in self.spent)

    @cached_property
    def prompts(self) -> float:
        """Tokens of requests an item."""
        return fmean(each.prompts for each in self.spent)


@dataclass(frozen=True)
class Versus:
    """Revising against another way at equal tokens.

    Attributes:
        kind: The other way.
        at: Its tokens, which are those of revising unless its curve ends before.
        decision: What its scores there and those of revising say. Revising is the second way.
    """

    kind: str
    at: float
    decision: Decision


@dataclass(frozen=True)
class Curves:
    """All points, and what they say about revising.

    Attributes:
        seeds: Rounds over the items.
        left_out: Items that some run lacks.
        unfinished: Seeds that lack a run.
    """

    points: tuple[Point, ...]
    seeds: int
    left_out: int = 0
    unfinished: tuple[str, ...] = ()

    @cached_property
    def revised(self) -> Point:
        """Revising, with most revisions."""
        return next(point for point in reversed(self.points) if point.way.kind == "revise")

    @property
    def items(self) -> int:
        """How many items every run has."""
        return len(self.revised.spent)

    def curve(self, kind: str) -> tuple[Point, ...]:
        """Return the points of a way by their number of texts. All begin with the single answer."""
        return tuple(point for point in self.points if point.way.kind in ("plain", kind))

    @cached_property
    def versus(self) -> tuple[Versus, ...]:
        """Revising against each other way, the single answer included."""
        kinds = dict.fromkeys(point.way.kind for point in self.points)
        return tuple(self._against(kind) for kind in kinds if kind != "revise")

    def _against(self, kind: str) -> Versus:
        at, scores = self.at(kind, self.revised.tokens)
        return Versus(kind, at, decide(scores, self.revised.scores))

    def at(self, kind: str, tokens: float) -> tuple[float, list[float]]:
        """Return the scores of a way by item, at so many tokens or where its curve ends, and its tokens."""
        curve = sorted(self.curve(kind), key=lambda point: point.tokens)
        low = ([point for point in curve if point.tokens <= tokens] or curve[:1])[-1]
        high = next((point for point in curve if point.tokens > tokens), low)
        gap = high.tokens - low.tokens
        part = max((tokens - low.tokens) / gap, 0.0) if gap else 0.0
        scores = [(1 - part) * a + part * b for a, b in zip(low.scores, high.scores, strict=True)]
        return low.tokens + part * gap, scores


def curves_in(folder: Path, wanted: Collection[Way] = ()) -> Curves:
    """Return the curves of the runs in a folder: `FOLDER/seed-1/revise-2.jsonl` and so on.

    Ways are those of the first seed. A seed that lacks a run of these does not count, nor does an item that
    some run lacks.

    Args:
        folder: Where the runs are.
        wanted: Which of `ways.all_ways` to compare; empty for all. Others that are there are compared always.

    Raises:
        UsageError: There are no runs, or none of revising.
        RecordError: A run cannot be read.
    """
    seeds, unfinished = _seeds_in(folder, wanted)
    runs = {way: [dict(_spent(files[way])) for files in seeds] for way in seeds[0]}
    every = [run for of_way in runs.values() for run in of_way]
    common = [item for item in every[0] if all(item in run for run in every)]
    if not common:
        raise UsageError(f"{folder}: no item is in every run.", hint="Run the same command again to go on.")
    points = tuple(
        Point(way, tuple(_mean([run[item] for run in of_way]) for item in common))
        for way, of_way in runs.items()
    )
    known = {item for run in every for item in run}
    return Curves(points, len(seeds), len(known) - len(common), unfinished)


def revised_in(folder: Path, wanted: Collection[Way] = ()) -> list[Path]:
    """Return the runs of revising with the most revisions, of the same seeds as the curves.

    Arguments as for `curves_in`.

    Raises:
        UsageError: There are none.
    """
    seeds, _ = _seeds_in(folder, wanted)
    return [[file for way, file in files.items() if way.kind == "revise"][-1] for files in seeds]


def _seeds_in(folder: Path, wanted: Collection[Way]) -> tuple[list[dict[Way, Path]], tuple[str, ...]]:
    """Return the runs of each seed that has all ways of the first one, and the names of the other seeds."""
    found = {seed.name: _ways_in(seed) for seed in sorted(folder.glob("seed-*"))}
    first = [
        way for way in next(iter(found.values()), {}) if not wanted or way in wanted or way.kind not in NAMES
    ]
    if not any(way.kind == "revise" for way in first):
        raise _no_runs(folder)
    whole = {seed: files for seed, files in found.items() if files.keys() >= set(first)}
    seeds = [{way: files[way] for way in first} for files in whole.values()]
    return seeds, tuple(seed for seed in found if seed not in whole)


def _no_runs(folder: Path) -> UsageError:
    return UsageError(
        f"{folder} has no runs to compare.",
        hint="Make them: redraft diagnose --run ifeval ifeval.jsonl -o runs/ --model default",
    )


def _ways_in(folder: Path) -> dict[Way, Path]:
    """Return the runs of a seed in the order of tables."""
    files = {Way.of(file.stem): file for file in folder.glob("*.jsonl") if "." not in file.stem}
    return dict(sorted(files.items(), key=lambda item: item[0].place))


def _spent(file: Path) -> Iterator[tuple[str, Spent]]:
    """Yield what a run made of each item."""
    chains = list(chains_of(file))
    for each in known(chains).chains if chains else ():
        used = each.chain.usage
        guided = float(each.chain.passed is True)
        yield each.chain.id, Spent(each.best, guided, used.completion_tokens, used.prompt_tokens)


def _mean(seeds: Sequence[Spent]) -> Spent:
    return Spent(
        fmean(each.score for each in seeds),
        fmean(each.guided for each in seeds),
        fmean(each.tokens for each in seeds),
        fmean(each.prompts for each in seeds),
    )
