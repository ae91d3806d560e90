"""PPO, RLOO and GRPO as pure functions: tensors in, tensors out.

The functions are in the order of a step: scores of whole texts become rewards of tokens, rewards and values
become advantages, and advantages weigh the losses. The caller keeps β and the optimizer.

Tensors of tokens are [sequences, tokens], with response tokens only, padded on the right. `mask` is bool and
true at real tokens, including EOS. Padding may contain anything, even NaN, and is never read. At padding,
results are 0 and importance weights 1. Computation is in 32 bits, or in 64 if the inputs have 64. Statistics
of a group are always in 64 bits, so that equal numbers have deviation 0. Log-probabilities and KL are in
nats.

Papers: PPO 1707.06347, GAE 1506.02438, KL control 1909.08593, RLOO 2402.14740, GRPO 2402.03300, and Schulman,
"Approximating KL Divergence" (2020).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

MIN_LOG_PROB = -1e3
"""The lower bound of log-probabilities, so that a forbidden token (logit −inf) gives no NaN."""

MAX_LOG_RATIO = 20.0
"""Log-ratios are clamped to ±20 before `exp`, as in verl. e^20 is 5e8, and e^89 overflows 32 bits."""

EPSILON = 1e-8  # added to a variance before the division, as in all trainers derived from Ziegler et al

ROUNDING = 1e-12
"""Relative difference up to which numbers count as equal, for rounding errors of 1.1e-16 per operation."""


def log_probs_and_entropy(
    logits: Tensor, tokens: Tensor, temperature: float = 1.0, chunk: int = 16
) -> tuple[Tensor, Tensor]:
    """Return log π of the given tokens and the policy's entropy, both [sequences, tokens].

    log π is differentiable once. The entropy is not differentiable. `chunk` tokens are computed at a time,
    to save memory.

    Args:
        logits: [sequences, tokens, vocabulary]. Logits and the predicted token have the same index.
    """
    found = _LogProbs.apply(logits.flatten(0, 1), tokens.flatten(), temperature, chunk)  # type: ignore[no-untyped-call]
    log_probs, entropy = (each.view(tokens.shape) for each in found)
    return log_probs, entropy


# Written by hand: autograd would store or recompute each step.
class _LogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, tokens: Tensor, temperature: float, chunk: int
    ) -> tuple[Tensor, Tensor]:
        totals, log_probs, entropy = (logits.new_empty(len(logits), dtype=_wide(logits).dtype) for _ in "123")
        for at in (slice(first, first + chunk) for first in range(0, len(logits), chunk)):
            wide = _scaled(logits[at], temperature)
            totals[at] = total = wide.logsumexp(-1)
            log_probs[at] = wide.gather(-1, tokens[at, None]).squeeze(-1) - total
            # −Σ p·log p = log Z − Σ p·z
            entropy[at] = total - torch.linalg.vecdot((wide - total[:, None]).exp_(), wide)
        ctx.save_for_backward(logits, tokens, totals, log_probs > MIN_LOG_PROB)
        ctx.how = temperature, chunk
        ctx.mark_non_differentiable(entropy)
        return log_probs.clamp(min=MIN_LOG_PROB), entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_log_probs: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        logits, tokens, totals, free = ctx.saved_tensors
        temperature, chunk = ctx.how
        found = torch.empty_like(logits)
        given = of_log_probs * free / temperature
        for at in (slice(first, first + chunk) for first in range(0, len(logits), chunk)):
            shares = (_scaled(logits[at], temperature) - totals[at, None]).exp_().mul_(-given[at, None])
            found[at] = shares.scatter_add_(-1, tokens[at, None], given[at, None])
        return found, None, None, None


def _scaled(logits: Tensor, temperature: float) -> Tensor:
    wide = _wide(logits) / temperature
    return wide.clamp_(min=torch.finfo(wide.dtype).min)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over real tokens, a scalar; 0 without real tokens."""
    return _real(values, mask).sum() / mask.sum().clamp(min=1)


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """Return (x − μ) / √(σ² + 1e-8) of real tokens.

    μ and σ² (population variance) are computed from `values`, so pass the rollout batch of all processes. A
    single token, or equal values, give 0. From Ziegler et al.'s code (`whiten` in lm-human-preferences).
    """
    real = _wide(values)[mask]
    _, centred = _centred(real)
    # TRL and verl divide by n − 1.
    whitened = centred * (centred.square().sum() / max(len(real), 1) + EPSILON).rsqrt()
    return torch.zeros_like(_wide(values)).masked_scatter(mask, whitened.to(real.dtype))


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """Return 1 − Var(R − V) / Var(R) over real tokens, a scalar; 0 if the returns do not vary."""
    real, foreseen = (_wide(each)[mask] for each in (returns, values))
    spread = deviation(real).square()
    left = deviation(real.double() - foreseen).square()
    return torch.where(spread > EPSILON, 1 - left / spread.clamp(min=EPSILON), 0).to(real.dtype)


