"""`redraft train ppo`: a model answers prompts, and learns from the reward of each answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redraft.cli.train.running import TrainCommand, Words, run, try_result
from redraft.train.settings.options import PPO

if TYPE_CHECKING:
    from redraft.train.stages import Stages


def ppo(words: Words = None) -> None:
    """Train a model with reinforcement learning on any reward.

    The model answers prompts, --reward judges the answers, and PPO, RLOO or GRPO (--algorithm) makes the
    good ones likelier. The reward is a check, a reward model, a Python function, a program, a server, or a
    sum of several. All answers are in samples.jsonl. Recipes, flags and resuming are as in
    `redraft train sft`.
    """
    run(TrainCommand(PPO, _stages, lambda *_: None, lambda *_: None, try_result), words)


def _stages() -> Stages[Any]:
    from redraft.train.rl.stages import PPO_STAGES

    return PPO_STAGES
