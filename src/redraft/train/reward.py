"""Train reward models: the loss of preference pairs, the verb `reward`, and figures on held-out pairs.

The chosen answer should have the higher reward:

    -log sigmoid(r_chosen - r_rejected)

This is the negative log-likelihood of Bradley and Terry's model (Biometrika 39, 1952, 324), as in InstructGPT
(Ouyang et al. 2022, equation 1), where r is the model's output at the last token. Examples are in the order
chosen, rejected, chosen, rejected.

transformers and peft can load a trained reward model. Both read the reward at the last token that is not
padding, so the padding token must differ from end-of-text. The configuration contains the format of texts
(`redraft_reward`). The figures on held-out pairs are written to `eval.json`, with 95 % intervals over pairs.
Intervals are too narrow if several pairs have the same prompt.
"""

from __future__ import annotations

import itertools
import json
import os
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from types import MethodType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from redraft.chain.encoder import PairEncoder
from redraft.errors import ModelError
from redraft.evaluation.stats import FEW, Estimate, correlation, proportion, without_nan
from redraft.jobs.counting import counted
from redraft.jobs.files import write_file
from redraft.train.batches import IGNORED, Data, Rows, counted_in, two_a_row
from redraft.train.load import Tokenizer, load_trained
from redraft.train.loop import Loop
from redraft.train.loss import inputs_of, signature_of
from redraft.train.options import RewardOptions
from redraft.train.prepare import Ints
from redraft.train.processes import Say, gathered
from redraft.train.verb import Made, Verb, bare_of, can_join


@dataclass
class PairOutput(ModelOutput):
    """The output of a reward model for a batch of pairs."""

    loss: Tensor | None = None  # the summed loss divided by `num_items_in_batch`, in nats
    rewards: Tensor | None = None  # [pairs, 2]: of the chosen and the rejected answer
    # `accuracy`: the number of pairs whose chosen answer has the higher reward. A tie counts half.
    sums: dict[str, Tensor] | None = None