def deviation(values: Tensor) -> Tensor:
    """Return the population standard deviation, a scalar in 64 bits; 0 if all numbers are equal."""
    return (_centred(values)[1].square().sum() / max(values.numel(), 1)).sqrt()


def _centred(values: Tensor, dims: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor]:
    values = values.double()
    if not values.numel():
        return values.sum(), values
    dims = tuple(range(values.dim())) if dims is None else dims
    least = values.amin(dims, keepdim=True)
    above = values - least  # the mean of equal numbers is then one of them, without rounding
    equal = above.amax(dims, keepdim=True) <= ROUNDING * values.abs().amax(dims, keepdim=True)
    mean = above.mean(dims, keepdim=True)
    return least + mean, torch.where(equal, 0, above - mean)


def kl_k1(log_probs: Tensor, ref_log_probs: Tensor, mask: Tensor) -> Tensor:
    """Return lr = log π − log π_ref of each token, [sequences, tokens].

    Schulman (2020), k1: unbiased for KL(π ‖ π_ref), but noisy, and negative for some tokens. The KL of a
    sequence is the sum over the sequence's tokens.
    """
    return _log_ratio(log_probs, ref_log_probs, mask)


def kl_k3(log_probs: Tensor, ref_log_probs: Tensor, mask: Tensor) -> Tensor:
    """Return e^(−lr) − 1 + lr of each token, [sequences, tokens]; never negative.

    Schulman (2020), k3, and 2402.03300 equation 4: unbiased for KL(π ‖ π_ref) with samples from π, and less
    noisy than k1. An lr below −20 counts as −20 (`MAX_LOG_RATIO`).
    """
    ratio = _log_ratio(log_probs, ref_log_probs, mask).clamp(min=-MAX_LOG_RATIO)
    return torch.expm1(-ratio) + ratio


def adaptive_beta(beta: float, kl: float, *, target: float, n: int, horizon: float) -> float:
    """Return β·(1 + clip(KL / target − 1, ±0.2)·K), the coefficient for the next rollout batch.

    Call this once per rollout batch of n sequences. 1909.08593 section 2.2. K is n / horizon, as in the
    authors' code, but redraft limits K to 1. A KL of NaN leaves β unchanged.

    Args:
        kl: The measured KL of a sequence, in nats: `kl_k1(…).sum(1).mean()` over the rollout batch.
    """
    if math.isnan(kl):
        return beta
    return beta * (1 + min(max(kl / target - 1, -0.2), 0.2) * min(n / horizon, 1))


def token_rewards(
    scores: Tensor, log_probs: Tensor, ref_log_probs: Tensor, mask: Tensor, beta: float | Tensor
) -> Tensor:
    """Return r_t = −β·(log π − log π_ref), plus the score on the last real token, [sequences, tokens].

    1909.08593 equation 2, with the KL term spread over tokens as in the authors' code. The score of an empty
    sequence is dropped.

    Args:
        beta: The KL coefficient, per nat: a scalar, or [sequences, tokens].
    """
    ratios = _log_ratio(log_probs, ref_log_probs, mask)
    # TRL's PPOv2 adds the score one position after EOS, trlX up to two, where V is never trained.
    return -beta * ratios + _real(_wide(scores)[:, None], mask & ~pad(mask[:, 1:], (0, 1)))


