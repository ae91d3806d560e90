"""Estimate figures over questions, each figure with a 95 % interval.

Questions are the random sample: each question is resampled with all its reviews, because reviews of the same
question are not independent. Figures are functions of sums over questions, so that a resample costs one
row of a matrix product. With fewer than `FEW` questions, Student's t replaces resamples. A proportion of
independent hits has Wilson's interval, which is valid at 0 % and 100 %, unlike a bootstrap interval. Only
`holm` corrects for several comparisons. `scipy.stats` is not imported, because the import takes two seconds.

Sources: Efron and Tibshirani, An Introduction to the Bootstrap (1993), ch. 13 for percentile intervals and
ch. 11 for the jackknife; Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician
69 (2015), 371, for expanded intervals. The other sources are given with the functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields, is_dataclass
from operator import attrgetter
from typing import Any, Literal

from pydantic import BaseModel

from redraft.errors import MissingExtra

try:
    import numpy as np
    import numpy.typing as npt
    from scipy import special
except ModuleNotFoundError as error:
    raise MissingExtra(f"computing statistics (with {error.name})", "eval") from None

DRAWS = 10_000
SEED = 1
LEAST = 1 / (DRAWS + 1)  # the smallest p that random flips can give
_TAIL = 0.025  # the probability beyond each end of a 95 % interval
FEW = 20  # with fewer questions, resamples vary too little: with five, 95 % intervals cover only 90 %
_Z = float(special.ndtri(1 - _TAIL))
_ALMOST_1 = 1 - 1e-9  # the largest correlation that is transformed: Fisher's z of 1 is infinite
_SAME = 1e-12  # differences up to this size come from rounding
_ALL_FLIPS = 13  # the most pairs for which all sign flips are tried: 2 ** 13 is less than DRAWS
_STEPS, _FAR = 50, 30.0  # most steps of Newton's method; larger coefficients come from separated data
_AT_ONCE = 1 << 19  # weights of resamples in memory at once: 4 MB, which stay in the cache

Numbers = npt.NDArray[np.float64]
Bounds = tuple[float, float]  # the lowest and highest possible value of a figure

Scale = Literal["plain", "ratio", "correlation"]

SHARE: Bounds = (0.0, 1.0)
CHANGE: Bounds = (-1.0, 1.0)  # for a difference of shares or a correlation

Figure = Callable[[Numbers], Numbers]
"""A function that maps sums, shape [columns] or [resamples, columns], to a figure."""


@dataclass(frozen=True)
class Estimate:
    """A figure and a 95 % interval.

    If nothing was counted, all fields are NaN. If the possible range of the figure is unknown, `low` and
    `high` are also NaN for a single question and for questions that all agree.
    """

    value: float
    low: float
    high: float

    def times(self, factor: float) -> Estimate:
        """Multiply the value and both ends, for example by 100 for per cent."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)


NOTHING = Estimate(math.nan, math.nan, math.nan)

_SCALES: dict[Scale, tuple[Figure, Figure]] = {
    "plain": (np.asarray, np.asarray),
    "ratio": (np.log, np.exp),
    "correlation": (lambda values: np.arctanh(np.clip(values, -_ALMOST_1, _ALMOST_1)), np.tanh),
}
"""The function to each scale, and the inverse function: Fisher's z and tanh for correlations."""


