"""The settings of `redraft train ppo`, by the names that PPO trainers use. Nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from redraft.formats import TrainingFormat
from redraft.train.settings.options import (
    DATA,
    DEFAULTS,
    FIRST,
    MODEL,
    RUN,
    DataOptions,
    TrainVerb,
    own_setting,
)

ROLLOUTS, REWARD, ALGORITHM = "Rollouts", "Reward", "Algorithm"


@dataclass(frozen=True)
class PpoOptions(DataOptions):
    """redraft's settings of a run of PPO. The help texts describe each."""

    format: TrainingFormat = own_setting(
        DATA, "the text of a prompt (chat: the model's own template)", "chat"
    )
    model_max_length: int = own_setting(DATA, "the most tokens of a prompt with its answer", 1024)
    divergence_steps: int = own_setting(RUN, "the loss of PPO does not fall, so it is not watched", 0)
    num_layers_unfrozen: int | None = own_setting(
        MODEL, "with --lora False, how many of the top layers are trained  [2]", None
    )
    algorithm: Literal["ppo", "ppo-trlx", "rloo", "grpo"] = own_setting(
        ALGORITHM, "how advantages are made (ppo-trlx: as StableVicuna was trained, faults included)", "ppo"
    )
    reward: tuple[str, ...] = own_setting(
        REWARD,
        "what judges an answer: a check, reward:MODEL, python:module.function, score:PROGRAM or https://…; "
        "several add up: A 2*B",
        (),
    )
    revision_bonus: float = own_setting(
        REWARD,
        "credit answer 0 of --chains by itself, and what follows with this times what revising changed, too",
        0.0,
    )
    chains: bool = own_setting(
        ROLLOUTS, "let the policy write chains (--format selfee); the final answer is judged", default=False
    )
    num_rollouts: int = own_setting(ROLLOUTS, "answers in a rollout batch, over all processes", 128)
    chunk_size: int = own_setting(ROLLOUTS, "answers that are written and judged together", 16)
    num_generations: int = own_setting(ROLLOUTS, "answers to each prompt, for rloo and grpo", 4)
    max_new_tokens: int = own_setting(ROLLOUTS, "the most tokens of an answer", 128)
    max_length: int | None = own_setting(
        ROLLOUTS, "the most tokens of a prompt with its answer, in place of --max_new_tokens", None
    )
    min_new_tokens: int = own_setting(ROLLOUTS, "the fewest tokens of an answer", 0)
    rollout_url: str | None = own_setting(
        ROLLOUTS,
        "let a server of vLLM write the answers, such as http://127.0.0.1:8000/v1; it loads each adapter",
        None,
    )
    temperature: float = own_setting(ROLLOUTS, "temperature of the answers", 1.0)
    missing_eos_penalty: float = own_setting(
        REWARD, "subtracted from the reward of an answer that does not end by itself", 0.0
    )
    scale_reward: Literal["none", "running", "ref"] = own_setting(
        REWARD, "divide by the deviation of all rewards so far (running), or of the first (ref)", "none"
    )
    cliprange_reward: float | None = own_setting(
        REWARD, "clip rewards to plus or minus this (trlX: 10)", None
    )
    ppo_epochs: int = own_setting(ALGORITHM, "passes over a rollout batch", 4)
    init_kl_coef: float = own_setting(
        ALGORITHM, "price of a nat of KL from the reference policy, at first", 0.05
    )
    target: float | None = own_setting(
        ALGORITHM, "KL of an answer in nats that the price is adapted to; without it, the price stays", None
    )
    first_kl_coef: float | None = own_setting(
        ALGORITHM, "price of KL in answer 0 of --chains, if it is not that of the rest", None
    )
    horizon: int = own_setting(ALGORITHM, "answers over which the price adapts", 10_000)
    gamma: float = own_setting(ALGORITHM, "discount of later rewards", 1.0)
    lam: float = own_setting(ALGORITHM, "lambda of generalised advantage estimation", 0.95)
    cliprange: float = own_setting(ALGORITHM, "clip the ratio of probabilities to 1 plus or minus this", 0.2)
    importance_sampling_clip_max: float = own_setting(
        ALGORITHM,
        "weigh a token by the trainer's probability of it over the sampler's, at most this (0: do not)",
        2.0,
    )
    cliprange_value: float = own_setting(ALGORITHM, "clip the change of values to plus or minus this", 0.2)
    stop_kl: float | None = own_setting(RUN, "end the run when an answer has more nats of KL", None)
    stop_step_kl: float | None = own_setting(
        RUN, "end the run when the steps on a rollout batch move a token by more nats of KL", None
    )
    stop_entropy: float | None = own_setting(RUN, "end the run when a token has fewer nats of entropy", None)
    vf_coef: float = own_setting(ALGORITHM, "weight of the value loss", 0.1)


PPO_DEFAULTS: dict[str, Any] = {
    **DEFAULTS,
    "per_device_train_batch_size": 16,
    "lr_scheduler_type": "constant",
    "warmup_steps": 0,
    "num_train_epochs": 1,
}
"""A rollout batch is a new problem, so the learning rate stays."""

PPO = TrainVerb(
    "ppo",
    PpoOptions,
    PPO_DEFAULTS,
    {
        **FIRST,
        "max_steps": "steps of the optimizer; by default --num_train_epochs decides",
        "num_train_epochs": "passes over the prompts  [1]",
        "per_device_train_batch_size": "answers in a minibatch  [16]",
        "warmup_steps": "steps of warm-up, or below 1 their share of all steps  [0]",
        "seed": "seed of the order of prompts, of sampling, and of all other randomness  [42]",
    },
)

__all__ = ["PPO", "RUN", "PpoOptions"]


def room(own: PpoOptions, prompt: int) -> int:
    """Return the most tokens of an answer to a prompt of so many tokens."""
    return own.max_new_tokens if own.max_length is None else own.max_length - prompt


def samples_each(own: PpoOptions) -> int:
    """Return how many answers a prompt gets in a rollout batch."""
    return own.num_generations if own.algorithm in ("rloo", "grpo") else 1


def layers_unfrozen(own: PpoOptions) -> int:
    """Return how many layers are trained without an adapter: by default as many as in trlX's default."""
    return 2 if own.num_layers_unfrozen is None else own.num_layers_unfrozen
