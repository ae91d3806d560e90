"""The rows of benchmarks/ppo.py on a few batches, and that they see what differs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch


def test_the_formulas_are_those_of_the_loops(bench: Any) -> None:
    row = bench.ppo_algorithm.run_loops(quick=True)
    assert {figure.reached for figure in row.figures if figure.goal} == {True}
    assert {figure.what.partition(",")[0] for figure in row.figures} >= {"returns", "β", "policy loss"}


def test_a_difference_or_nan_is_found(bench: Any) -> None:
    made = bench.ppo_algorithm.batch(3, least=1)
    ours, loops = bench.ppo_algorithm.by_redraft(made, torch.float64), bench.ppo_algorithm.by_loops(made)
    for wrong, size in ((1e-3, 1e-3), (math.nan, math.inf)):
        broken = {**ours, "returns": [ours["returns"][0] + wrong, *ours["returns"][1:]]}
        found = bench.ppo_algorithm.largest([broken], [loops])
        assert found["returns"] == pytest.approx(size, rel=1)
        assert found["returns"] > 1e-6 > found["advantages"]


def test_batches_have_empty_sequences_and_clipped_tokens(bench: Any) -> None:
    made = [bench.ppo_algorithm.batch(seed, least=0) for seed in range(20)]
    assert any(0 in each.lengths for each in made)
    assert all(sum(bench.ppo_algorithm.by_loops(each)["clipped tokens"]) > each.tokens / 4 for each in made)


def test_without_a_network_the_row_says_that_trl_is_missing(bench: Any) -> None:
    row = bench.ppo_algorithm.run_trl(quick=True)
    assert row.figures == ()
    assert "TRL could not be run" in row.notes[0]
