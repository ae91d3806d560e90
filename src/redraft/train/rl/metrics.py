"""The numbers of a rollout batch, for the log. docs/rlhf.md says which of them show that a run goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from redraft.train.rl import algorithm

if TYPE_CHECKING:
    from redraft.train.rl.policy import Seen
    from redraft.train.rl.samples import Score


def of_scores(scores: Sequence[Score], finals: Tensor, ended: Tensor, mask: Tensor) -> dict[str, float]:
    """Return figures of rewards and lengths, and the mean that each of several rewards contributes."""
    tokens = mask.sum(1)
    varies = all(float(algorithm.deviation(each)) for each in (finals, tokens))
    tied = torch.corrcoef(torch.stack([finals, tokens.double()]))[0, 1] if varies else torch.zeros(())
    parts = {
        f"reward/{form}": sum(each.parts[form] for each in scores) / len(scores) for form in scores[0].parts
    }
    return {
        "reward": float(finals.mean()),
        "reward_std": float(algorithm.deviation(finals)),
        "response_tokens": float(tokens.double().mean()),
        "reward_length_correlation": float(tied),
        "ended": float(ended.double().mean()),
        **parts,
    }


def of_policy(seen: Seen, ref: Tensor, mask: Tensor) -> dict[str, float]:
    """Return the KL of an answer and the entropy of a token, in nats."""
    found = {
        "kl": algorithm.kl_k1(seen.log_probs, ref, mask).sum(1).mean(),
        "kl_k3": algorithm.kl_k3(seen.log_probs, ref, mask).sum(1).mean(),
        "rollout_entropy": algorithm.masked_mean(seen.entropy, mask),
    }
    return {name: float(each) for name, each in found.items()}


def of_sampler(log_probs: Tensor, drawn: Tensor, mask: Tensor) -> dict[str, float]:
    """Return the KL of a token from the sampler to the trainer, in nats; nothing if it kept none."""
    if not (known := mask & ~drawn.isnan()).any():
        return {}
    return {"sampler_kl": float(algorithm.masked_mean(algorithm.kl_k3(drawn, log_probs, known), known))}


def of_groups(scores: Tensor, samples: int) -> dict[str, float]:
    """Return the share of prompts whose answers have equal scores; nothing if each prompt has one answer."""
    if samples == 1:
        return {}
    alike = algorithm.without_spread(scores.view(-1, samples))
    return {"groups_without_spread": float(alike.double().mean())}
