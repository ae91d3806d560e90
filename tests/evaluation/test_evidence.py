"""Evidence that may be looked at after every item: it stays honest, and bounds close in on the truth."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("scipy")

import numpy as np

from redraft.evaluation.evidence import least_gain, least_mean, log_ahead, log_evidence

RUNS, ITEMS, ERROR = 400, 120, 0.05


def test_nothing_drawn_says_nothing() -> None:
    assert log_evidence([], 0.5) == pytest.approx(0)
    assert least_mean([], ERROR) == pytest.approx(0, abs=1e-6)
    assert least_gain([], ERROR) == pytest.approx(-1, abs=1e-6)


def test_ties_are_no_evidence_for_a_difference_and_some_against_a_large_one() -> None:
    ties = [0.0] * 200
    assert log_ahead(ties) == pytest.approx(0)
    assert log_ahead(ties, -0.1) > math.log(20)


def test_looking_after_every_item_misleads_in_no_more_runs_than_the_error() -> None:
    gains = np.random.default_rng(3).choice([-1.0, 0.0, 1.0], p=[0.2, 0.6, 0.2], size=(RUNS, ITEMS))
    looks = range(1, ITEMS + 1)
    assert sum(any(log_ahead(run[:n]) >= math.log(1 / ERROR) for n in looks) for run in gains) <= RUNS * ERROR


@pytest.mark.parametrize("rate", [0.02, 0.5, 0.97])
def test_a_bound_lies_below_the_truth_whenever_one_looks_and_closes_in_on_it(rate: float) -> None:
    drawn = (np.random.default_rng(4).random((60, 400)) < rate).astype(float)
    above = sum(any(least_mean(run[:n], ERROR) > rate for n in (10, 50, 200, 400)) for run in drawn)
    assert above <= 60 * ERROR
    assert least_mean(drawn[0], ERROR) > rate - 0.15


def test_the_order_of_what_was_drawn_does_not_matter() -> None:
    gains = [1.0] * 9 + [-1.0] * 3 + [0.0] * 8
    assert log_ahead(gains) == pytest.approx(log_ahead(gains[::-1]))
    assert least_gain(gains, ERROR) == pytest.approx(least_gain(gains[::-1], ERROR))
