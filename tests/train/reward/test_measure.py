from __future__ import annotations

import numpy as np
import pytest

from redraft.stats import proportion
from redraft.train.reward import measure

RANDOM = np.random.default_rng(1)


def random_pairs(slope: float, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Rewards of which the better one is chosen with the probability that they say, times a slope."""
    gap = RANDOM.normal(0, 2, count)
    flips = RANDOM.random(count) > 1 / (1 + np.exp(-slope * gap))
    gap = np.where(flips, -gap, gap)
    rewards = np.stack([gap, np.zeros(count)], 1)
    return rewards, RANDOM.integers(1, 50, (count, 2)).astype(float)


def test_figures_of_a_few_pairs() -> None:
    rewards = np.array([[2.0, 1.0], [0.0, 1.0], [3.0, 3.0], [4.0, -4.0]])
    tokens = np.array([[10, 5], [10, 5], [7, 7], [3, 9]], dtype=float)
    found = measure(rewards, tokens)
    assert (found.pairs, found.ties) == (4, 1)
    assert found.accuracy == proportion(2.5, 4)
    assert found.loss == pytest.approx(np.log1p(np.exp([-1.0, 1.0, 0.0, -8.0])).mean())
    assert found.longer_is_chosen.value == pytest.approx(2 / 3)
    assert found.prefers_longer.value == pytest.approx(1 / 3)  # the first pair
    assert [(each.low, each.pairs) for each in found.calibration] == [(0.5, 1), (0.7, 2), (0.9, 1)]
    assert found.calibration[1].right.value == 0.5


def test_a_calibrated_reward_is_as_right_as_it_is_sure() -> None:
    found = measure(*random_pairs(1.0))
    assert found.miscalibration < 0.03
    assert all(each.right.low - 0.02 < each.said < each.right.high + 0.02 for each in found.calibration)


def test_a_reward_that_is_too_sure_is_found() -> None:
    assert measure(*random_pairs(0.2)).miscalibration > 0.1


def test_a_reward_that_is_the_length_correlates_with_it() -> None:
    tokens = RANDOM.integers(1, 50, (500, 2)).astype(float)
    found = measure(tokens / 10, tokens)
    assert found.length.value == pytest.approx(1)
    assert found.prefers_longer.value == 1.0
    assert abs(measure(*random_pairs(1.0)).length.value) < 0.1


def test_swapped_pairs_and_a_coin_are_said() -> None:
    rewards, tokens = random_pairs(1.0, 500)
    assert not any("swapped" in line or "a coin." in line for line in measure(rewards, tokens).lines())
    assert "chosen and rejected may be swapped" in measure(rewards[:, ::-1], tokens).lines()[-1]
    even = np.stack([np.tile([1.0, -1.0], 50), np.zeros(100)], 1)
    assert measure(even, tokens[:100]).lines()[-1] == "the interval includes 50 %: this may be a coin."
