"""Compare ways to spend tokens on an answer: score over tokens, and at equal tokens.

A point of a curve is a run: a way with its most texts (`ways`), over all seeds. Between two points lies what
one gets by choosing for each prompt at random which of the two to use, so scores and tokens in between are on
the line that joins them. That is how a way that stops at 250 tokens is compared with one that stops at 310.

Tokens are those that the models generated, criticisms included. An item is a prompt; its scores are means
over seeds, and intervals are over items (`stats`). Nothing here asks a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from redraft.evaluate import stats
from redraft.evaluate.stats import Estimate
from redraft.evaluate.ways import NAMES, Kind, Way


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
        scores: Its scores by item there.
        difference: By how much revising scores higher.
    """

    kind: Kind
    at: float
    scores: tuple[float, ...]
    difference: Estimate


@dataclass(frozen=True)
class Curves:
    """All points, and what they say about revising.

    Attributes:
        seeds: Rounds over the items.
        left_out: Items that some run lacks.
    """

    points: tuple[Point, ...]
    seeds: int
    left_out: int = 0

    @cached_property
    def revised(self) -> Point:
        """Revising, with most revisions."""
        return next(point for point in reversed(self.points) if point.way.kind == "revise")

    def curve(self, kind: Kind) -> tuple[Point, ...]:
        """Return the points of a way by their number of texts. All begin with the single answer."""
        return tuple(point for point in self.points if point.way.kind in ("plain", kind))

    @cached_property
    def versus(self) -> tuple[Versus, ...]:
        """Revising against each other way, the single answer included."""
        kinds = [kind for kind in NAMES if kind != "revise" and len(self.curve(kind)) > (kind != "plain")]
        return tuple(self._against(kind) for kind in kinds)

    def _against(self, kind: Kind) -> Versus:
        wanted, curve = self.revised.tokens, sorted(self.curve(kind), key=lambda point: point.tokens)
        below = [point for point in curve if point.tokens <= wanted] or curve[:1]
        above = [point for point in curve if point.tokens > wanted] or below[-1:]
        low, high = below[-1], above[0]
        gap = high.tokens - low.tokens
        part = min(max((wanted - low.tokens) / gap, 0.0), 1.0) if gap > 0 else 0.0
        scores = tuple((1 - part) * a + part * b for a, b in zip(low.scores, high.scores, strict=True))
        at = low.tokens + part * gap
        return Versus(kind, at, scores, stats.difference(scores, self.revised.scores))


def curves(runs: Mapping[Way, Sequence[Mapping[str, Spent]]]) -> Curves:
    """Return the curves of runs.

    Args:
        runs: For each way, for each seed, what it made of each item, by id. Only items that every run has
            count.
    """
    every = [seed for seeds in runs.values() for seed in seeds]
    common = [name for name in every[0] if all(name in seed for seed in every)]
    points = tuple(
        Point(way, tuple(_mean([seed[name] for seed in seeds]) for name in common))
        for way, seeds in runs.items()
    )
    known = {name for seed in every for name in seed}
    return Curves(points, len(next(iter(runs.values()))), len(known) - len(common))


def _mean(seeds: Sequence[Spent]) -> Spent:
    return Spent(
        fmean(each.score for each in seeds),
        fmean(each.guided for each in seeds),
        fmean(each.tokens for each in seeds),
        fmean(each.prompts for each in seeds),
    )