class Bootstrap:
    """Sums over the questions, and over resamples with the same number of questions.

    Args:
        rows: The counts of each question, shape [questions, columns].
        draws: The number of resamples.
        seed: The random seed. Tables with the same number of questions get the same resamples.
    """

    def __init__(self, rows: npt.ArrayLike, *, draws: int = DRAWS, seed: int = SEED) -> None:
        table = np.asarray(rows, dtype=np.float64)
        self.questions = len(table)
        self.sums: Numbers = table.sum(axis=0)
        self.without = self.sums - table if len(table) < FEW else None
        self.drawn: Numbers | None = None
        if len(table) < FEW:
            return
        rng, count = np.random.default_rng(seed), len(table)
        self.drawn = np.empty((draws, table.shape[1]))
        most = max(_AT_ONCE // count, 1)
        for start in range(0, draws, most):
            part = min(most, draws - start)
            drawn = rng.integers(0, count, size=(part, count)) + count * np.arange(part)[:, None]
            weights = np.bincount(drawn.ravel(), minlength=part * count).reshape(part, count)
            self.drawn[start : start + part] = weights.astype(np.float64) @ table

    @property
    def others(self) -> float:
        """If all seen questions agree, the largest share of unseen ones that may differ (see `estimate`)."""
        return 1 - float(_TAIL ** (1 / self.questions))

    def fitted(self, fit: Figure) -> Bootstrap:
        """Return a copy with the function `fit` applied to each vector of sums."""
        found = copy(self)
        found.sums = fit(self.sums)
        found.without = None if self.without is None else fit(self.without)
        found.drawn = None if self.drawn is None else fit(self.drawn)
        return found

    def estimate(self, figure: Figure, bounds: Bounds | None = None, *, scale: Scale = "plain") -> Estimate:
        """Return a figure with its interval: expanded percentiles, or Student's if there are few questions.

        If all n questions agree, up to 1 - 0.025^(1/n) of unseen questions may still differ, with 97.5 %
        confidence, and the interval is widened (Clopper and Pearson, Biometrika 26 (1934), 404).

        Args:
            figure: The function from sums to the figure.
            bounds: The figure's lowest and highest possible value, such as 0 and 1 for a share.
            scale: The scale on which the interval is symmetric if questions are few or agree.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            value = float(figure(self.sums)) if self.questions else math.nan
            if not math.isfinite(value):
                return NOTHING
            if self.drawn is None:
                ends = self._students(figure, value, scale)
            else:
                values, tail = figure(self.drawn), expanded_tail(self.questions)
                values = values[np.isfinite(values)]
                ends = tuple(np.quantile(values, [tail, 1 - tail])) if len(values) else None
        if ends is None or abs(ends[1] - ends[0]) <= _SAME * max(1.0, abs(value)):
            there, back = _SCALES[scale]
            middle, *far = (there(np.asarray(each)) for each in (value, *(bounds or (math.nan, math.nan))))
            ends = tuple(float(back(middle + self.others * (end - middle))) for end in far)
        least, most = bounds or (-math.inf, math.inf)
        found = max(ends[0], least), min(ends[1], most)
        return Estimate(value, *(float(end) if math.isfinite(end) else math.nan for end in found))

    def _students(self, figure: Figure, value: float, scale: Scale) -> tuple[float, ...] | None:
        if self.without is None or self.questions < 2:
            return None
        there, back = _SCALES[scale]
        value, values = float(there(np.asarray(value))), there(figure(self.without))
        if not np.isfinite(values).all():
            return -math.inf, math.inf  # leaving out a question makes the figure undefined
        share = (self.questions - 1) / self.questions
        error = math.sqrt(share * float(((values - values.mean()) ** 2).sum()))
        half = float(special.stdtrit(self.questions - 1, 1 - _TAIL)) * error
        return float(back(np.asarray(value - half))), float(back(np.asarray(value + half)))


def expanded_tail(questions: int) -> float:
    """Return the share of resamples to cut off at each end."""
    # Resamples vary too little (their variance divides by n, not n - 1) and do not follow Student's t.
    # Cutting this share, not 2.5 %, corrects both, exactly for a mean of Gaussian values (Hesterberg).
    t = float(special.stdtrit(questions - 1, 1 - _TAIL))
    return float(special.ndtr(-math.sqrt(questions / (questions - 1)) * t))


def clustered(rows: npt.ArrayLike, clusters: Sequence[Hashable] | None) -> Numbers:
    """Return the sums of rows by cluster, such as a question's reviews. With None, each row is a cluster."""
    table = np.asarray(rows, dtype=np.float64)
    if clusters is None:
        return table
    places: dict[Hashable, int] = {}
    index = [places.setdefault(cluster, len(places)) for cluster in clusters]
    sums = np.zeros((len(places), table.shape[1]))
    np.add.at(sums, index, table)
    return sums


def _columns(*columns: Sequence[float]) -> Numbers:
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=-1)


