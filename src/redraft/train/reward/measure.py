"""Measure a reward model on held-out pairs: accuracy, calibration, and what length has to do with it.

The figures go into `eval.json` beside the result, each with its 95 % interval over pairs, which is too narrow
where several are of one prompt. Nothing is said of answers that optimisation against the reward would write:
those differ from all pairs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from redraft.errors import OutputError
from redraft.files import replace_file
from redraft.stats import Estimate, correlation, proportion
from redraft.train.data.batches import IGNORED, Batch, Data
from redraft.train.reward.loss import bounds
from redraft.train.run.run import Ready

NAME = "eval.json"
"""The file's name, in the output folder."""

EDGES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Bins of the calibration: the probability that the model gives to the answer which it prefers."""

CHANCE = 0.5

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Bin:
    """Pairs for which the model was about as sure.

    Attributes:
        low: The lowest probability of the bin.
        high: The highest.
        pairs: Their number.
        said: The mean probability that it gave to the answer which it prefers.
        right: How often that was the chosen one.
    """

    low: float
    high: float
    pairs: int
    said: float
    right: Estimate


@dataclass(frozen=True)
class Measured:
    """What a reward model does on held-out pairs.

    Attributes:
        pairs: Their number.
        accuracy: The share whose chosen answer has the higher reward. A tie counts half.
        ties: Pairs with equal rewards.
        loss: The mean of -log sigmoid(r_chosen - r_rejected), in nats; 0.693 for a coin.
        calibration: Bins of how sure it was. Those without pairs are left out.
        miscalibration: The mean of |said - right| over pairs (expected calibration error).
        length: The correlation of the difference of rewards with the difference of tokens in a pair.
        prefers_longer: The share of pairs in which the longer answer has the higher reward.
        longer_is_chosen: The share in which it is the chosen one: what a rule by length would reach.
    """

    pairs: int
    accuracy: Estimate
    ties: int
    loss: float
    calibration: tuple[Bin, ...]
    miscalibration: float
    length: Estimate
    prefers_longer: Estimate
    longer_is_chosen: Estimate

    def lines(self) -> list[str]:
        """Return the figures as lines of text."""
        said = " · ".join(
            f"{each.said:.0%} sure, {each.right.value:.0%} right ({each.pairs:,} pairs)"
            for each in self.calibration
        )
        right, length = self.accuracy, self.length
        share = f"accuracy {right.value:.1%} ({right.low:.1%} to {right.high:.1%})"
        span = f"{length.value:.2f} ({length.low:.2f} to {length.high:.2f})"
        preferred, chosen = self.prefers_longer.value, self.longer_is_chosen.value
        longer = f"the longer answer is preferred in {preferred:.1%} and chosen in {chosen:.1%} of pairs"
        lines = [
            f"held out: {self.pairs:,} pairs, {share}, loss {self.loss:.3f} (a coin: 0.693)",
            f"calibration: {said}; off by {self.miscalibration:.1%}",
            f"length: its correlation with the reward is {span}; {longer}",
        ]
        if self.accuracy.high < CHANCE:
            lines.append(
                "the reward prefers what the held-out pairs reject: chosen and rejected may be swapped in "
                "--data_path or in --eval_data_path."
            )
        elif self.accuracy.low <= CHANCE:
            lines.append("the interval includes 50 %: this may be a coin.")
        return lines


def measured(ready: Ready) -> Measured | None:
    """Measure the model of a run on its evaluation data, and write `eval.json`. None without such data.

    Every process has to call it.

    Raises:
        OutputError: The file cannot be written.
    """
    if ready.eval_data is None:
        return None
    found = measure(*_collected(ready, ready.eval_data))
    path = ready.loop.folder / NAME
    try:
        if ready.args.should_save:
            replace_file(path, json.dumps(_finite(asdict(found)), indent=1).encode() + b"\n")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error
    return found


def measure(rewards: Numbers, tokens: Numbers) -> Measured:
    """Measure rewards.

    Args:
        rewards: [pairs, 2]: of the chosen and the rejected answer.
        tokens: [pairs, 2]: of each, from where the two part.
    """
    gap, longer = rewards[:, 0] - rewards[:, 1], np.sign(tokens[:, 0] - tokens[:, 1])
    hits = (np.sign(gap) + 1) / 2
    uneven = longer != 0
    bins = tuple(_bins(gap))
    return Measured(
        pairs=len(gap),
        accuracy=proportion(float(hits.sum()), len(gap)),
        ties=int((gap == 0).sum()),
        loss=float(np.logaddexp(0, -gap).mean()),
        calibration=bins,
        miscalibration=sum(each.pairs * abs(each.said - each.right.value) for each in bins)
        / max(len(gap), 1),
        length=correlation(gap.tolist(), (tokens[:, 0] - tokens[:, 1]).tolist()),
        prefers_longer=proportion(float(((np.sign(gap) * longer + 1) / 2)[uneven].sum()), int(uneven.sum())),
        longer_is_chosen=proportion(float((longer > 0).sum()), int(uneven.sum())),
    )


def _bins(gap: Numbers) -> Iterator[Bin]:
    """Yield the bins of the calibration, for differences of rewards."""
    sure = 1 / (1 + np.exp(-np.abs(gap)))
    for low, high in pairwise(EDGES):
        inside = (sure >= low) & ((sure < high) | (high == EDGES[-1]))
        if count := int(inside.sum()):
            right = proportion(float(((np.sign(gap[inside]) + 1) / 2).sum()), count)
            yield Bin(low, high, count, float(sure[inside].mean()), right)


def _collected(ready: Ready, data: Data) -> tuple[Numbers, Numbers]:
    """Return the rewards and the tokens of all pairs, from all processes."""
    model, found = ready.loop.trained.model, []
    model.eval()
    with torch.no_grad():
        for batch in data.batches(0):
            there = {name: each.to(ready.args.device) for name, each in batch.items()}
            rewards = model(**there, num_items_in_batch=1).rewards
            found.append((rewards.double().cpu().numpy(), _tokens(batch)))
    every: list[Any] = [found]
    if ready.args.world_size > 1:
        every = [None] * ready.args.world_size
        distributed.all_gather_object(every, found)
    parts = [part for process in every for part in process]
    rewards, tokens = (np.concatenate(each) for each in zip(*parts, strict=True))
    return rewards, tokens


def _tokens(batch: Batch) -> Numbers:
    """Return the tokens of each answer from where the two of a pair part: [pairs, 2]."""
    starts, ends = bounds(batch["position_ids"], batch.get("attention_mask"))
    marked = np.concatenate([[0], np.cumsum((batch["labels"].flatten() != IGNORED).numpy())])
    counts = marked[ends.numpy()] - marked[starts.numpy()]
    pairs = len(batch["margins"])
    return np.asarray(counts[: 2 * pairs].reshape(pairs, 2), dtype=np.float64)


def _finite(value: Any) -> Any:
    """Return a tree with None for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
