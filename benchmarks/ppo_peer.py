"""The peer: the formulas of TRL 0.11, in an environment that has it. Started by `ppo_algorithm.py`.

    python ppo_peer.py GIVEN OUT

PPOv2 and RLOO have no functions for their formulas. Of those, the lines of `train` are taken out of TRL's
source and run as they stand.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from trl.core import masked_mean, masked_whiten
from trl.trainer import ppov2_trainer, rloo_trainer
from trl.trainer.ppo_trainer import PPOTrainer
from trl.trainer.utils import AdaptiveKLController

ADVANTAGES = ("# 4. compute rewards", "advantages = torch.masked_fill(advantages, padding_mask, 0)")
LOSSES = ("vpredclipped = torch.clamp(", "pg_loss = masked_mean(pg_loss_max")
RLOO = ("# vectorized RLOO advantages", "advantages = advantages.flatten()")


def main(given: str, out: str) -> None:
    """Compute every batch."""
    settings, batches = torch.load(given)
    torch.save([compute(SimpleNamespace(**settings), batch) for batch in batches], out)


def compute(settings: SimpleNamespace, of: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """Return each quantity as numbers, those of tokens without padding."""
    return {**by_functions(settings, of), **by_lines(settings, of)}


def by_functions(settings: SimpleNamespace, of: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """Call what TRL has functions for."""
    mask, keep = of["mask"].long(), of["mask"]
    control = AdaptiveKLController(settings.beta, settings.target, settings.horizon)
    trainer = SimpleNamespace(
        kl_ctl=control,
        config=SimpleNamespace(
            kl_penalty="kl",
            whiten_rewards=False,
            gamma=settings.gamma,
            lam=settings.lam,
            cliprange=settings.clip,
            cliprange_value=settings.clip,
            vf_coef=1.0,
            ratio_threshold=10.0,
        ),
    )
    trainer._kl_penalty = lambda one, other: PPOTrainer._kl_penalty(trainer, one, other)  # noqa: SLF001
    rewards, _, kl = PPOTrainer.compute_rewards(
        trainer, of["scores"], of["old_log_probs"], of["ref_log_probs"], mask
    )
    _, whitened, returns = PPOTrainer.compute_advantages(trainer, of["old_values"], rewards, mask)
    policy, value, stats = PPOTrainer.loss(
        trainer,
        of["old_log_probs"],
        of["old_values"],
        torch.zeros(*mask.shape, 2),
        of["values"],
        of["log_probs"],
        mask,
        of["old_values"],
        rewards,
    )
    control.update((kl * mask).sum(-1).mean().item(), len(mask))
    return {
        "masked_mean": [masked_mean(of["values"], mask).item()],
        "masked_whiten": masked_whiten(of["values"], mask)[keep].tolist(),
        "masked_whiten, mean not shifted": masked_whiten(of["values"], mask, shift_mean=False)[keep].tolist(),
        "AdaptiveKLController": [float(control.value)],
        "PPOTrainer.compute_rewards": rewards[keep].tolist(),
        "PPOTrainer.compute_advantages: returns": returns[keep].tolist(),
        "PPOTrainer.compute_advantages: whitened, as it is": whitened[keep].tolist(),
        "PPOTrainer.compute_advantages: whitened": whitened[keep].tolist(),
        "PPOTrainer.loss: policy": [policy.item(), stats["policy/clipfrac"].item()],
        "PPOTrainer.loss: value": [value.item(), stats["val/clipfrac"].item()],
    }


def by_lines(settings: SimpleNamespace, of: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """Run the lines of the trainers that have no functions."""
    keep, lengths = of["mask"], of["mask"].sum(1)
    places = torch.arange(keep.shape[1]).repeat(len(keep), 1)
    args = SimpleNamespace(
        kl_coef=settings.beta,
        whiten_rewards=False,
        gamma=settings.gamma,
        lam=settings.lam,
        cliprange=settings.clip,
        cliprange_value=settings.clip,
        rloo_k=2,
    )
    found = run(
        ppov2_trainer,
        ppov2_trainer.PPOv2Trainer,
        ADVANTAGES,
        args=args,
        logprobs=of["old_log_probs"],
        ref_logprobs=of["ref_log_probs"],
        values=of["old_values"],
        scores=of["scores"],
        responses=places,
        sequence_lengths=lengths - 1,
        sequence_lengths_p1=lengths,
        padding_mask=~keep,
        padding_mask_p1=places > lengths[:, None],
    )
    mask = keep.long()
    rewards = -settings.beta * (of["old_log_probs"] - of["ref_log_probs"]) * mask
    rewards[torch.arange(len(mask)), lengths - 1] += of["scores"]
    lost = run(
        ppov2_trainer,
        ppov2_trainer.PPOv2Trainer,
        LOSSES,
        args=args,
        vpred=of["values"],
        mb_values=of["old_values"],
        mb_return=rewards,
        new_logprobs=of["log_probs"],
        mb_logprobs=of["old_log_probs"],
        mb_advantage=of["old_values"],
        micro_batch_inds=slice(None),
        padding_mask=~keep,
        padding_mask_p1=places > lengths[:, None],
    )
    # TRL holds all first samples, then all second ones.
    grouped = of["scores"].view(-1, 2).T.flatten()
    rloo = run(rloo_trainer, rloo_trainer.RLOOTrainer, RLOO, args=args, rlhf_reward=grouped)
    return {
        "PPOv2: advantages": found["advantages"][keep].tolist(),
        "PPOv2: policy loss": [lost["pg_loss"].item()],
        "PPOv2: value loss": [lost["vf_loss"].item()],
        "RLOO: advantages": rloo["advantages"].view(2, -1).T.flatten().tolist(),
    }


def run(module: Any, trainer: type, between: tuple[str, str], **names: Any) -> dict[str, Any]:
    """Run the lines of a trainer's `train` from one text to another, and return their variables."""
    lines = inspect.getsource(trainer.train).splitlines()
    first, last = (next(i for i, line in enumerate(lines) if text in line) for text in between)
    space = {**vars(module), **names}
    exec(textwrap.dedent("\n".join(lines[first : last + 1])), space)  # noqa: S102 - TRL's own lines
    return space


if __name__ == "__main__":
    main(*sys.argv[1:])
