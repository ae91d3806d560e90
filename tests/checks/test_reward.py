from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest

from redraft.chain import Prompt
from redraft.checks.base import run_check
from redraft.checks.judge import Reward, logistic
from redraft.checks.parse import parse_check
from redraft.engines.hf.reward import RewardModel
from redraft.errors import CheckSyntaxError, UsageError
from tests.train.rewards import pairs, ready
from tests.train.tiny import model_folder

PROMPT = Prompt(instruction="Add 3 and 3.")
GOOD, BAD = "It is 6.", "I do not know 3!"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("reward")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.setenv("REDRAFT_CACHE", str(folder / "cache"))
        base = str(model_folder(folder / "base"))
        pairs(folder / "pairs.jsonl")
        ready(base, "--lora", "False", "--learning_rate", "1e-2", "--max_steps", "12").train()
    return str(folder / "out")


def test_the_score_is_the_logistic_function_of_the_reward(model: str) -> None:
    check = parse_check(f"reward:{model}")
    result = asyncio.run(run_check(check, GOOD, PROMPT))
    (reward,) = RewardModel.load(model).score([(PROMPT, GOOD)])
    assert (result.score, result.passed) == (pytest.approx(1 / (1 + math.exp(-reward))), reward >= 0)
    assert f"a score of {result.score:.2f} (best: 1; reward {reward:+.2f})" in result.message
    assert result.score > asyncio.run(run_check(check, BAD, PROMPT)).score


def test_the_bar_decides_what_passes(model: str) -> None:
    (reward,) = RewardModel.load(model).score([(PROMPT, GOOD)])
    share = logistic(reward)
    below, above = (parse_check(f"reward[{bar:.4f}]:{model}") for bar in (share - 0.01, share + 0.01))
    assert asyncio.run(run_check(below, GOOD, PROMPT)).passed
    failed = asyncio.run(run_check(above, GOOD, PROMPT))
    assert not failed.passed
    assert f"and {share + 0.01:g}"[:8] in failed.message
    assert parse_check(below.name) == below


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("reward", "has no value, but needs a colon"),
        ("reward:", "has no text after the colon"),
        ("reward[high]:x", r"reward\[high\]: write the lowest passing score"),
        ("reward[7]:x", "the score must be between 0 and 1"),
    ],
)
def test_what_is_wrong_is_an_error_before_anything_is_loaded(text: str, said: str) -> None:
    with pytest.raises(CheckSyntaxError, match=said):
        parse_check(text)


def test_a_model_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no reward model"):
        parse_check(f"reward:{tmp_path / 'nothing'}")


def test_large_rewards_overflow_nothing() -> None:
    assert (logistic(1e4), logistic(-1e4), logistic(0.0)) == (1.0, 0.0, 0.5)
    assert Reward("x", None, 0.7).name == "reward[0.7]:x"  # type: ignore[arg-type]
