"""Faults of a run, said in words."""

from __future__ import annotations

import pytest

from redraft.train.rl.metrics import LATE, LONG, Faults

SOUND = {
    "reward": 0.5,
    "kl": 1.0,
    "rollout_entropy": 2.0,
    "response_tokens": 20.0,
    "reward_length_correlation": 0.1,
}


def said(faults: Faults, times: int = LATE, **numbers: float) -> list[str]:
    """What is said of so many rollout batches with these numbers."""
    return [line for _ in range(times) for line in faults.add({**SOUND, **numbers})]


def test_rewards_that_are_all_the_same_are_said() -> None:
    (line,) = said(Faults(), times=2 * LATE, reward_std=0.0)
    assert "the same reward, 0.5, so there is nothing to learn" in line


def test_prompts_whose_answers_all_have_the_same_reward_are_said() -> None:
    assert said(Faults(), times=9, reward_std=1.0, groups_without_spread=0.9) == []
    (line,) = said(Faults(), reward_std=1.0, groups_without_spread=1.0)
    assert "all answers to a prompt have the same reward" in line


@pytest.mark.parametrize("variance", [0.0, -0.3])
def test_a_value_head_that_foresees_nothing_for_long_is_said(variance: float) -> None:
    faults = Faults()
    assert said(faults, times=LONG - 1, explained_variance=variance) == []
    (line,) = said(faults, explained_variance=variance)
    assert f"explained_variance is {variance:g}" in line
    assert said(faults, times=1, explained_variance=0.1) == []
    assert said(Faults(), times=LONG, explained_variance=0.0, reward_std=0.0) == [
        *said(Faults(), reward_std=0.0)
    ]


def test_of_a_sound_run_nothing_is_said() -> None:
    assert said(Faults(target=6.0), times=20) == []


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"kl": 19.0}, "runs away from its reference: an answer has 19 nats"),
        ({"rollout_entropy": 0.3}, "fell from 2 to 0.3 nats"),
        ({"reward_length_correlation": 0.9, "response_tokens": 40.0}, "longer answers get more"),
        ({"reward_length_correlation": -0.9, "response_tokens": 9.0}, "shorter answers get more"),
        ({"step_kl": 0.5}, "move a token by 0.5 nats of KL, which may break the policy"),
    ],
)
def test_a_fault_that_lasts_is_said_once_until_it_has_passed(numbers: dict[str, float], words: str) -> None:
    faults = Faults(target=6.0)
    assert said(faults, times=1) == []
    assert said(faults, times=LATE - 1, **numbers) == []
    (line,) = said(faults, times=10, **numbers)
    assert words in line
    assert said(faults) == []
    assert len(said(faults, **numbers)) == 1


def test_without_a_target_kl_is_far_at_thirty_nats() -> None:
    assert said(Faults(), kl=29.0) == []
    assert len(said(Faults(), kl=31.0)) == 1


def test_long_answers_that_were_always_long_are_no_fault() -> None:
    assert said(Faults(), times=9, reward_length_correlation=0.9) == []


def test_rewards_that_became_the_same_are_not_called_too_easy() -> None:
    faults = Faults()
    said(faults, times=1, reward_std=0.3)
    (line,) = said(faults, reward=0.0, reward_std=0.0, kl=21.0)
    assert "the same reward, 0, after 0.5 on average at first" in line
    assert "An answer has 21 nats of KL" in line


def test_one_cut_answer_of_many_is_not_called_0_percent() -> None:
    (line,) = said(Faults(), ended=1 - 1 / 256)
    assert line.startswith("0.391% of the answers are cut")


def test_answers_that_are_cut_and_do_not_pay_for_it_are_said_once() -> None:
    faults = Faults()
    (line,) = said(faults, ended=0.75)
    assert "25% of the answers are cut at the most tokens, and the reward judges them as they stand" in line
    assert said(faults, ended=0.25) == []
    assert said(Faults(cut_pays=True), ended=0.75) == []


def test_a_resumed_run_remembers() -> None:
    faults, again = Faults(), Faults()
    said(faults, times=1)
    said(faults, times=LATE - 1, rollout_entropy=0.1)
    again.restore(faults.state())
    assert len(said(again, times=1, rollout_entropy=0.1)) == 1
