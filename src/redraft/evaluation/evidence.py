"""Compute evidence that may be checked after every item and is valid at any stopping time.

An e-value is the wealth of a gambler who starts with 1 and bets against a hypothesis. If the hypothesis is
true, the probability that the wealth ever reaches 1/a is at most a (Ville's inequality).

Sources: Ville, Étude critique de la notion de collectif (1939); Waudby-Smith and Ramdas, "Estimating means of
bounded random variables by betting", JRSS B 86 (2024), 1, for bets on a mean; Krichevsky and Trofimov, IEEE
Trans. Inf. Theory 27 (1981), 199, for mixtures of bets; Ramdas and Wang, Hypothesis Testing with E-values
(2024, arXiv 2410.23614), for means of e-values. Intervals for a fixed sample size are in `evaluation.stats`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special

_PARTS = (np.arange(64) + 0.5) / 64
BETS = special.betaincinv(0.5, 0.5, _PARTS)
"""The bets, each a share of a gambler's own wealth. At first, all gamblers have equal wealth.

The bets follow the arcsine law (Krichevsky and Trofimov's mixture). If all values are alike, large bets win
most, but few of 64 evenly spaced bets would be large.
"""
MIDDLING = special.betaincinv(3.0, 3.0, _PARTS)
"""Bets mostly near 0.5, for differences between strategies. `BETS` would need a quarter more items."""
_HALVINGS = 30  # bisections of the interval that contains a bound, for a precision of 1e-9


def log_evidence(values: Sequence[float], mean: float, bets: Any = BETS) -> float:
    """Return the log of the e-value against "the mean is at most `mean`".

    Args:
        values: The sampled values, each at least 0, in any order.
        mean: The largest mean under the hypothesis, above 0.
        bets: The share of wealth that each of several gamblers bets, above 0 and below 1.
    """
    found, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    wealth = np.log1p(bets[:, None] * (found / mean - 1)) @ counts
    return float(np.logaddexp.reduce(wealth) - np.log(len(bets)))


def least_mean(values: Sequence[float], error: float, bets: Any = BETS) -> float:
    """Return a lower bound on the mean of values from 0 to 1, wrong with a probability of at most `error`."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        exceeded = log_evidence(values, middle, bets) >= -np.log(error)
        low, high = (middle, high) if exceeded else (low, middle)
    return low


def log_ahead(gains: Sequence[float], by: float = 0.0) -> float:
    """Return the log of the e-value against "the mean gain is at most `by`", for gains between -1 and 1."""
    return log_evidence([(1 + gain) / 2 for gain in gains], (1 + by) / 2, MIDDLING)


def least_gain(gains: Sequence[float], error: float, bets: Any = BETS) -> float:
    """Return a lower bound on the mean of gains from -1 to 1, wrong with a probability of at most `error`."""
    return 2 * least_mean([(1 + gain) / 2 for gain in gains], error, bets) - 1
