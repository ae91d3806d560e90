"""Intervals and tests for what was counted over prompts: the bootstrap, and McNemar's exact test."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ROUNDS = 10_000
SEED = 1

Counts = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure and the interval that 95 % of its bootstrap values lie in; NaN where nothing was counted."""

    value: float
    low: float
    high: float


def share(hits: Sequence[bool]) -> Estimate:
    """The share of hits, in per cent."""
    return estimate([[100.0 * hit] for hit in hits], lambda sums, n: sums[..., 0] / n)


def difference(before: Sequence[bool], after: Sequence[bool]) -> Estimate:
    """How many more hits there are after than before, in points; prompts stay pairs."""
    pairs = zip(before, after, strict=True)
    return estimate([[100.0 * (b - a)] for a, b in pairs], lambda sums, n: sums[..., 0] / n)


@dataclass(frozen=True)
class Judged:
    """Verdicts of a chain.

    Attributes:
        rejected: Wrong answers that were rejected, of `wrong` ones.
        accepted: Right answers that were accepted, of `right` ones.
    """

    rejected: int = 0
    wrong: int = 0
    accepted: int = 0
    right: int = 0


def balanced(judged: Sequence[Judged]) -> Estimate:
    """Balanced accuracy of verdicts, in per cent: the mean of the share of wrong answers that were rejected
    and that of right ones that were accepted. Accepting everything gives 50.
    """
    rows = [[j.rejected, j.wrong, j.accepted, j.right] for j in judged]
    return estimate(rows, lambda s, _: 50 * (s[..., 0] / s[..., 1] + s[..., 2] / s[..., 3]))


def estimate(rows: Sequence[Sequence[float]], figure: Callable[[Counts, int], Counts]) -> Estimate:
    """A figure of the column sums of rows, and its percentile bootstrap interval over the rows.

    Args:
        rows: One a prompt.
        figure: From sums (shape [columns] or [rounds, columns]) and the number of rows. Rounds in which it is
            not defined, as where no answer was wrong, are left out.
    """
    table = np.asarray(rows, dtype=np.float64)
    drawn = np.random.default_rng(SEED).multinomial(len(table), np.full(len(table), 1 / len(table)), ROUNDS)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(figure(table.sum(axis=0), len(table)))
        values = figure(drawn @ table, len(table))
    values = values[np.isfinite(values)]
    if not math.isfinite(value) or not len(values):
        return Estimate(math.nan, math.nan, math.nan)
    low, high = np.percentile(values, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> float:
    """Exact two-sided probability of so uneven a split of the prompts whose outcome changed."""
    pairs = list(zip(before, after, strict=True))
    better, worse = pairs.count((False, True)), pairs.count((True, False))
    changed = better + worse
    tail = sum(math.comb(changed, k) for k in range(min(better, worse) + 1))
    return min(1.0, 2.0 * tail / float(2**changed))
