"""A policy of two small layers that answers prompts, and a loop that trains it on a reward."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments

from redraft.chain import Chain, Prompt
from redraft.train.load import add_adapter
from redraft.train.loop import Loop
from redraft.train.options import PpoOptions
from redraft.train.ppo import Learner, Ppo, RolloutPrompt
from redraft.train.rl.rewards import Reward, Rewards
from tests.train.tiny import SHAPE
from tests.train.tokenizer_kinds import tokenizer

TOKENIZER = tokenizer("bytes")
SETTINGS: dict[str, Any] = {
    "num_rollouts": 8, "chunk_size": 4, "ppo_epochs": 2, "max_new_tokens": 6, "lora_r": 4,
    "reward": ("contains:e",),
}  # fmt: skip


async def share_of_e(chains: Sequence[Chain]) -> list[float]:
    return [each.answer.count("e") / max(len(each.answer), 1) for each in chains]


def policy(**settings: Any) -> Learner:
    torch.manual_seed(1)
    made = TOKENIZER
    config = LlamaConfig(
        vocab_size=len(made),
        **SHAPE,
        max_position_embeddings=128,
        bos_token_id=made.bos_token_id,
        eos_token_id=made.eos_token_id,
        pad_token_id=made.eos_token_id,
    )
    own = PpoOptions(**(SETTINGS | settings))
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # else all tokens are nearly as likely, whatever the layers say
    return Learner(add_adapter(model, own, note={}), own)


def shaken(made: Learner) -> Learner:
    torch.manual_seed(2)
    for name, each in made.named_parameters():
        if each.requires_grad:
            with torch.no_grad():
                each.add_(torch.randn_like(each) * (0.3 if "lora" in name else 0.1))
    return made


def prompts(count: int = 6) -> list[RolloutPrompt]:
    texts = [f"Sort {'the list ' * (number % 3)}{number}." for number in range(count)]
    return [
        RolloutPrompt(Chain(id=f"p/{number}", prompt=Prompt(instruction=text)), tuple(TOKENIZER.encode(text)))
        for number, text in enumerate(texts)
    ]


def rollouts(
    folder: Path, made: Learner, reward: Reward | Rewards = share_of_e, *, size: int = 4, **more: Any
) -> Ppo:
    settings: dict[str, Any] = {"size": size, "seed": 3, "bf16": False, "folder": folder}
    judge = reward if isinstance(reward, Rewards) else Rewards({"a reward": (1.0, reward)})
    return Ppo(made, TOKENIZER, prompts(), judge, made.own, **settings, **more)


def loop(folder: Path, read: Ppo, **more: Any) -> Loop:
    settings: dict[str, Any] = {
        "output_dir": str(folder), "use_cpu": True, "max_steps": 16, "save_steps": 3, "save_total_limit": 10,
        "per_device_train_batch_size": 4, "learning_rate": 1e-2, "lr_scheduler_type": "constant",
        "logging_steps": 1, "report_to": "none",
    }  # fmt: skip
    args = TrainingArguments(**(settings | more))
    return Loop(read.policy.model, args, read, around=read.policy, tokenizer=TOKENIZER, quiet=True)
