"""Rollout batches, and runs of PPO on them."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch

from redraft.train.run import checkpoints
from redraft.train.run.logs import LOG
from tests.train.rl.tiny_policy import TOKENIZER, loop, policy, prompts, rollouts, shaken

LEARNS: dict[str, Any] = {"num_rollouts": 32, "chunk_size": 32, "init_kl_coef": 0.0}


def curve(folder: Path) -> list[dict[str, Any]]:
    """The lines of a log, without speed and memory."""
    lines = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    dropped = ("tokens_per_second", "memory_gb", "train_loss")
    return [{name: each for name, each in line.items() if name not in dropped} for line in lines]


def numbers(folder: Path, name: str, **settings: Any) -> list[float]:
    """A number of each rollout batch of a run that learns to write the letter e."""
    source = rollouts(policy(**LEARNS | settings), size=16)
    loop(folder, source, max_steps=40, save_strategy="no", per_device_train_batch_size=16).run()
    return [line[name] for line in curve(folder) if name in line]


def test_a_batch_has_what_the_policy_said_when_it_wrote() -> None:
    made = shaken(policy())
    (first, *_) = rollouts(made).batches(0)
    seen = made.see(first["input_ids"], first["starts"], first["mask"])
    assert torch.allclose(seen.log_probs, first["log_probs"], atol=1e-5)
    assert torch.allclose(seen.values, first["values"], atol=1e-5)
    assert first["advantages"].shape == first["returns"].shape == first["mask"].shape


def test_a_pass_reads_each_response_once_and_passes_differ() -> None:
    source = rollouts(policy())
    a_pass = len(source) // source.own.ppo_epochs
    rows = [source._rows(0, number) for number in range(len(source))]
    one, two = (sum(rows[start : start + a_pass], []) for start in (0, a_pass))
    assert sorted(one) == sorted(two) == list(range(8))
    assert one != two
    assert [source._rows(1, number) for number in range(len(source))] != rows


def test_all_prompts_are_asked_before_any_is_asked_again() -> None:
    source = rollouts(policy())
    asked = [each.name for epoch in range(3) for each in source._asked(epoch)]
    names = sorted(each.name for each in prompts())
    for start in range(0, len(asked), len(names)):
        assert sorted(asked[start : start + len(names)]) == names


def test_the_names_of_a_minibatch_are_those_of_its_rows() -> None:
    source = rollouts(policy())
    batch = next(source.batches(0))
    tokens = {each.name: list(each.tokens) for each in prompts()}
    for name, ids, start in zip(source.names(0, 0), batch["input_ids"], batch["starts"], strict=True):
        assert ids[:start].tolist() == tokens[name]


def test_a_response_ends_with_the_stop_token_or_at_the_limit() -> None:
    source = rollouts(policy(max_new_tokens=100))
    list(source.batches(0))
    ended = [response.ended for _, response, _ in source.samples]
    assert set(ended) == {True, False}
    for _, response, _ in source.samples:
        assert (response.tokens[-1] == TOKENIZER.eos_token_id) == response.ended
        assert response.ended or len(response.tokens) == 100
        assert TOKENIZER.eos_token_id not in response.tokens[:-1]
    assert source.metrics()["ended"] == mean(ended)


@pytest.mark.parametrize("algorithm", ["ppo", "rloo", "grpo"])
def test_the_reward_rises(tmp_path: Path, algorithm: str) -> None:
    rewards = numbers(tmp_path, "reward", algorithm=algorithm)
    assert mean(rewards[-4:]) > mean(rewards[:4]) + 0.2


def test_a_price_on_kl_keeps_the_policy_near_its_reference(tmp_path: Path) -> None:
    dear = numbers(tmp_path / "dear", "kl", init_kl_coef=1.0)
    assert dear[-1] < 0.7 * numbers(tmp_path / "free", "kl")[-1]


@pytest.mark.parametrize("step", [3, 6, 9, 12])
def test_a_run_that_resumes_at_any_checkpoint_has_the_curve_of_an_unbroken_one(
    tmp_path: Path, step: int
) -> None:
    settings = {"target": 1.0, "scale_reward": "running"}
    loop(tmp_path / "whole", rollouts(policy(**settings))).run()
    again = loop(tmp_path / "again", rollouts(policy(**settings)))
    again.folder.mkdir()
    (again.folder / LOG).write_bytes((tmp_path / "whole" / LOG).read_bytes())
    kept = again.folder / f"checkpoint-{step}"
    kept.symlink_to(tmp_path / "whole" / kept.name)
    again.run(checkpoints.named(kept, again.folder))
    assert curve(tmp_path / "again") == curve(tmp_path / "whole")
