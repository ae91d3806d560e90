"""PPO in two processes equals PPO in one, also when they are stopped and resume."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import testing

from tests.train.rl import two_processes
from tests.train.rl.test_rollouts import curve, samples
from tests.train.together import run_together

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("two")
    said = run_together("tests.train.rl.two_processes", two_processes.RANKS, made)
    assert all((made / f"said-{rank}").exists() for rank in range(two_processes.RANKS)), said
    return made


@pytest.mark.parametrize("kind", two_processes.KINDS)
def test_two_processes_train_as_one_does(folder: Path, tmp_path: Path, kind: str) -> None:
    """Responses are the same. Sums over 4 rows and over 2 + 2 differ in the last of 24 bits, 6e-8.

    That grows over 16 steps, to 2e-5 of a loss near 0.
    """
    two_processes.made(tmp_path, kind).run()
    for ours, theirs in zip(samples(folder / kind), samples(tmp_path), strict=True):
        assert ours.pop("log_probs") == pytest.approx(theirs.pop("log_probs"), abs=1e-3)
        assert ours == theirs
    assert len(curve(folder / kind)) == 10
    for one, two in zip(curve(tmp_path), curve(folder / kind), strict=True):
        assert two == pytest.approx(one, rel=1e-4, abs=1e-6)
    (last,) = (tmp_path / "checkpoint-15").glob("*model.safetensors")
    other = folder / kind / "checkpoint-15" / last.name
    testing.assert_close(load_file(other), load_file(last), rtol=1e-4, atol=1e-6)


def test_a_signal_to_one_process_between_chunks_stops_both_and_both_go_on(folder: Path) -> None:
    assert curve(folder / "stopped") == curve(folder / "ppo")
    assert samples(folder / "stopped") == samples(folder / "ppo")


def test_processes_that_resume_within_a_batch_have_the_curve_of_an_unbroken_run(folder: Path) -> None:
    assert curve(folder / "resumed") == curve(folder / "ppo")


def test_a_reward_that_fails_in_one_process_ends_both(folder: Path) -> None:
    assert (folder / "said-1").read_text() == "the reward is broken"
    assert "the processes of this run cannot reach each other" in (folder / "said-0").read_text()