@torch.no_grad()
def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float = 1.0, lam: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Return advantages (not whitened) and returns, both [sequences, tokens].

    A_t = δ_t + γλ·A_{t+1} with δ_t = r_t + γ·V_{t+1} − V_t, and R_t = A_t + V_t: 1506.02438 equation 16,
    1707.06347 equations 11 and 12. V and A are 0 after the last real token, even if the response was cut off.

    Args:
        values: V of the state before each token, from the policy that sampled.
        lam: 1 gives the Monte-Carlo return minus V, 0 the one-step TD error.
    """
    rewards, values = _real(rewards, mask), _real(values, mask)
    advantages = rewards + gamma * pad(values[:, 1:], (0, 1)) - values
    for t in reversed(range(mask.shape[1] - 1)):
        advantages[:, t] += gamma * lam * advantages[:, t + 1]
    return advantages, advantages + values


def rloo_advantages(scores: Tensor) -> Tensor:
    """Return each score minus the mean of the prompt's remaining scores, [prompts, samples].

    The RLOO estimator of 2402.14740. As in the paper, the caller must first subtract β times a sequence's
    summed log-ratio from the score. All tokens of a sequence have the same advantage.
    """
    count, (_, centred) = scores.shape[1], _centred(scores, (1,))
    return (centred * count / (count - 1)).to(_wide(scores).dtype)  # x − (Σ − x) / (n − 1), with Σ = n·μ


def grpo_advantages(scores: Tensor) -> Tensor:
    """Return (score − mean) / (std + 1e-6) within each prompt, [prompts, samples]; 0 for equal scores.

    2402.03300 section 4.1.2. std is the sample deviation (n − 1), as in TRL and verl; TRL adds 1e-4. All
    tokens of a sequence have the same advantage. As in the paper, the caller adds `kl_k3` to the loss.
    """
    # Dr. GRPO (2503.20783) does not divide by std, because prompts that are nearly always or never solved get
    # too much weight. In 32 bits, as in TRL, eight scores of 64.2 would get −0.07 each.
    count, (_, centred) = scores.shape[1], _centred(scores, (1,))
    spread = (centred.square().sum(1, keepdim=True) / (count - 1)).sqrt()
    return (centred / (spread + 1e-6)).to(_wide(scores).dtype)


# Losses: sums over tokens. Divide by the real tokens of the whole step, over all micro-batches and processes:
# then a step does not depend on how it is split. trlX and TRL divide by the tokens of each micro-batch. The
# GRPO paper takes the mean of each sequence first, which favours short correct responses.


def policy_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor, cliprange: float = 0.2
) -> tuple[Tensor, Tensor]:
    """Return Σ max(−A·ρ, −A·clip(ρ, 1 ± ε)) with ρ = π / π_old, and the number of clipped tokens, as scalars.

    1707.06347 equation 7, negated as a loss. A log-ratio beyond ±20 has no gradient (`MAX_LOG_RATIO`).
    """
    advantages = _real(advantages, mask)
    ratio = _log_ratio(log_probs, old_log_probs, mask).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    return _larger(-advantages * ratio, -advantages * ratio.clamp(1 - cliprange, 1 + cliprange))


def value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, cliprange_value: float = 0.2
) -> tuple[Tensor, Tensor]:
    """Return ½·Σ max((V − R)², (clip(V, V_old ± c) − R)²), and the number of clipped tokens, as scalars.

    The formula is from OpenAI's baselines (`ppo2`), not from the PPO paper. An infinite c clips nothing.
    """
    values, old_values, returns = (_real(each, mask) for each in (values, old_values, returns))
    clipped = values.clamp(old_values - cliprange_value, old_values + cliprange_value)
    total, count = _larger((values - returns).square(), (clipped - returns).square())
    return 0.5 * total, count


def importance_weights(log_probs: Tensor, drawn: Tensor, mask: Tensor, clip_max: float) -> Tensor:
    """Return min(π / μ, `clip_max`), which corrects for tokens drawn by μ instead of π; 1 at padding.

    μ is the sampler, which has the same weights as π but other rounding errors. Yao et al., "Your Efficient
    RL Framework Secretly Brings You Off-Policy RL Training" (2025), truncate at 2.

    Args:
        log_probs: Log-probabilities under π, computed by the trainer before any step.
        drawn: Log-probabilities under μ.
    """
    return _log_ratio(log_probs, drawn, mask).clamp(max=MAX_LOG_RATIO).exp().clamp(max=clip_max)


def _larger(plain: Tensor, clipped: Tensor) -> tuple[Tensor, Tensor]:
    return torch.maximum(plain, clipped).sum(), (clipped > plain).sum()


def _log_ratio(log_probs: Tensor, others: Tensor, mask: Tensor) -> Tensor:
    return _real(_wide(log_probs) - _wide(others), mask)


def _real(values: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, _wide(values), 0)


def _wide(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))
