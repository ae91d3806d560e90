"""Measure how often 95 % intervals contain the true value, in simulations of pairs of answers.

All answers to a question share its difficulty, and so do its reviews in both orders, so the data is paired.
The judge prefers the first answer and the longer one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from measure import Figure, Goal, Row
from redraft.evaluation import stats
from redraft.evaluation.stats import Bootstrap, Estimate, Numbers

QUESTIONS, DRAWS, TRUTH, SEED = 80, 2_000, 4_000_000, 20_261
MEASURE = "coverage of 95 % intervals in simulations of paired data"
HOW = (
    "{times:,} simulations of {questions} questions, each judged in both orders: answers share the "
    "question's difficulty; the judge adds 0.3 points to the answer shown first and more to a longer one, "
    "and rounds to halves from 1 to 10. {draws:,} resamples each, fixed seed. The truth is that of "
    "{truth:,} questions. A figure is the distance of the coverage from 95 %."
)


@dataclass(frozen=True)
class World:
    scores: Numbers  # shape [questions, 4]: model and opponent with the model shown first, and second
    other: Numbers  # the same for another model
    gap: Numbers  # the length of the model's answers minus that of the opponent's
    right: npt.NDArray[np.bool_]  # shape [questions, 2]: whether an answer is right before and after revising
    judged: Numbers  # shape [questions, 4]: the columns of `stats.Judged`

    def part(self, number: int) -> World:
        rows = slice(number * QUESTIONS, (number + 1) * QUESTIONS)
        return World(*(each[rows] for each in vars(self).values()))

    @property
    def signs(self) -> npt.NDArray[np.int64]:
        return np.sign(self.scores[:, ::2] - self.scores[:, 1::2]).astype(int)

    @property
    def wins(self) -> Numbers:
        return np.asarray((self.signs + 1).mean(axis=1) / 2)


def draw(rng: np.random.Generator, count: int) -> World:
    hard, gap = rng.normal(size=count), rng.normal(250, 500, size=count)
    ease = rng.beta(2, 2, count)
    right = (rng.random((count, 2)) < ease[:, None]).astype(int)
    accepts = rng.random((count, 2)) < np.where(right, 0.85, 0.35)
    rejected, accepted = ((1 - right) * ~accepts).sum(1), (right * accepts).sum(1)
    judged = np.stack([rejected, (1 - right).sum(1), accepted, right.sum(1)], 1).astype(float)
    before = rng.random(count) < 0.45 + 0.2 * np.tanh(hard)
    after = np.where(before, rng.random(count) < 0.92, rng.random(count) < 0.3)
    return World(
        _scores(rng, hard, gap, 0.0), _scores(rng, hard, gap, -0.3), gap, np.stack([before, after], 1), judged
    )


def _scores(rng: np.random.Generator, hard: Numbers, gap: Numbers, lead: float) -> Numbers:
    ours, theirs = rng.normal(7.8 + lead, 0.9, len(hard)), rng.normal(7.8, 0.7, len(hard))
    ours, theirs = ours - 0.7 * hard + 0.4 * np.tanh(gap / 500), theirs - 0.7 * hard
    first = np.array([0.3, 0, 0, 0.3])
    said = np.stack([ours, theirs, ours, theirs], 1) + first + rng.normal(0, 0.4, (len(hard), 4))
    return np.asarray(np.clip(np.round(2 * said) / 2, 1, 10))


def _ratio(sums: Numbers) -> Numbers:
    return np.asarray((sums[..., 0] + sums[..., 2]) / (sums[..., 1] + sums[..., 3]))


def _balanced(sums: Numbers) -> Numbers:
    return np.asarray((sums[..., 0] / sums[..., 1] + sums[..., 2] / sums[..., 3]) / 2)


def _with_ones(values: npt.ArrayLike) -> Numbers:
    column = np.asarray(values, dtype=np.float64)
    return np.stack([column, np.ones_like(column)], 1)


def _leads(world: World) -> Numbers:
    return np.asarray((world.scores[:, 0] - world.scores[:, 1] + world.scores[:, 2] - world.scores[:, 3]) / 2)


Table, Formula = Callable[[World], Numbers], Callable[[Numbers], Numbers]
SUMS: dict[str, tuple[Table, Formula]] = {
    "ratio of sums": (lambda w: w.scores, _ratio),
    "difference of two ratios": (
        lambda w: np.hstack([w.scores, w.other]),
        lambda sums: _ratio(sums[..., :4]) - _ratio(sums[..., 4:]),
    ),
    "mean": (lambda w: _with_ones(_leads(w)), stats.ratio_of),
    "difference of proportions": (
        lambda w: _with_ones(w.right[:, 1].astype(int) - w.right[:, 0].astype(int)),
        stats.ratio_of,
    ),
    "win rate": (lambda w: _with_ones(w.wins), stats.ratio_of),
    "correlation": (lambda w: stats.moments(w.gap, _leads(w)), stats.correlation_of),
    "agreement": (lambda w: _with_ones(w.signs[:, 0] == w.signs[:, 1]), stats.ratio_of),
    "balanced accuracy": (lambda w: w.judged, _balanced),
}
"""Figures of sums: the summands of each question, and the formula of the figure."""

OTHERS: dict[str, Callable[[World], Estimate]] = {
    "proportion": lambda w: stats.proportion(int(w.right[:, 1].sum()), len(w.right)),
    "length-controlled win rate": lambda w: stats.length_controlled(w.wins.tolist(), w.gap.tolist()),
}


def estimates(world: World, seed: int) -> dict[str, Estimate]:
    tables = {name: table(world) for name, (table, _) in SUMS.items()}
    sample = Bootstrap(np.hstack(list(tables.values())), draws=DRAWS, seed=seed)
    found, start = {}, 0
    for name, (_, figure) in SUMS.items():
        place = slice(start, start := start + tables[name].shape[1])
        found[name] = sample.estimate(lambda sums, figure=figure, place=place: figure(sums[..., place]))  # type: ignore[misc]
    return found | {name: estimate(world) for name, estimate in OTHERS.items()}


def truths(world: World) -> dict[str, float]:
    found = {name: float(figure(table(world).sum(axis=0))) for name, (table, figure) in SUMS.items()}
    return found | {name: estimate(world).value for name, estimate in OTHERS.items()}


def coverage(times: int, _: int) -> Row:
    rng = np.random.default_rng(SEED)
    truth = truths(draw(rng, TRUTH))
    world = draw(rng, times * QUESTIONS)
    held = dict.fromkeys(truth, 0)
    for number in range(times):
        for name, found in estimates(world.part(number), number).items():
            held[name] += found.low <= truth[name] <= found.high
    figures = tuple(_figure(name, 100 * count / times, truth[name]) for name, count in held.items())
    return Row(MEASURE, HOW.format(times=times, questions=QUESTIONS, draws=DRAWS, truth=TRUTH), figures)


def _figure(name: str, covered: float, truth: float) -> Figure:
    sides = f"coverage {covered:.2f} %; the true value is {truth:.3f}"
    return Figure(name, (abs(covered - 95),), "%", Goal("≤", 1.0), sides)
