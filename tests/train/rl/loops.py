"""The formulas of `redraft.train.rl.algorithm` as loops over Python floats, one token at a time.

Written from the papers, without tensors, masks or padding: a sequence is a list of its real tokens.
`benchmarks/ppo.py` compares with them too.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

Ragged = list[list[float]]  # a number for each real token of each sequence


@dataclass(frozen=True)
class Batch:
    scores: list[float]
    log_probs: Ragged
    old_log_probs: Ragged
    ref_log_probs: Ragged
    values: Ragged
    old_values: Ragged

    @property
    def lengths(self) -> list[int]:
        return [len(row) for row in self.log_probs]

    @property
    def tokens(self) -> int:
        return sum(self.lengths)


def random_batch(lengths: Sequence[int], seed: int) -> Batch:
    rng = random.Random(seed)

    def around(rows: Ragged, spread: float) -> Ragged:
        return [[each + rng.gauss(0, spread) for each in row] for row in rows]

    old = [[-rng.expovariate(1) for _ in range(length)] for length in lengths]
    old_values = [[rng.gauss(0, 1) for _ in range(length)] for length in lengths]
    return Batch(
        scores=[rng.gauss(0, 2) for _ in lengths],
        log_probs=around(old, 0.3),
        old_log_probs=old,
        ref_log_probs=around(old, 0.5),
        values=around(old_values, 0.3),
        old_values=old_values,
    )


def padded(rows: Ragged, width: int, filler: float) -> Ragged:
    return [row + [filler] * (width - len(row)) for row in rows]


def flat(rows: Ragged) -> list[float]:
    return [each for row in rows for each in row]


def log_prob(logits: list[float], token: int, temperature: float) -> float:
    return math.log(softmax(logits, temperature)[token])


def entropy(logits: list[float], temperature: float) -> float:
    return -sum(share * math.log(share) for share in softmax(logits, temperature) if share)


def softmax(logits: list[float], temperature: float) -> list[float]:
    weights = [math.exp((each - max(logits)) / temperature) for each in logits]
    return [each / math.fsum(weights) for each in weights]


def log_ratios(rows: Ragged, others: Ragged) -> Ragged:
    return [
        [one - other for one, other in zip(row, other_row, strict=True)]
        for row, other_row in zip(rows, others, strict=True)
    ]


def k3(rows: Ragged, others: Ragged) -> Ragged:
    return [[math.exp(-lr) - 1 + lr for lr in row] for row in log_ratios(rows, others)]


def mean(numbers: list[float]) -> float:
    return math.fsum(numbers) / len(numbers) if numbers else 0.0


def variance(numbers: list[float], without: int = 0) -> float:
    middle = mean(numbers)
    return math.fsum((each - middle) ** 2 for each in numbers) / (len(numbers) - without)


def whiten(rows: Ragged) -> Ragged:
    if not (numbers := flat(rows)):
        return rows
    middle, spread = mean(numbers), math.sqrt(variance(numbers) + 1e-8)
    return [[(each - middle) / spread for each in row] for row in rows]


def rewards(scores: list[float], log_probs: Ragged, ref_log_probs: Ragged, beta: float) -> Ragged:
    made = [[-beta * lr for lr in row] for row in log_ratios(log_probs, ref_log_probs)]
    for row, score in zip(made, scores, strict=True):
        if row:
            row[-1] += score
    return made


def advantages(rewards: Ragged, values: Ragged, gamma: float, lam: float) -> Ragged:
    made = []
    for rs, vs in zip(rewards, values, strict=True):
        following = [*vs[1:], 0.0][: len(vs)]
        errors = [r + gamma * after - v for r, v, after in zip(rs, vs, following, strict=True)]
        made.append(
            [
                math.fsum((gamma * lam) ** (later - t) * errors[later] for later in range(t, len(errors)))
                for t in range(len(errors))
            ]
        )
    return made


def returns(advantages: Ragged, values: Ragged) -> Ragged:
    return [[a + v for a, v in zip(row, vs, strict=True)] for row, vs in zip(advantages, values, strict=True)]


def policy_loss(log_probs: Ragged, old: Ragged, advantages: Ragged, clip: float) -> tuple[float, int]:
    losses, clipped = [], 0
    for lr, advantage in zip(flat(log_ratios(log_probs, old)), flat(advantages), strict=True):
        plain = -advantage * math.exp(lr)
        bounded = -advantage * min(max(math.exp(lr), 1 - clip), 1 + clip)
        losses.append(max(plain, bounded))
        clipped += bounded > plain
    return math.fsum(losses), clipped


def value_loss(values: Ragged, old: Ragged, returns: Ragged, clip: float) -> tuple[float, int]:
    losses, clipped = [], 0
    for value, before, target in zip(flat(values), flat(old), flat(returns), strict=True):
        plain = (value - target) ** 2
        bounded = (min(max(value, before - clip), before + clip) - target) ** 2
        losses.append(max(plain, bounded) / 2)
        clipped += bounded > plain
    return math.fsum(losses), clipped


def explained(values: Ragged, returns: Ragged) -> float:
    numbers, targets = flat(values), flat(returns)
    left = [target - value for target, value in zip(targets, numbers, strict=True)]
    return 1 - variance(left) / variance(targets)


def beta(before: float, kl: float, target: float, n: int, horizon: float) -> float:
    """1909.08593 section 2.2."""
    return before * (1 + max(-0.2, min(0.2, (kl - target) / target)) * n / horizon)


def rloo(scores: Ragged) -> Ragged:
    return [[row[i] - mean(row[:i] + row[i + 1 :]) for i in range(len(row))] for row in scores]


def grpo(scores: Ragged) -> Ragged:
    return [[(each - mean(row)) / (math.sqrt(variance(row, 1)) + 1e-6) for each in row] for row in scores]