def ratio_of(sums: Numbers) -> Numbers:
    """Return the first column's sum divided by the second column's sum."""
    return np.asarray(sums[..., 0] / sums[..., 1])


def mean(
    values: Sequence[float], clusters: Sequence[Hashable] | None = None, bounds: Bounds | None = None
) -> Estimate:
    """Estimate a mean. `bounds` are the lowest and highest possible values."""
    rows = _columns(values, np.ones(len(values)).tolist())
    return Bootstrap(clustered(rows, clusters)).estimate(ratio_of, bounds)


def difference(
    before: Sequence[float],
    after: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    bounds: Bounds | None = None,
) -> Estimate:
    """Estimate the mean of `after` minus `before`, paired by question. `bounds` limit the difference."""
    pairs = _columns(before, after)
    return mean((pairs[:, 1] - pairs[:, 0]).tolist(), clusters, bounds)


def change(
    before: Sequence[float], after: Sequence[float], clusters: Sequence[Hashable] | None = None
) -> Estimate:
    """Estimate the mean change of scores, each between 0 and 1, paired by question.

    For the interval, two questions are added: one gains 1, and one loses 1. Otherwise, if one question of 30
    gains and none loses, no resample contains a loss, and the interval begins at 0. Source: Bonett
    and Price, Journal of Educational and Behavioral Statistics 37 (2012), 479.
    """
    if not before:
        return NOTHING
    groups = [*(range(len(before)) if clusters is None else clusters), object(), object()]
    found = difference([*before, 0, 1], [*after, 1, 0], groups, CHANGE)
    value = float(np.subtract(after, before, dtype=np.float64).mean())
    return Estimate(value, min(found.low, value), max(found.high, value))


def proportion(hits: float, count: float) -> Estimate:
    """Estimate a proportion of independent hits by Wilson's score interval. A tie counts as half a hit.

    Source: Wilson, JASA 22 (1927), 209; recommended by Brown, Cai and DasGupta, Statistical Science 16
    (2001), 101. Hits in clusters, such as two reviews of a question, need `mean`.
    """
    if not count:
        return NOTHING
    share, z = hits / count, _Z
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    low, high = max((middle - half) / scale, 0.0), min((middle + half) / scale, 1.0)
    return Estimate(share, 0.0 if share == 0 else low, 1.0 if share == 1 else high)


def proportions(
    hits: Sequence[float], trials: Sequence[float], clusters: Sequence[Hashable] | None = None
) -> Estimate:
    """Estimate the share of hits among all trials, from the hits and trials of each row.

    The interval comes from the bootstrap over clusters. If clusters are few, or if all are equally large and
    each has only hits or only misses, the interval is Wilson's, for the effective number of clusters (Kish,
    Journal of Official Statistics 8 (1992), 183).
    """
    rows = clustered(_columns(hits, trials), clusters)
    rows = rows[rows[:, 1] > 0]
    if len(rows) < FEW or np.isin(rows / rows[:, 1].max(), (0, 1)).all():
        hit, tried = (float(each) for each in rows.sum(axis=0))
        alike = tried**2 / float((rows[:, 1] ** 2).sum() or 1)
        return proportion(alike * hit / (tried or 1), alike)
    return Bootstrap(rows).estimate(ratio_of, SHARE)


def sign_test(wins: int, losses: int) -> float:
    """Return the exact two-sided p-value of the sign test."""
    changed = wins + losses
    return min(1.0, 2 * float(special.bdtr(min(wins, losses), changed, 0.5))) if changed else 1.0


