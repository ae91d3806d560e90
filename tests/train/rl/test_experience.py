"""Tensors of rollout batches, by the algorithm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from redraft.train.ppo import BETA, Experience, padded
from redraft.train.rl.samples import Response, Score
from tests.train.rl.tiny_policy import policy, prompts, rollouts, shaken


def responses(*lengths: int) -> list[Response]:
    """Responses of these lengths. Those of an even one ended by themselves."""
    rows = [tuple(range(10 + 9 * number, 10 + 9 * number + length)) for number, length in enumerate(lengths)]
    return [Response(row, "text", len(row) % 2 == 0) for row in rows]


def experience(**settings: Any) -> Experience:
    """Of a policy that is not its reference."""
    made = shaken(policy(**settings))
    return Experience(made, made.own, size=2, bf16=False)


def completed(made: Experience, scores: tuple[float, ...], *lengths: int) -> dict[str, torch.Tensor]:
    """The tensors of responses of these lengths, with these scores."""
    return made.complete(prompts(len(lengths)), responses(*lengths), [Score(score) for score in scores])


def test_rows_are_prompt_and_response() -> None:
    asked, written = prompts(3), responses(3, 0, 5)
    batch = padded(asked, written)
    assert batch["mask"].shape == (3, 5)
    for number, (one, other) in enumerate(zip(asked, written, strict=True)):
        start, count = int(batch["starts"][number]), int(batch["mask"][number].sum())
        assert batch["input_ids"][number, :start].tolist() == list(one.tokens)
        assert batch["input_ids"][number, start : start + count].tolist() == list(other.tokens)


def test_a_batch_of_empty_responses_is_no_error() -> None:
    batch = completed(experience(), (1.0, 0.0), 0, 0)
    assert not batch["mask"].any()
    assert all(each.isfinite().all() for each in batch.values())


def test_a_score_is_a_reward_of_the_last_token() -> None:
    made = experience(init_kl_coef=0.0, lam=1.0)
    batch = completed(made, (2.0, -1.0), 3, 4)
    assert torch.allclose(batch["returns"][0], torch.tensor([2.0, 2.0, 2.0, 0.0]), atol=1e-6)
    assert torch.allclose(batch["returns"][1], torch.tensor([-1.0] * 4), atol=1e-6)


def test_advantages_of_ppo_are_whitened_over_the_batch() -> None:
    batch = completed(experience(lam=1.0), (2.0, -1.0, 0.5), 3, 4, 2)
    real = batch["advantages"][batch["mask"]]
    assert abs(float(real.mean())) < 1e-5
    assert float(real.std(unbiased=False)) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("lam", [1.0, 0.9])
def test_the_value_head_starts_at_the_mean_of_what_is_to_come(lam: float) -> None:
    own = policy(init_kl_coef=0.0, lam=lam)
    made = Experience(own, own.own, size=2, bf16=False)
    batch = completed(made, (10.0, 11.0), 3, 3)
    assert own.value_head.bias.item() == pytest.approx(10.5)
    assert batch["values"].tolist() == [[10.5] * 3] * 2
    assert batch["advantages"][0].max() < 0 < batch["advantages"][1].min()
    completed(made, (20.0, 30.0), 3, 3)
    assert own.value_head.bias.item() == pytest.approx(10.5)  # it is learnt from then on


def test_only_ppo_itself_starts_there() -> None:
    for name in ("rloo", "grpo"):
        made = policy(algorithm=name, num_generations=2)
        completed(Experience(made, made.own, size=2, bf16=False), (10.0, 11.0), 3, 3)
        assert not made.value_head.bias.any()


def weighed(clip_max: float, name: str = "rloo") -> torch.Tensor:
    """How much the tokens of an answer count that the sampler drew with ¼, ½, 1 and 2 times π."""
    found = []
    for apart in (0.0, 1.0):
        made = experience(
            algorithm=name, num_generations=2, init_kl_coef=0.0, importance_sampling_clip_max=clip_max
        )
        asked, texts = prompts(2), responses(4, 4)
        batch = padded(asked, texts)
        said = made._seen(batch["input_ids"], batch["starts"], batch["mask"])[0].log_probs
        said = said + apart * torch.tensor([0.25, 0.5, 1.0, 2.0]).log()
        drawn = [replace(each, log_probs=tuple(row.tolist())) for each, row in zip(texts, said, strict=True)]
        scores = [Score(1.0), Score(0.0)]
        found.append(made.complete(asked, drawn, scores)["advantages"][0])
        assert made.metrics["sampler_kl"] == pytest.approx(0.5284 if apart else 0.0, abs=1e-4)
    return found[1] / found[0]


def test_tokens_that_the_sampler_drew_too_often_count_less() -> None:
    assert torch.allclose(weighed(2.0), torch.tensor([2.0, 2.0, 1.0, 0.5]), atol=1e-5)
    assert torch.allclose(weighed(3.0, "ppo"), torch.tensor([3.0, 2.0, 1.0, 0.5]), atol=1e-5)
    assert torch.allclose(weighed(0.0), torch.ones(4))


def test_a_sampler_that_says_nothing_is_believed() -> None:
    made = experience(algorithm="rloo", num_generations=2, init_kl_coef=0.0)
    assert completed(made, (1.0, 0.0), 2, 2)["advantages"].tolist() == [[1, 1], [-1, -1]]
    assert "sampler_kl" not in made.metrics


@pytest.mark.parametrize("name", ["rloo", "grpo"])
def test_answers_to_one_prompt_are_compared(name: str) -> None:
    made = experience(algorithm=name, num_generations=2, init_kl_coef=0.0)
    batch = completed(made, (1.0, 0.0, 3.0, 3.0), 2, 2, 2, 2)
    first = batch["advantages"][:, 0]
    assert first[0] == -first[1] > 0
    assert first[2] == first[3] == 0


def test_grpo_has_its_kl_in_the_loss() -> None:
    made = experience(algorithm="grpo", num_generations=2, init_kl_coef=0.3)
    assert torch.all(completed(made, (1.0, 1.0), 3, 4)["advantages"] == 0)
    assert made._policy.kl_coef == 0.3
    assert experience(init_kl_coef=0.3)._policy.kl_coef == 0.0


@pytest.mark.parametrize("name", ["ppo", "rloo", "grpo"])
@pytest.mark.parametrize("scale", ["none", "running"])
def test_equal_rewards_teach_nothing(name: str, scale: str) -> None:
    made = policy(algorithm=name, num_generations=8, init_kl_coef=0.0, lam=1.0, scale_reward=scale)
    found = Experience(made, made.own, size=2, bf16=False)
    batch = completed(found, (64.2,) * 8, *range(2, 10))
    assert not batch["advantages"].any()
    assert found.metrics["reward_std"] == found.metrics["reward_length_correlation"] == 0


def test_the_share_of_prompts_whose_answers_have_equal_rewards_is_known() -> None:
    made = experience(algorithm="grpo", num_generations=2, cliprange_reward=5.0)
    completed(made, (1.0, 0.0, 0.7, 0.7, 6.0, 9.0, 3.0, 4.0), *[2] * 8)
    assert made.metrics["groups_without_spread"] == 0.5  # 6 and 9 are both clipped to 5
    by_ppo = experience()
    completed(by_ppo, (1.0, 1.0), 2, 3)
    assert "groups_without_spread" not in by_ppo.metrics


def test_an_answer_that_does_not_end_pays_a_penalty() -> None:
    made = experience(missing_eos_penalty=5.0, init_kl_coef=0.0, lam=1.0)
    returns = completed(made, (1.0, 1.0), 3, 4)["returns"][:, 0]
    assert returns.tolist() == pytest.approx([-4.0, 1.0], abs=1e-5)
    assert made.metrics["reward"] == 1.0  # what the reward said


def test_rewards_are_divided_by_a_deviation() -> None:
    made = experience(scale_reward="running", init_kl_coef=0.0, lam=1.0, cliprange_reward=100.0)
    completed(made, (0.0, 10.0), 2, 2)
    returns = completed(made, (20.0, 20.0), 2, 2)["returns"][:, 0]
    deviation = float(torch.tensor([0.0, 10, 20, 20]).std())
    assert returns.tolist() == pytest.approx([20 / deviation] * 2, rel=1e-5)


def test_rewards_are_clipped() -> None:
    made = experience(cliprange_reward=1.5, init_kl_coef=0.0, lam=1.0)
    assert completed(made, (9.0, -9.0), 2, 2)["returns"][:, 0].tolist() == pytest.approx([1.5, -1.5])


def written(folder: Path, **settings: Any) -> Experience:
    """After a rollout batch that the policy itself wrote."""
    source = rollouts(folder, shaken(policy(**settings)))
    next(source.batches(0))
    return source._experience


def test_the_price_of_kl_rises_above_its_target_and_falls_below(tmp_path: Path) -> None:
    for target, rises in ((1e-3, True), (1e12, False)):
        made = written(tmp_path / str(target), target=target, horizon=10)
        assert made.metrics["kl"] > 0.01
        assert (made.beta > 0.05) is rises


def test_the_price_stays_within_bounds_and_a_price_of_nothing_stays_nothing(tmp_path: Path) -> None:
    for start, expected in ((BETA[1], BETA[1]), (0.0, 0.0)):
        made = written(tmp_path / str(start), init_kl_coef=start, target=1e-3, horizon=1)
        assert made.beta == expected


def test_a_restored_one_goes_on_as_the_first() -> None:
    settings: dict[str, Any] = {"scale_reward": "running", "target": 1.0, "horizon": 10}
    one, other = experience(**settings), experience(**settings)
    completed(one, (1.0, 4.0), 3, 4)
    other.load_state_dict(one.state_dict())
    other._policy.load_state_dict(one._policy.state_dict())
    wanted = completed(one, (2.0, 7.0), 2, 5)
    found = completed(other, (2.0, 7.0), 2, 5)
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    assert one.beta == other.beta
