from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForSequenceClassification

from redraft.chain import Chain
from redraft.train import LOG, SAMPLES, checkpoints
from redraft.train.ppo import BETA, Experience, padded
from redraft.train.rl.policy import Policy, Response
from redraft.train.rl.rewards import Reward, Rewards, parse_rewards
from tests.train.rl.tiny_policy import TOKENIZER, loop, policy, prompts, rollouts, shaken, share_of_e
from tests.train.tiny import SHAPE, lines
from tests.train.tokenizer_kinds import tokenizer

LEARNS: dict[str, Any] = {"num_rollouts": 32, "chunk_size": 32, "init_kl_coef": 0.0}


def curve(folder: Path) -> list[dict[str, Any]]:
    dropped = ("tokens_per_second", "memory_gb", "train_loss")
    return [{name: each for name, each in line.items() if name not in dropped} for line in lines(folder)]


def numbers(
    folder: Path, name: str, reward: Reward = share_of_e, steps: int = 48, **settings: Any
) -> list[float]:
    source = rollouts(folder, policy(**LEARNS | settings), reward, size=16)
    more: dict[str, Any] = {"save_strategy": "no", "per_device_train_batch_size": 16}
    loop(folder, source, max_steps=steps, learning_rate=3e-3, **more).run()
    return [line[name] for line in curve(folder) if name in line]


def test_a_batch_has_what_the_policy_said_when_it_wrote(tmp_path: Path) -> None:
    made = shaken(policy())
    (first, *_) = rollouts(tmp_path, made).batches(0)
    seen = made.see(first["input_ids"], first["starts"], first["mask"])
    assert torch.allclose(seen.log_probs, first["log_probs"], atol=1e-5)
    assert torch.allclose(seen.values, first["values"], atol=1e-5)
    assert first["advantages"].shape == first["returns"].shape == first["mask"].shape


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_sampler_says_what_the_trainer_says_in_32_bits(tmp_path: Path, temperature: float) -> None:
    source = rollouts(tmp_path, shaken(policy(temperature=temperature)))
    list(source.batches(0))
    batch, said = source._batch, [each["log_probs"] for each in samples(tmp_path)]
    for row, (found, mask) in enumerate(zip(batch["log_probs"], batch["mask"], strict=True)):
        assert said[row] == pytest.approx(found[mask].tolist(), abs=2e-3)  # of logits up to 1,000
    assert 0 <= source.metrics()["sampler_kl"] < 1e-6


def test_progress_counts_answers_then_updates(tmp_path: Path) -> None:
    source = rollouts(tmp_path, policy())
    notes: list[str] = []
    source.note = notes.append
    list(source.batches(0))
    assert notes[0].startswith("0 of 8 answers written, ")
    assert any(note.startswith("8 of 8 answers written") for note in notes)
    assert notes[-1] == f"update {len(source)} of {len(source)} on these answers"


def test_a_pass_reads_each_response_once_and_passes_differ(tmp_path: Path) -> None:
    source = rollouts(tmp_path, policy())
    a_pass = len(source) // source.own.ppo_epochs
    rows = [source._rows(0, number) for number in range(len(source))]
    one, two = ([*chain.from_iterable(rows[start : start + a_pass])] for start in (0, a_pass))
    assert sorted(one) == sorted(two) == list(range(8))
    assert one != two
    assert [source._rows(1, number) for number in range(len(source))] != rows


def test_all_prompts_are_asked_before_any_is_asked_again(tmp_path: Path) -> None:
    source = rollouts(tmp_path, policy())
    asked = [each.record.id for epoch in range(3) for each in source._asked(epoch)]
    names = sorted(each.record.id for each in prompts())
    for start in range(0, len(asked), len(names)):
        assert sorted(asked[start : start + len(names)]) == names


def test_the_names_of_a_minibatch_are_those_of_its_rows(tmp_path: Path) -> None:
    source = rollouts(tmp_path, policy())
    batch = next(source.batches(0))
    tokens = {each.record.id: list(each.tokens) for each in prompts()}
    for name, ids, start in zip(source.names(0, 0), batch["input_ids"], batch["starts"], strict=True):
        assert ids[:start].tolist() == tokens[name]


def samples(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / SAMPLES).read_text("utf-8").splitlines()]


def test_a_response_ends_with_the_stop_token_or_at_the_limit(tmp_path: Path) -> None:
    source = rollouts(tmp_path, policy(max_new_tokens=100))
    list(source.batches(0))
    written, end = samples(tmp_path), TOKENIZER.eos_token_id
    assert {each["ended"] for each in written} == {True, False}
    for each in written:
        assert (each["tokens"][-1] == end) == each["ended"]
        assert each["ended"] or len(each["tokens"]) == 100
        assert end not in each["tokens"][:-1]
    assert source.metrics()["ended"] == mean(each["ended"] for each in written)


