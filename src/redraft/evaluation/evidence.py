"""Evidence that may be looked at after every item, and holds whenever one stops.

An e-value is the wealth of a gambler who bets against a hypothesis, and begins with 1. If the hypothesis is
true, its chance to ever reach 1/a is at most a (Ville's inequality), so nothing is lost by looking often.

Sources: Ville, Étude critique de la notion de collectif (1939); Waudby-Smith and Ramdas, "Estimating means of
bounded random variables by betting", JRSS B 86 (2024), 1, for bets on a mean; Krichevsky and Trofimov, IEEE
Trans. Inf. Theory 27 (1981), 199, for their mixture; Ramdas and Wang, Hypothesis Testing with E-values (2024,
arXiv 2410.23614), for means of e-values. Intervals of a fixed number of items are in `evaluation.stats`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special

_PARTS = (np.arange(64) + 0.5) / 64
BETS = special.betaincinv(0.5, 0.5, _PARTS)
"""The shares of what may be lost that are bet, in equal parts: no single one has to be chosen beforehand.

They follow the arcsine law, Krichevsky and Trofimov's mixture: where values are all alike, the largest bet is
the best one, and equal steps have few that are large.
"""
MIDDLING = special.betaincinv(3.0, 3.0, _PARTS)
"""Bets on differences of ways, which are seldom all alike: certain after a fifth fewer items."""
_HALVINGS = 30  # of the interval in which a bound lies: it is known to 1e-9


def log_evidence(values: Sequence[float], mean: float, bets: Any = BETS) -> float:
    """Return the log of the e-value against "the mean is at most `mean`".

    Args:
        values: What was drawn, each at least 0. Their order does not matter.
        mean: Above 0.
        bets: Shares of what may be lost, above 0 and below 1.
    """
    found, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    wealth = np.log1p(bets[:, None] * (found / mean - 1)) @ counts
    return float(np.logaddexp.reduce(wealth) - np.log(len(bets)))


def least_mean(values: Sequence[float], error: float) -> float:
    """Return a lower bound on the mean of values between 0 and 1, wrong with a chance of at most `error`."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        exceeded = log_evidence(values, middle) >= -np.log(error)
        low, high = (middle, high) if exceeded else (low, middle)
    return low


def log_ahead(gains: Sequence[float], by: float = 0.0) -> float:
    """Return the log of the e-value against "the mean gain is at most `by`", for gains between -1 and 1."""
    return log_evidence([(1 + gain) / 2 for gain in gains], (1 + by) / 2, MIDDLING)


def least_gain(gains: Sequence[float], error: float) -> float:
    """Return a lower bound on the mean of gains between -1 and 1, wrong with a chance of at most `error`."""
    return 2 * least_mean([(1 + gain) / 2 for gain in gains], error) - 1