def paired(before: Sequence[float], after: Sequence[float], *, draws: int = DRAWS, seed: int = SEED) -> float:
    """Return the two-sided p-value of the mean difference, by a paired permutation test.

    The p-value is exact for pairs of 0 and 1 (McNemar's test) and for few pairs. Otherwise the p-value comes
    from random sign flips, and is `LEAST` if no flip was as extreme. With a NaN, the p-value is NaN.

    Sources: McNemar, Psychometrika 12 (1947), 153; Fisher, The Design of Experiments (1935), §21. Counting
    the observed signs among the random signs keeps the level: Phipson and Smyth, Stat. Appl. Genet. Mol.
    Biol. 9 (2010), 39.
    """
    table = _columns(before, after)
    gaps = table[:, 1] - table[:, 0]
    gaps = gaps[gaps != 0]
    if np.isin(table, (0, 1)).all():
        return sign_test(int((gaps > 0).sum()), int((gaps < 0).sum()))
    count = len(gaps)
    if not count or not np.isfinite(gaps).all():
        return math.nan if count else 1.0
    if count <= _ALL_FLIPS:
        signs = 1.0 - 2 * (np.arange(1 << count)[:, None] >> np.arange(count) & 1)
        return float((np.abs(signs @ gaps) >= abs(gaps.sum()) - _SAME * count).mean())
    rng, extreme = np.random.default_rng(seed), 1
    for start in range(0, draws, most := max(_AT_ONCE // count, 1)):
        signs = rng.integers(0, 2, size=(min(most, draws - start), count)) * 2.0 - 1
        extreme += int((np.abs(signs @ gaps) >= abs(gaps.sum()) - _SAME * count).sum())
    return extreme / (draws + 1)


def holm(p: Sequence[float]) -> list[float]:
    """Correct p-values for multiple tests (Holm, Scandinavian Journal of Statistics 6 (1979), 65).

    If no test has an effect, the probability that any corrected p-value is below 5 % is at most 5 %.
    """
    corrected, most, known = list(p), 0.0, [place for place, each in enumerate(p) if not math.isnan(each)]
    for before, place in enumerate(sorted(known, key=p.__getitem__)):
        corrected[place] = most = max(most, min(p[place] * (len(known) - before), 1.0))
    return corrected


def correlation(x: Sequence[float], y: Sequence[float]) -> Estimate:
    """Estimate Pearson's correlation."""
    table = _columns(x, y)
    return Bootstrap(moments(table[:, 0], table[:, 1])).estimate(correlation_of, CHANGE, scale="correlation")


def moments(x: npt.ArrayLike, y: npt.ArrayLike) -> Numbers:
    """Return the terms of standardised pairs for `correlation_of`, shape [pairs, 6]: 1, x, y, x², y², xy."""
    table = np.stack([np.asarray(each, dtype=np.float64) for each in (x, y)])
    if table.size:
        spread = table.std(axis=1, keepdims=True)
        # This changes no correlation, and keeps large numbers precise.
        table = (table - table.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1.0)
    a, b = table
    return np.stack([np.ones_like(a), a, b, a * a, b * b, a * b], axis=-1)


def correlation_of(sums: Numbers) -> Numbers:
    """Return the correlation from sums of `moments`; NaN if x or y does not vary."""
    n, a, b, aa, bb, ab = np.moveaxis(sums, -1, 0)
    spread_a, spread_b = aa - a * a / n, bb - b * b / n
    spread = np.where((spread_a > 1e-9 * n) & (spread_b > 1e-9 * n), spread_a * spread_b, np.nan)
    return np.asarray(np.clip((ab - a * b / n) / np.sqrt(spread), -1.0, 1.0))


@dataclass(frozen=True)
class Judged:
    """Counts of verdicts on right and on wrong answers. Answers without feedback are not counted."""

    rejected: int = 0  # wrong answers that were rejected
    wrong: int = 0  # wrong answers
    accepted: int = 0  # right answers that were accepted
    right: int = 0  # right answers
    alarms: int = 0  # right answers that were rejected


def judged(verdicts: Iterable[tuple[str, bool]]) -> Judged:
    """Count verdicts (`accept`, `revise` or another word), each paired with True for a right answer."""
    found = list(verdicts)
    return Judged(
        rejected=found.count(("revise", False)),
        wrong=sum(not right for _, right in found),
        accepted=found.count(("accept", True)),
        right=sum(right for _, right in found),
        alarms=found.count(("revise", True)),
    )


def balanced(judged: Sequence[Judged]) -> Estimate:
    """Estimate balanced accuracy, a mean of two shares: wrong answers rejected and right answers accepted."""
    rows = [[each.rejected, each.wrong, each.accepted, each.right] for each in judged]
    return Bootstrap(np.reshape(rows, (-1, 4))).estimate(
        lambda sums: np.asarray((sums[..., 0] / sums[..., 1] + sums[..., 2] / sums[..., 3]) / 2), SHARE
    )


def length_controlled(wins: Sequence[float], lengths: Sequence[float]) -> Estimate:
    """Estimate the win rate that would result if each answer were as long as the opponent's answer.

    A logistic regression of wins on tanh(length difference / its standard deviation) gives the estimate at a
    difference of 0. The interval is Wald's, with Huber and White's standard error. Return `NOTHING` for
    fewer than 3 questions, if lengths or wins do not vary, or if lengths separate wins from losses.

    Source: Dubois et al., Length-Controlled AlpacaEval (2024, arXiv 2404.04475), without the
    difficulty of instructions, which needs many models.

    Args:
        wins: The share of wins on each question, 0 to 1; a tie counts as half.
        lengths: The length of the model's answer minus the opponent's, for each question, in any unit.
    """
    y, gap = np.asarray(wins, dtype=np.float64), np.asarray(lengths, dtype=np.float64)
    if len(y) < 3 or gap.std() == 0 or y.std() == 0:
        return NOTHING
    x = np.stack([np.ones_like(gap), np.tanh(gap / gap.std())], axis=-1)
    beta = logistic(x, y, np.ones_like(y))
    if np.abs(beta).max() > _FAR:
        return NOTHING
    chance = special.expit(x @ beta)
    bread = np.linalg.inv((x * (chance * (1 - chance))[:, None]).T @ x)
    meat = (x * (y - chance)[:, None]).T
    error = math.sqrt((bread @ meat @ meat.T @ bread)[0, 0] * len(y) / (len(y) - 2))
    half = float(special.stdtrit(len(y) - 2, 1 - _TAIL)) * error
    low, value, high = (float(special.expit(beta[0] + each)) for each in (-half, 0.0, half))
    return Estimate(value, low, high)


def logistic(x: Numbers, y: Numbers, weight: Numbers, penalty: float = 0.0) -> Numbers:
    """Return the coefficients of a logistic regression, by Newton's method.

    Args:
        x: Shape [rows, coefficients].
        y: The outcome of each row, 0 to 1.
        weight: The weight of each row.
        penalty: The log-likelihood is reduced by penalty / 2 times the sum of squared coefficients.
    """
    beta = np.zeros(x.shape[1])
    for _ in range(_STEPS):
        chance = special.expit(x @ beta)
        slope = x.T @ (weight * (y - chance)) - penalty * beta
        curve = (x * (weight * chance * (1 - chance))[:, None]).T @ x + penalty * np.eye(len(beta))
        step = np.linalg.lstsq(curve, slope)[0]
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))  # separated data make steps explode
        beta = beta + step
        if np.abs(step).max() < 1e-8:
            break
    return beta


def without_nan(values: Any) -> dict[str, Any]:
    """Return a mapping, dataclass or model as JSON values, with None for numbers that are not finite.

    If a class has `IN_JSON`, only the attributes listed there are included, otherwise all fields.
    """
    found: dict[str, Any] = _json(values)
    return found


def _json(value: Any) -> Any:
    if names := getattr(value, "IN_JSON", ""):
        value = {name.rpartition(".")[2]: attrgetter(name)(value) for name in names.split()}
    elif is_dataclass(value) and not isinstance(value, type):
        value = {each.name: getattr(value, each.name) for each in fields(value)}
    elif isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, Mapping):
        return {name: _json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return list(map(_json, value))
    return None if isinstance(value, float) and not math.isfinite(value) else value
