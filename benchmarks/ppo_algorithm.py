"""Whether `redraft.train.rl.algorithm` computes its formulas, against loops and against TRL 0.11."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from measure import Figure, Goal, Row
from redraft.train.rl import algorithm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the loops belong to the tests
from tests.train.rl import loops
from tests.train.rl.loops import Batch, Ragged, flat, padded, random_batch

BATCHES, QUICK = 1_000, 20
GAMMA, LAM, BETA, CLIP = 0.99, 0.95, 0.1, 0.2
TARGET, HORIZON = 6.0, 10_000.0
EXACT, CLOSE = Goal("≤", 1e-6), Goal("≤", 1e-5)

LOOPS = "formulas against independent loops in 64 bits, random padded batches"
HOW_LOOPS = (
    "{count:,} random batches of 2 to 16 sequences (two to a prompt) of 0 to 64 tokens, padding filled with "
    "NaN, about half of the ratios and values beyond their clip. The loops (`tests/train/rl/loops.py`) are "
    "written from the papers, one token at a time in Python floats, without padding. redraft computes in 64 "
    "bits, and again in 32, as in training, from the same numbers. The figure is the largest difference of "
    "any number: absolute, or relative where the loop's number is above 1. Losses are a mean over tokens."
)
ROUNDING = (
    "What 32 bits add is rounding, over up to 64 steps of GAE. Statistics of groups are computed in 64 bits."
)
TRL = "formulas against TRL 0.11.4, random padded batches"
HOW_TRL = (
    "{count:,} batches as above in 64 bits, without empty sequences, which TRL cannot take. TRL runs in an "
    "environment of its own (`ppo_peer.py`): its functions, and the lines of `train` of PPOv2 and RLOO, "
    "which have none, as they stand. The figure is the largest difference of any real token, sum or mean."
)
DIFFERENT = (
    """TRL differs in three places:

- It whitens with the variance of n − 1, redraft with that of n. The figure without a goal is the plain \
difference; others are after multiplying with √((n − 1) / n).
- PPOv2 puts the score one place after the last real token, so GAE discounts it by γλ once more, unless the \
response fills the width. Compared are redraft's advantages of the score times γλ.
- PPOv2 counts that place in its value loss. Compared is redraft's sum over tokens plus sequences.

