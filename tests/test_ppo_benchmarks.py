"""The rows of benchmarks/ppo.py on a few batches, and that they see what differs."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """The module of both rows, and none of that folder in the interpreter afterwards."""
    before = set(sys.modules)
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module("ppo_algorithm")
    sys.path.remove(str(FOLDER))
    for name in set(sys.modules) - before:
        if (FOLDER / f"{name}.py").is_file():
            del sys.modules[name]


def test_the_formulas_are_those_of_the_loops(bench: Any) -> None:
    row = bench.run_loops(quick=True)
    assert {figure.reached for figure in row.figures if figure.goal} == {True}
    assert {figure.what.partition(",")[0] for figure in row.figures} >= {"returns", "β", "policy loss"}


def test_a_difference_or_nan_is_found(bench: Any) -> None:
    made = bench.batch(3, least=1)
    ours, loops = bench.by_redraft(made, torch.float64), bench.by_loops(made)
    for wrong, size in ((1e-3, 1e-3), (math.nan, math.inf)):
        broken = {**ours, "returns": [ours["returns"][0] + wrong, *ours["returns"][1:]]}
        found = bench.largest([broken], [loops])
        assert found["returns"] == pytest.approx(size, rel=1)
        assert found["returns"] > 1e-6 > found["advantages"]


def test_batches_have_empty_sequences_and_clipped_tokens(bench: Any) -> None:
    made = [bench.batch(seed, least=0) for seed in range(20)]
    assert any(0 in each.lengths for each in made)
    assert all(sum(bench.by_loops(each)["clipped tokens"]) > each.tokens / 4 for each in made)


@pytest.mark.slow
def test_without_a_network_the_row_says_that_trl_is_missing(bench: Any) -> None:
    row = bench.run_trl(quick=True)
    assert row.figures == ()
    assert "TRL could not be run" in row.notes[0]
