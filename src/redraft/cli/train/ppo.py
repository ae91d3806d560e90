"""`redraft train ppo`: a model answers prompts, and learns from the reward of each answer."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from redraft.cli.train.running import TrainCommand, Words, run
from redraft.train.rl.options import PPO

if TYPE_CHECKING:
    from redraft.train.run.run import Ready
    from redraft.train.run.stages import Stages


def ppo(words: Words = None) -> None:
    """Train a model with reinforcement learning on any reward.

    The model answers prompts, --reward judges the answers, and PPO, RLOO or GRPO (--algorithm) makes the
    good ones likelier. The reward is a check, a reward model, a Python function, a server, or a sum of
    several. All answers are in samples.jsonl. Recipes, flags and resuming are as in `redraft train sft`.
    """
    run(TrainCommand(PPO, _stages, lambda *_: None, lambda *_: None, _finish), words)


def _stages() -> Stages[Any]:
    from redraft.train.rl.stages import PPO_STAGES

    return PPO_STAGES


def _finish(ready: Ready) -> str:
    """Return what to type next."""
    own, output = ready.settings.own, str(ready.loop.folder)
    named = own.model_name_or_path
    if own.lora and (named == "default" or named.lower().endswith(".gguf")):
        words = shlex.join(["--base", named, "-o", "adapter.gguf"])
        return f"For llama.cpp: redraft weights lora-gguf {shlex.quote(output)} {words}"
    return f"Try it: redraft ask … --model {shlex.quote(f'{named}+{output}' if own.lora else output)}"
