"""The rows of benchmarks/ppo.py on a few batches, and that they see what differs."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.train.tiny import model_folder

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
MODULES = ("ppo", "ppo_algorithm", "ppo_exact", "ppo_memory", "ppo_speed")


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """The modules by name, and none of that folder in the interpreter afterwards."""
    before = set(sys.modules)
    sys.path.insert(0, str(FOLDER))
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    sys.path.remove(str(FOLDER))
    for name in set(sys.modules) - before:
        if (FOLDER / f"{name}.py").is_file():
            del sys.modules[name]


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


@pytest.mark.slow
def test_without_a_network_the_row_says_that_trl_is_missing(bench: Any) -> None:
    row = bench.ppo_algorithm.run_trl(quick=True)
    assert row.figures == ()
    assert "TRL could not be run" in row.notes[0]


def test_rows_are_those_of_the_promise(bench: Any) -> None:
    assert list(bench.ppo.ROWS) == ["loops", "trl", "memory", "rollouts", "resumed"]


def test_a_number_that_only_one_curve_has_or_that_differs_is_counted(bench: Any) -> None:
    one = [{"step": 2, "loss": 0.5}, {"step": 4, "loss": 0.25}]
    assert bench.ppo_exact.differing(one, [dict(line) for line in one]) == 0
    assert bench.ppo_exact.differing(one, [{"step": 2, "loss": 0.5 + 1e-16 * 2}, {"step": 4}]) == 2
    assert bench.ppo_exact.differing(one, one[:1]) == 2


def test_a_run_is_killed_past_a_checkpoint_and_in_the_middle_of_a_rollout_batch(
    bench: Any, tmp_path: Path
) -> None:
    exact = bench.ppo_exact
    assert not exact.begun(tmp_path)
    (tmp_path / "samples.jsonl").write_text('{"row": 0}\n' * exact.ROLLOUTS + '{"row"')
    assert not exact.begun(tmp_path)
    (tmp_path / "samples.jsonl").write_text('{"row": 0}\n' * (exact.ROLLOUTS + exact.CHUNK))
    assert exact.begun(tmp_path)
    for step, past in ((8, False), (10, True)):
        (tmp_path / "checkpoint-8").mkdir(exist_ok=True)
        (tmp_path / "log.jsonl").write_text(f'{{"step": {step}}}\n')
        assert exact.past_checkpoint(tmp_path) is past


@pytest.mark.slow
def test_a_killed_run_is_resumed_as_if_it_had_not_been(bench: Any, tmp_path: Path) -> None:
    row = bench.ppo_exact.compared(tmp_path, str(model_folder(tmp_path / "model")), tokens=6)
    assert [figure.median for figure in row.figures] == [0, 0, 0]
    assert len(bench.ppo_exact.curve(tmp_path / "killed")) == 9