def test_a_sample_has_its_prompt_answer_and_reward(tmp_path: Path) -> None:
    list(rollouts(tmp_path, policy()).batches(0))
    asked = {each.record.id: each.record.prompt.said for each in prompts()}
    for number, each in enumerate(samples(tmp_path)):
        assert (each["rollout"], each["row"]) == (0, number)
        assert each["prompt"] == asked[each["id"]]
        assert each["reward"] == each["answer"].count("e") / max(len(each["answer"]), 1)


def test_a_rollout_batch_that_was_not_whole_is_written_again(tmp_path: Path) -> None:
    asked = iter([False, True])
    assert list(rollouts(tmp_path, policy()).batches(0, stops=lambda: next(asked))) == []
    assert len(samples(tmp_path)) == 4
    with (tmp_path / SAMPLES).open("a") as file:
        file.write('{"rollout": 0, "row": 4, "torn')
    again = list(rollouts(tmp_path, policy()).batches(0))
    for one, other in zip(again, list(rollouts(tmp_path / "whole", policy()).batches(0)), strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert samples(tmp_path) == samples(tmp_path / "whole")
    rollouts(tmp_path, policy())._samples.open(1)
    assert len(samples(tmp_path)) == 8, "a run that resumes keeps earlier rollout batches"


def test_a_sum_of_rewards_shows_its_parts(tmp_path: Path) -> None:
    async def length(chains: Sequence[Chain]) -> list[float]:
        return [float(len(each.answer)) for each in chains]

    summed = Rewards({"2*e": (2.0, share_of_e), "-.5*length": (-0.5, length)})
    source = rollouts(tmp_path, policy(), summed)
    list(source.batches(0))
    written, means = samples(tmp_path), source.metrics()
    for each in written:
        answer = each["answer"]
        share = answer.count("e") / max(len(answer), 1)
        assert each["rewards"] == {"2*e": 2 * share, "-.5*length": -len(answer) / 2}
        assert each["reward"] == sum(each["rewards"].values())
    for form in summed.parts:
        assert means[f"reward/{form}"] == mean(each["rewards"][form] for each in written)


def test_only_a_value_head_explains_variance(tmp_path: Path) -> None:
    for algorithm, has in (("ppo", True), ("rloo", False), ("grpo", False)):
        source = rollouts(tmp_path / algorithm, policy(algorithm=algorithm))
        list(source.batches(0))
        assert ("explained_variance" in source.metrics()) == has


def test_a_response_ends_wherever_the_model_ends_a_turn(tmp_path: Path) -> None:
    """Chat models such as Gemma and Phi-3 end turns with a token that is not the tokenizer's."""
    list(rollouts(tmp_path / "plain", policy()).batches(0))
    turn = samples(tmp_path / "plain")[0]["tokens"][1]
    made = policy()
    made.model.generation_config.eos_token_id = [TOKENIZER.eos_token_id, turn]
    list(rollouts(tmp_path / "chat", made).batches(0))
    for each in samples(tmp_path / "chat"):
        assert turn not in each["tokens"][:-1]
        assert each["ended"] == (each["tokens"][-1] in (turn, TOKENIZER.eos_token_id))
    assert any(each["tokens"][-1] == turn for each in samples(tmp_path / "chat"))


async def shifted(chains: Sequence[Chain]) -> list[float]:
    return [10 + each for each in await share_of_e(chains)]


@pytest.mark.parametrize(
    ("algorithm", "steps"), [pytest.param("ppo", 80, marks=pytest.mark.slow), ("rloo", 48), ("grpo", 48)]
)
def test_a_reward_is_learnt_also_where_it_is_shifted(tmp_path: Path, algorithm: str, steps: int) -> None:
    rewards = numbers(tmp_path, "reward", shifted, steps, algorithm=algorithm)
    assert mean(rewards[-3:]) > mean(rewards[:3]) + 0.15


@pytest.mark.slow
def test_a_run_that_resumes_at_any_checkpoint_has_the_curve_of_an_unbroken_one(tmp_path: Path) -> None:
    settings = {"target": 1.0}
    loop(tmp_path / "whole", rollouts(tmp_path / "whole", policy(**settings)), learning_rate=3e-3).run()
    for step in (3, 6, 9, 12):
        folder = tmp_path / f"from {step}"
        again = loop(folder, rollouts(folder, policy(**settings)), learning_rate=3e-3)
        folder.mkdir()
        (folder / LOG).write_bytes((tmp_path / "whole" / LOG).read_bytes())
        kept = folder / f"checkpoint-{step}"
        kept.symlink_to(tmp_path / "whole" / kept.name)
        again.run(checkpoints.newest(folder)[0])
        assert curve(folder) == curve(tmp_path / "whole")


def test_a_length_may_count_the_prompt_too(tmp_path: Path) -> None:
    most = max(len(each.tokens) for each in prompts()) + 9
    list(rollouts(tmp_path, policy(max_length=most)).batches(0))
    lengths = {each.record.id: len(each.tokens) for each in prompts()}
    cut = [each for each in samples(tmp_path) if not each["ended"]]
    assert cut
    assert all(lengths[each["id"]] + len(each["tokens"]) == most for each in cut)


def silent() -> Policy:
    made = policy()
    head: Any = made.model.get_base_model().get_output_embeddings()
    head.bias = nn.Parameter(torch.zeros(len(TOKENIZER)), requires_grad=False)
    head.bias[TOKENIZER.eos_token_id] = 1e3
    return made


def finite(folder: Path) -> list[dict[str, Any]]:
    lines = curve(folder)
    assert lines
    assert all(isinstance(each, float | int) for line in lines for each in line.values())  # not null
    return lines


def reward_model(folder: Path, kind: str) -> str:
    made = tokenizer(kind)
    LlamaForSequenceClassification(
        LlamaConfig(vocab_size=len(made), **SHAPE, num_labels=1, pad_token_id=0)
    ).save_pretrained(folder)
    made.save_pretrained(folder)
    return f"reward:{folder}"


@pytest.mark.parametrize("judge", ["contains:e", "reward"])
def test_a_run_whose_answers_are_all_empty_goes_on(tmp_path: Path, judge: str) -> None:
    form = reward_model(tmp_path / "judge", "bytes") if judge == "reward" else judge
    loop(tmp_path, rollouts(tmp_path, silent(), parse_rewards([form])), max_steps=8).run()
    assert {line["response_tokens"] for line in finite(tmp_path) if "reward" in line} == {1.0}
    for each in samples(tmp_path):
        assert (each["answer"], each["tokens"], each["ended"]) == ("", [TOKENIZER.eos_token_id], True)
        assert judge == "reward" or each["reward"] == 0.0


def test_a_run_that_ends_inside_a_rollout_batch_has_a_line_of_it(tmp_path: Path) -> None:
    loop(tmp_path, rollouts(tmp_path, policy()), max_steps=6, logging_steps=4, save_strategy="no").run()
    assert [line["step"] for line in finite(tmp_path) if "reward" in line] == [4, 6]


# Tensors of rollout batches, by the algorithm.


def responses(*lengths: int) -> list[Response]:
    rows = [tuple(range(10 + 9 * number, 10 + 9 * number + length)) for number, length in enumerate(lengths)]
    return [Response(row, "text", len(row) % 2 == 0) for row in rows]


def experience(**settings: Any) -> Experience:
    made = shaken(policy(**settings))
    return Experience(made, made.own, size=2, bf16=False)


def completed(made: Experience, scores: tuple[float, ...], *lengths: int) -> dict[str, torch.Tensor]:
    return made.complete(prompts(len(lengths)), responses(*lengths), [{"a": score} for score in scores])


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
    batch = completed(experience(init_kl_coef=0.0, lam=1.0), (2.0, -1.0), 3, 4)
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
        found.append(made.complete(asked, drawn, [{"a": 1.0}, {"a": 0.0}])["advantages"][0])
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
    first = completed(made, (1.0, 0.0, 3.0, 3.0), 2, 2, 2, 2)["advantages"][:, 0]
    assert first[0] == -first[1] > 0
    assert first[2] == first[3] == 0


def test_grpo_has_its_kl_in_the_loss() -> None:
    made = experience(algorithm="grpo", num_generations=2, init_kl_coef=0.3)
    assert torch.all(completed(made, (1.0, 1.0), 3, 4)["advantages"] == 0)
    assert (made._policy.kl_coef, experience(init_kl_coef=0.3)._policy.kl_coef) == (0.3, 0.0)


@pytest.mark.parametrize("name", ["ppo", "rloo", "grpo"])
def test_equal_rewards_teach_nothing(name: str) -> None:
    made = policy(algorithm=name, num_generations=8, init_kl_coef=0.0, lam=1.0)
    found = Experience(made, made.own, size=2, bf16=False)
    assert not completed(found, (64.2,) * 8, *range(2, 10))["advantages"].any()
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
    assert completed(made, (1.0, 1.0), 3, 4)["returns"][:, 0].tolist() == pytest.approx([-4.0, 1.0], abs=1e-5)
    assert made.metrics["reward"] == 1.0  # what the reward said


def written(folder: Path, **settings: Any) -> Experience:
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
        assert written(tmp_path / str(start), init_kl_coef=start, target=1e-3, horizon=1).beta == expected


def test_a_restored_one_goes_on_as_the_first() -> None:
    settings: dict[str, Any] = {"target": 1.0, "horizon": 10}
    one, other = experience(**settings), experience(**settings)
    completed(one, (1.0, 4.0), 3, 4)
    other.load_state_dict(one.state_dict())
    other._policy.load_state_dict(one._policy.state_dict())
    wanted = completed(one, (2.0, 7.0), 2, 5)
    found = completed(other, (2.0, 7.0), 2, 5)
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    assert one.beta == other.beta