def pairwise(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Return the loss of each pair, in nats, in the shape of the arguments."""
    return -functional.logsigmoid(chosen - rejected)


def bounds(position_ids: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return where texts start and end in the flattened tokens of a batch, both [texts].

    Args:
        position_ids: [rows, tokens]. In a joined row, positions restart with each text.
        attention_mask: [rows, tokens] of padded rows, with 0 for padding; None for a joined row.
    """
    if attention_mask is None:
        starts = (position_ids[0] == 0).nonzero().flatten()
        return starts, functional.pad(starts[1:], (0, 1), value=position_ids.shape[1])
    rows, longest = attention_mask.shape
    starts = torch.arange(rows, device=attention_mask.device) * longest
    return starts, starts + attention_mask.sum(1)


def compare(model: PreTrainedModel) -> None:
    """Make a reward model compute the loss of pairs when the model is called with labels.

    The summed loss is divided by `num_items_in_batch` (default: the number of pairs in the batch). Rewards
    have 32 bits.
    """
    if not isinstance(getattr(model, "score", None), torch.nn.Module):
        name = type(model).__name__
        raise ModelError(f"{name} has no head named 'score', so it cannot be trained as a reward model.")
    model.score.float()  # in 16 bits, many rewards would be equal
    whole = model.forward

    def forward(
        self: Any,
        input_ids: Tensor,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        pairs: Tensor | None = None,  # noqa: ARG001  (the loop reads it)
        **inputs: Any,
    ) -> Any:
        if labels is None:
            return whole(input_ids, **inputs)
        given = {name: each for name, each in inputs.items() if each is not None}
        _, ends = bounds(given["position_ids"], given.get("attention_mask"))
        hidden = self.base_model(**inputs_of(self, input_ids, given)).last_hidden_state.flatten(0, 1)
        with torch.autocast(hidden.device.type, enabled=False):
            rewards = self.score(hidden[ends - 1].float()).flatten()
            count = len(rewards) // 2
            if not count:  # this process has no rows
                return PairOutput(loss=rewards.sum() * 0, rewards=rewards.new_zeros(0, 2))
            chosen, rejected = rewards[0::2], rewards[1::2]
            losses = pairwise(chosen, rejected)
        hits = (chosen > rejected).float() + (chosen == rejected).float() / 2
        total = losses.sum() / max(int(count if num_items_in_batch is None else num_items_in_batch), 1)
        return PairOutput(total, torch.stack([chosen, rejected], 1).detach(), {"accuracy": hits.sum()})

    forward.__signature__ = signature_of(whole)  # type: ignore[attr-defined]
    model.forward = MethodType(forward, model)


class Reward(Verb[RewardOptions]):
    """The verb `redraft train reward`."""

    row = "pair"
    marked = ("from the first difference on", "the same in both answers")
    parts = ("chosen", "rejected")
    measures = scores = True

    def encoder(self, own: RewardOptions, tokenizer: Tokenizer) -> PairEncoder:
        """Return the encoder of pairs."""
        return PairEncoder(tokenizer, own.format, own.model_max_length)

    def rows(self, lengths: Ints, own: RewardOptions) -> Rows:
        """Put the two examples of each pair into one row."""
        return two_a_row(lengths, own.model_max_length)

    def model(self, own: RewardOptions, ref: str, tokenizer: Tokenizer, *, say: Say) -> Made:
        """Load a classifier that computes the loss of pairs."""
        note = {"redraft_reward": {"format": own.format, "max_length": own.model_max_length}}
        model = load_trained(own, ref, tokenizer, note=note, scores=True)
        compare(bare_of(model))
        return model, can_join(bare_of(model), say=say)

    def finish(self, own: RewardOptions, loop: Loop, base: str, *, command: str, say: Say, warn: Say) -> None:  # noqa: ARG002
        """Measure the trained model on the evaluation data."""
        if isinstance(loop.eval_data, Data):
            learnt = set(map(os.path.realpath, own.data_path)) & set(
                map(os.path.realpath, own.eval_data_path)
            )
            what = "training pairs, which proves nothing" if learnt else "held-out pairs"
            say(f"the result is measured on {what}.")
            for line in measured(loop, loop.eval_data).lines():
                say(line)

    def following(self, own: RewardOptions, base: str) -> str:  # noqa: ARG002
        """Return a line with the next command for the trained model."""
        form = f"{own.model_name_or_path}+{own.output_dir}" if own.lora else own.output_dir
        return f"Try it: redraft ask … --mode best-of --check {shlex.quote(f'reward:{form}')}"


VERB = Reward()


EDGES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Edges of the calibration bins: probabilities that the model gives to the answer that it prefers."""

CHANCE = 0.5

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Bin:
    """A calibration bin: pairs for which the model was about equally sure."""

    low: float
    high: float
    pairs: int
    said: float  # the mean probability that the model gave to the answer it prefers
    right: Estimate  # the share of pairs in which that answer was the chosen one


@dataclass(frozen=True)
class Measured:
    """The figures of a reward model on held-out pairs."""

    pairs: int
    accuracy: Estimate  # the share of pairs whose chosen answer has the higher reward. A tie counts half
    ties: int  # pairs with equal rewards
    loss: float  # the mean of -log sigmoid(r_chosen - r_rejected), in nats; 0.693 by chance
    calibration: tuple[Bin, ...]  # bins by how sure the model was. Empty bins are left out
    miscalibration: float  # the mean of |said - right| over pairs (expected calibration error)
    length: Estimate  # the correlation of the rewards' difference with the lengths' difference, over pairs
    prefers_longer: Estimate  # the share of pairs in which the longer answer has the higher reward
    longer_is_chosen: Estimate  # the share of pairs in which the longer answer is the chosen one

    def lines(self) -> list[str]:
        """Return the figures as lines of text."""
        said = " · ".join(
            f"{each.said:.0%} sure, {each.right.value:.0%} right in {counted(each.pairs, 'pair')}"
            for each in self.calibration
        )
        right, length = self.accuracy, self.length
        share = f"accuracy {right.value:.1%} ({right.low:.1%} to {right.high:.1%})"
        span = f"{length.value:.2f} ({length.low:.2f} to {length.high:.2f})"
        preferred, chosen = self.prefers_longer.value, self.longer_is_chosen.value
        longer = f"longer answers get more reward in {preferred:.1%} of pairs, and are chosen in {chosen:.1%}"
        lines = [f"{counted(self.pairs, 'pair')}: {share}, loss {self.loss:.3f} (chance: 0.693)"]
        if self.pairs >= FEW:
            lines.append(f"calibration, on average: {said} · mean difference {self.miscalibration:.1%}")
            lines.append(f"differences in length and in reward: correlation {span}; {longer}")
        if self.accuracy.high < CHANCE:
            swapped = "chosen and rejected may be swapped in --data_path or in --eval_data_path"
            lines.append(f"the reward prefers the rejected answers: {swapped}.")
        elif self.accuracy.low <= CHANCE:
            lines.append("the interval includes 50 %, so the accuracy may be chance.")
        return lines


def measured(loop: Loop, data: Data) -> Measured:
    """Measure a run's model on `data`, in all processes together, and write `eval.json`."""
    model, batches = loop.trained.model, []
    model.eval()
    with torch.no_grad():
        for batch in data.batches(0):
            there = {name: each.to(loop.args.device) for name, each in batch.items()}
            rewards = model(**there, num_items_in_batch=1).rewards
            starts, ends = bounds(batch["position_ids"], batch.get("attention_mask"))
            marked = np.concatenate([[0], np.cumsum((batch["labels"].flatten() != IGNORED).numpy())])
            counts = (marked[ends.numpy()] - marked[starts.numpy()])[: 2 * counted_in(batch)]
            batches.append((rewards.double().cpu().numpy(), counts.reshape(-1, 2).astype(np.float64)))
    parts = [part for process in gathered(batches) for part in process]
    found = measure(*(np.concatenate(each) for each in zip(*parts, strict=True)))
    if loop.args.should_save:
        write_file(
            loop.folder / "eval.json", json.dumps(without_nan(asdict(found)), indent=1).encode() + b"\n"
        )
    return found


def measure(rewards: Numbers, tokens: Numbers) -> Measured:
    """Compute accuracy, calibration and the effect of length from the rewards of pairs.

    Args:
        rewards: The rewards of the chosen and the rejected answer, [pairs, 2].
        tokens: The lengths of the two answers without the common beginning, [pairs, 2].
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
    sure = 1 / (1 + np.exp(-np.abs(gap)))
    for low, high in itertools.pairwise(EDGES):
        inside = (sure >= low) & ((sure < high) | (high == EDGES[-1]))
        if count := int(inside.sum()):
            right = proportion(float(((np.sign(gap[inside]) + 1) / 2).sum()), count)
            yield Bin(low, high, count, float(sure[inside].mean()), right)