Random batches have no equal scores. redraft, which computes statistics of groups in 64 bits, makes 0 of \
those; TRL keeps what its number format rounds.""",
)
PEER = Path(__file__).with_name("ppo_peer.py")
TORCH = torch.__version__.split("+")[0]
PACKAGES = ("trl==0.11.4", "rich", "transformers==4.45.2", "datasets<4", f"torch=={TORCH}")
Numbers = dict[str, list[float]]


def run_loops(*, quick: bool) -> Row:
    """Compare with the loops."""
    made = [batch(seed, least=0) for seed in range(QUICK if quick else BATCHES)]
    expected = [by_loops(each) for each in made]
    wide = largest([by_redraft(each, torch.float64) for each in made], expected)
    narrow = largest([by_redraft(each, torch.float32) for each in made], expected)
    figures = [Figure(name, (value,), "", EXACT) for name, value in wide.items()]
    figures += [Figure(f"{name}, 32 bits", (value,), "") for name, value in narrow.items()]
    return Row(LOOPS, HOW_LOOPS.format(count=len(made)), tuple(figures), (ROUNDING,))


def batch(seed: int, *, least: int) -> Batch:
    """Make a batch of numbers that 32 bits hold."""
    rng = random.Random(seed)
    made = random_batch([rng.randint(least, 64) for _ in range(2 * rng.randint(1, 8))], seed)
    rounded = {name: [_rounded(row) for row in rows] for name, rows in vars(made).items() if name != "scores"}
    return replace(made, scores=_rounded(made.scores), **rounded)


def _rounded(numbers: list[float]) -> list[float]:
    return torch.tensor(numbers, dtype=torch.float32).tolist()


def pairs(scores: list[float]) -> Ragged:
    """Two samples to a prompt."""
    return [scores[i : i + 2] for i in range(0, len(scores), 2)]


def by_loops(made: Batch) -> Numbers:
    """Compute everything that is compared, one token at a time."""
    rewards = loops.rewards(made.scores, made.old_log_probs, made.ref_log_probs, BETA)
    advantages = loops.advantages(rewards, made.old_values, GAMMA, LAM)
    returns, whitened = loops.returns(advantages, made.old_values), loops.whiten(advantages)
    policy, policy_clipped = loops.policy_loss(made.log_probs, made.old_log_probs, whitened, CLIP)
    value, value_clipped = loops.value_loss(made.values, made.old_values, returns, CLIP)
    k1, count = loops.log_ratios(made.old_log_probs, made.ref_log_probs), max(made.tokens, 1)
    kl = sum(flat(k1)) / len(k1)
    return {
        "rewards": flat(rewards),
        "advantages": flat(advantages),
        "returns": flat(returns),
        "whitened advantages": flat(whitened),
        "policy loss": [policy / count],
        "value loss": [value / count],
        "clipped tokens": [policy_clipped, value_clipped],
        "KL, k1": [*flat(k1), kl],
        "KL, k3": flat(loops.k3(made.old_log_probs, made.ref_log_probs)),
        "β": [loops.beta(BETA, kl, TARGET, len(k1), HORIZON)],
        "explained variance": [loops.explained(made.values, returns)] if made.tokens > 1 else [0],
        "RLOO": flat(loops.rloo(pairs(made.scores))),
        "GRPO": flat(loops.grpo(pairs(made.scores))),
    }


def tensors(made: Batch, dtype: torch.dtype, filler: float, more: int = 0) -> dict[str, Tensor]:
    """Return the batch as tensors, padded to its longest sequence and `more`, with its mask."""
    width = max(made.lengths) + more
    found = {"scores": torch.tensor(made.scores, dtype=dtype)}
    for name, rows in vars(made).items():
        if name != "scores":
            found[name] = torch.tensor(padded(rows, width, filler), dtype=dtype).view(len(rows), width)
    found["mask"] = torch.arange(width) < torch.tensor(made.lengths)[:, None]
    return found


def by_redraft(made: Batch, dtype: torch.dtype) -> Numbers:
    """Compute the same with tensors whose padding is NaN."""
    of, count = tensors(made, dtype, float("nan")), max(made.tokens, 1)
    mask, sampled = of["mask"], (of["old_log_probs"], of["ref_log_probs"], of["mask"])
    rewards = algorithm.token_rewards(of["scores"], *sampled, BETA)
    advantages, returns = algorithm.gae(rewards, of["old_values"], mask, GAMMA, LAM)
    whitened = algorithm.whiten(advantages, mask)
    policy, policy_clipped = algorithm.policy_loss(of["log_probs"], of["old_log_probs"], whitened, mask, CLIP)
    value, value_clipped = algorithm.value_loss(of["values"], of["old_values"], returns, mask, CLIP)
    k1, groups = algorithm.kl_k1(*sampled), of["scores"].view(-1, 2)
    kl = k1.sum(1).mean().item()
    beta = algorithm.adaptive_beta(BETA, kl, target=TARGET, n=len(k1), horizon=HORIZON)
    return {
        "rewards": rewards[mask].tolist(),
        "advantages": advantages[mask].tolist(),
        "returns": returns[mask].tolist(),
        "whitened advantages": whitened[mask].tolist(),
        "policy loss": [policy.item() / count],
        "value loss": [value.item() / count],
        "clipped tokens": [policy_clipped.item(), value_clipped.item()],
        "KL, k1": [*k1[mask].tolist(), kl],
        "KL, k3": algorithm.kl_k3(*sampled)[mask].tolist(),
        "β": [beta],
        "explained variance": [algorithm.explained_variance(of["values"], returns, mask).item()],
        "RLOO": algorithm.rloo_advantages(groups).flatten().tolist(),
        "GRPO": algorithm.grpo_advantages(groups).flatten().tolist(),
    }


def largest(found: Sequence[Numbers], expected: Sequence[Numbers]) -> dict[str, float]:
    """Return the largest difference of each quantity over all batches; NaN counts as infinite."""
    worst = dict.fromkeys(expected[0], 0.0)
    for ours, theirs in zip(found, expected, strict=True):
        for name, numbers in theirs.items():
            for one, other in zip(ours[name], numbers, strict=True):
                apart = abs(one - other) / max(1, abs(other))
                worst[name] = max(worst[name], apart if apart == apart else float("inf"))
    return worst


def run_trl(*, quick: bool) -> Row:
    """Compare with TRL."""
    made = [batch(seed, least=1) for seed in range(QUICK if quick else BATCHES)]
    how = HOW_TRL.format(count=len(made))
    try:
        theirs = by_trl(made)
    except subprocess.CalledProcessError as error:
        return Row(TRL, how, (), (f"TRL could not be run: {error.stderr.strip().splitlines()[-1]}",))
    ours = [like_trl(each) for each in made]
    figures = tuple(
        Figure(name, (value,), "", None if name == PLAIN else CLOSE)
        for name, value in largest(ours, theirs).items()
    )
    return Row(TRL, how, figures, DIFFERENT)


PLAIN = "PPOTrainer.compute_advantages: whitened, as it is"


def by_trl(made: Sequence[Batch]) -> list[Numbers]:
    """Install TRL in a new environment and let `ppo_peer.py` compute there.

    Raises:
        subprocess.CalledProcessError: It could not be installed or run.
    """
    settings = {"gamma": GAMMA, "lam": LAM, "beta": BETA, "clip": CLIP, "target": TARGET, "horizon": HORIZON}
    with tempfile.TemporaryDirectory(prefix="redraft-bench-") as work:
        venv.create(Path(work, "env"), with_pip=True)
        python, given, out = (str(Path(work, name)) for name in ("env/bin/python", "given.pt", "out.pt"))
        torch.save((settings, [tensors(each, torch.float64, 0.0, more=1) for each in made]), given)
        for command in ((python, "-m", "pip", "install", "-q", *PACKAGES), (python, str(PEER), given, out)):
            subprocess.run(command, check=True, capture_output=True, text=True)
        found: list[Numbers] = torch.load(out)
    return found


def like_trl(made: Batch) -> Numbers:
    """Compute what `ppo_peer.py` does, with the differences that `DIFFERENT` explains."""
    of = tensors(made, torch.float64, float("nan"))
    mask, sampled = of["mask"], (of["old_log_probs"], of["ref_log_probs"], of["mask"])
    count, sequences = made.tokens, len(made.scores)
    bessel = ((count - 1) / count) ** 0.5
    rewards = algorithm.token_rewards(of["scores"], *sampled, BETA)
    advantages, returns = algorithm.gae(rewards, of["old_values"], mask, GAMMA, LAM)
    late = algorithm.token_rewards(GAMMA * LAM * of["scores"], *sampled, BETA)
    late_advantages, _ = algorithm.gae(late, of["old_values"], mask, GAMMA, LAM)
    # The losses of both get TRL's input: old values as advantages, rewards as returns.
    given = (of["log_probs"], of["old_log_probs"], of["old_values"], mask, CLIP)
    policy, policy_clipped = (each.item() for each in algorithm.policy_loss(*given))
    given = (of["values"], of["old_values"], rewards, mask, CLIP)
    value, value_clipped = (each.item() for each in algorithm.value_loss(*given))
    whitened = algorithm.whiten(of["values"], mask)
    late_whitened = algorithm.whiten(late_advantages, mask)
    kl = algorithm.kl_k1(*sampled).sum(1).mean().item()
    rloo = algorithm.rloo_advantages(of["scores"].view(-1, 2))
    shifted = algorithm.whiten(of["values"], mask, shift_mean=False)
    mean = algorithm.masked_mean(of["values"], mask)
    return {
        "masked_mean": [mean.item()],
        "masked_whiten": (bessel * whitened)[mask].tolist(),
        "masked_whiten, mean not shifted": (bessel * (shifted - mean) + mean)[mask].tolist(),
        "AdaptiveKLController": [
            algorithm.adaptive_beta(BETA, kl, target=TARGET, n=sequences, horizon=HORIZON)
        ],
        "PPOTrainer.compute_rewards": rewards[mask].tolist(),
        "PPOTrainer.compute_advantages: returns": returns[mask].tolist(),
        PLAIN: algorithm.whiten(advantages, mask)[mask].tolist(),
        "PPOTrainer.compute_advantages: whitened": (bessel * algorithm.whiten(advantages, mask))[
            mask
        ].tolist(),
        "PPOTrainer.loss: policy": [policy / count, policy_clipped / count],
        "PPOTrainer.loss: value": [value / count, value_clipped / count],
        "PPOv2: advantages": (bessel * late_whitened)[mask].tolist(),
        "PPOv2: policy loss": [policy / count],
        "PPOv2: value loss": [value / (count + sequences)],
        "RLOO: advantages": rloo.flatten().tolist(),
    }
