"""From responses and scores to tensors: what a policy learns of a rollout batch.

Log-probabilities and values are those of the policy that wrote the responses, computed once. `--algorithm`
decides what becomes of the scores: see `algorithm` for each formula. β, the price of KL, is adapted after
each rollout batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from redraft.chain import Chain
from redraft.engines.base import Tokens
from redraft.train.data.batches import Batch
from redraft.train.processes import shared_out
from redraft.train.rl import algorithm
from redraft.train.rl.algorithm import RunningMoments
from redraft.train.rl.chains import Score
from redraft.train.rl.policy import Policy, Seen
from redraft.train.rl.sampler import Response
from redraft.train.settings.ppo import PpoOptions, samples_each

AT_ONCE = 16
"""Sequences of a forward pass without gradients."""

BETA = (1e-8, 1e8)
"""β stays within these, so that one that is driven to an end can come back."""


@dataclass(frozen=True)
class Asked:
    """A prompt to train on: its record, without answers, and its tokens up to where the model writes."""

    record: Chain
    tokens: Tokens


class Part(NamedTuple):
    """What is credited by itself: its tokens, bool [sequences, tokens], and their scores, [sequences]."""

    mask: Tensor
    scores: Tensor


class Experience:
    """Makes tensors of rollout batches, and keeps what they need of earlier ones.

    Args:
        policy: The policy that writes the responses.
        own: The settings.
        size: Sequences of a minibatch.
        bf16: Whether layers compute in bf16.

    Attributes:
        beta: β, for the next rollout batch.
        metrics: The numbers of the last one.
    """

    def __init__(self, policy: Policy, own: PpoOptions, *, size: int, bf16: bool) -> None:
        self._policy, self._own, self._size, self._bf16 = policy, own, size, bf16
        self.beta = own.init_kl_coef
        self.metrics: dict[str, float] = {}
        self._moments = RunningMoments()
        self._first_std: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {
            "beta": self.beta,
            "kl_coef": self._policy.kl_coef,
            "moments": asdict(self._moments),
            "first_std": self._first_std,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.beta, self._policy.kl_coef = state["beta"], state["kl_coef"]
        self._moments, self._first_std = RunningMoments(**state["moments"]), state["first_std"]

    def complete(
        self, asked: Sequence[Asked], responses: Sequence[Response], scores: Sequence[Score]
    ) -> Batch:
        """Return the tensors of a rollout batch: what `Policy` takes, without its last argument."""
        batch = padded(asked, responses)
        ended = torch.tensor([each.ended for each in responses])
        finals, firsts = torch.tensor([(each.reward, each.first) for each in scores], dtype=torch.float64).T
        openings = torch.tensor([each.opening for each in scores])
        seen, ref = self._seen(batch["input_ids"], batch["starts"], batch["mask"])
        mask, begins = batch["mask"], not self._moments.count
        in_loss = self._own.algorithm == "grpo"
        later = mask & (torch.arange(mask.shape[1]) >= openings[:, None])
        prices = 0.0 if in_loss else self._prices(later)
        parts = self._parts(finals, firsts, ended, mask, later)
        rewards = _added(
            algorithm.token_rewards(part.scores, seen.log_probs, ref, part.mask, prices) for part in parts
        )
        if begins and self._own.algorithm == "ppo":
            seen = seen._replace(values=self._lifted(rewards, seen.values, parts, mask))
        if samples_each(self._own) > 1:
            advantages = returns = self._compared(batch, rewards, parts, later)
        else:
            advantages, returns = self._foreseen(rewards, seen.values, parts, mask)
        drawn = _drawn(responses, mask)
        weights = self._weights(seen.log_probs, drawn, mask)
        self.metrics = {
            **_of_scores(finals, ended, mask),
            **_of_parts(scores),
            **(_of_chains(finals, firsts, openings, mask) if self._own.chains else {}),
            "beta": self.beta,
            **_of_policy(seen, ref, mask),
            **_of_sampler(seen.log_probs, drawn, mask),
            **self._of_groups(parts),
            **self._of_values(seen.values, returns, mask),
        }
        self._policy.kl_coef = self.beta if in_loss else 0.0
        self._adapt(batch, len(scores))
        return {
            **batch,
            "log_probs": seen.log_probs,
            "ref_log_probs": ref,
            "values": seen.values,
            "advantages": (advantages * weights).float(),
            "returns": returns.float(),
        }

    def _weights(self, log_probs: Tensor, drawn: Tensor, mask: Tensor) -> Tensor:
        """Return what each token counts, because the sampler drew it. trlX has no such weights."""
        if self._own.algorithm == "ppo-trlx" or not (most := self._own.importance_sampling_clip_max):
            return mask.float()
        return algorithm.importance_weights(log_probs, drawn, mask & ~drawn.isnan(), most)

    def _of_groups(self, parts: Sequence[Part]) -> dict[str, float]:
        """Return the share of prompts whose answers are all worth the same, if they are compared."""
        if (samples := samples_each(self._own)) == 1:
            return {}
        scores = torch.cat([part.scores.view(-1, samples) for part in parts], 1)
        return {"groups_without_spread": float(algorithm.without_spread(scores).double().mean())}

    def _of_values(self, values: Tensor, returns: Tensor, mask: Tensor) -> dict[str, float]:
        """Return how well the value head does, if there is one."""
        if not self._own.algorithm.startswith("ppo"):
            return {}
        return {"explained_variance": float(algorithm.explained_variance(values, returns, mask))}

    def _prices(self, later: Tensor) -> Tensor:
        """Return the price of KL of each token, [sequences, tokens]. That of answer 0 may be its own."""
        first = self._own.first_kl_coef
        return torch.where(later, self.beta, self.beta if first is None else first)

    def _parts(
        self, finals: Tensor, firsts: Tensor, ended: Tensor, mask: Tensor, later: Tensor
    ) -> list[Part]:
        """Return what is credited by itself: an answer; with a bonus, answer 0 and what follows."""
        shaped, scale = self._shaped(finals, ended)
        if not (bonus := self._own.revision_bonus):
            return [Part(mask, shaped)]
        alone = algorithm.clip_scores(firsts, self._own.cliprange_reward or math.inf) / scale
        return [
            Part(mask & ~later, torch.where(later.any(1), alone, shaped)),
            Part(later, shaped + bonus * (finals - firsts) / scale),
        ]

    def _shaped(self, scores: Tensor, ended: Tensor) -> tuple[Tensor, float]:
        """Return scores after the penalty, clipping and scaling, and what they were divided by."""
        own = self._own
        penalised = algorithm.penalise_missing_eos(scores, ended, own.missing_eos_penalty)
        clipped = algorithm.clip_scores(penalised, own.cliprange_reward or math.inf)
        self._moments = self._moments.updated(clipped)
        self._first_std = self._first_std or self._moments.std
        scale = {"none": 1.0, "running": self._moments.std, "ref": self._first_std}[own.scale_reward]
        return clipped / scale, scale

    def _seen(self, input_ids: Tensor, starts: Tensor, mask: Tensor) -> tuple[Seen, Tensor]:
        """Return what the policy and its reference say of all responses, those of a length together.

        The processes share them.
        """
        device = self._policy.value_head.weight.device
        lengths = starts + mask.sum(1)
        order = torch.argsort(lengths)

        def see(rows: Tensor) -> list[Tensor]:
            longest = int(lengths[rows].max())
            part = [each.to(device) for each in (input_ids[rows, :longest], starts[rows], mask[rows])]
            return [each.cpu() for each in (*self._policy.see(*part), self._policy.see_reference(*part))]

        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=self._bf16):
            parts = shared_out(torch.split(order, AT_ONCE), see)
        back = torch.argsort(order)
        *seen, ref = (torch.cat(each)[back] for each in zip(*parts, strict=True))
        return Seen(*seen), ref

    def step_kl(self, batch: Batch) -> float:
        """Return how far the steps on a rollout batch took the policy: KL of a token of its first answers."""
        part = {name: batch[name][:AT_ONCE] for name in ("input_ids", "starts", "mask", "log_probs")}
        device = self._policy.value_head.weight.device
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=self._bf16):
            ids, starts, mask, before = (each.to(device) for each in part.values())
            now = self._policy.see(ids, starts, mask).log_probs
        return float(algorithm.masked_mean(algorithm.kl_k3(before, now, mask), mask))

    def _lifted(self, rewards: Tensor, values: Tensor, parts: Sequence[Part], mask: Tensor) -> Tensor:
        """Raise the value head's bias, and so all values, to the mean of what is to come, at the start.

        From 0, steps of the usual size take thousands to reach rewards around 10. Until then all advantages
        are of one sign, and grow with the distance from the end.
        """
        made, _ = self._of_each(rewards, torch.zeros_like(values), parts, lam=1.0)
        bias = algorithm.masked_mean(made - values, mask).float()
        with torch.no_grad():
            self._policy.value_head.bias.add_(bias.to(self._policy.value_head.bias.device))
        return values + bias * mask

    def _foreseen(
        self, rewards: Tensor, values: Tensor, parts: Sequence[Part], mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return advantages and returns of values. Those of trlX are whitened later, in each minibatch."""
        advantages, returns = self._of_each(rewards, values, parts, lam=self._own.lam)
        if self._own.algorithm == "ppo-trlx":
            return advantages, returns
        return algorithm.whiten(advantages, mask), returns

    def _of_each(
        self, rewards: Tensor, values: Tensor, parts: Sequence[Part], *, lam: float
    ) -> tuple[Tensor, Tensor]:
        """Return advantages and returns of each part by itself: none sees what comes after it."""
        given = rewards.float().double()  # as values are rounded, or equal rewards would differ from them
        made = [algorithm.gae(given, values.double(), part.mask, self._own.gamma, lam) for part in parts]
        advantages, returns = (
            _added(each * part.mask for each, part in zip(kind, parts, strict=True))
            for kind in zip(*made, strict=True)
        )
        return advantages, returns

    def _compared(self, batch: Batch, rewards: Tensor, parts: Sequence[Part], later: Tensor) -> Tensor:
        """Return advantages of answers over others to their prompt.

        With a bonus, what follows answer 0 is compared among chains that share answer 0: others had another
        task. Where none shares it, it is compared with leaving answer 0 as it is.
        """
        own, samples = self._own, samples_each(self._own)
        of = algorithm.rloo_advantages if own.algorithm == "rloo" else algorithm.grpo_advantages
        first, rest = (rewards * parts[0].mask).sum(1), (rewards * later).sum(1)  # less what KL costs
        second = torch.where(later.any(1), rest, first)
        if len(parts) == 1:
            second = of(second.view(-1, samples)).flatten()
        for rows in _sharing(batch, later) if len(parts) > 1 else []:
            scores = torch.cat([rest[rows], parts[0].scores[rows if len(rows) == 1 else []]])
            second[rows] = of(scores[None])[0, : len(rows)]
        first = of(first.view(-1, samples)).flatten()
        return torch.where(later, second[:, None], first[:, None]) * batch["mask"]

    def _adapt(self, batch: Batch, count: int) -> None:
        """Adapt β to the KL of a rollout batch, if it has a target."""
        own = self._own
        if own.target is None:
            return
        if own.algorithm == "ppo-trlx":
            beta = algorithm.adaptive_beta_trlx(
                self.beta,
                self._kl_trlx(batch),
                target=own.target,
                batch_size=self._size,
                horizon=own.horizon,
                ppo_epochs=own.ppo_epochs,
            )
        else:
            beta = algorithm.adaptive_beta(
                self.beta, self.metrics["kl"], target=own.target, n=count, horizon=own.horizon
            )
        self.beta = min(max(beta, BETA[0]), BETA[1]) if self.beta else 0.0

    def _kl_trlx(self, batch: Batch) -> float:
        """Return trlX's KL, which counts the prompt's tokens too."""
        lengths = batch["starts"] + batch["mask"].sum(1)
        tokens = torch.arange(1, batch["input_ids"].shape[1]) < lengths[:, None]
        seen, ref = self._seen(batch["input_ids"], torch.ones_like(lengths), tokens)
        return float(algorithm.kl_trlx(seen.log_probs, ref, tokens))


def padded(asked: Sequence[Asked], responses: Sequence[Response]) -> Batch:
    """Return prompts and responses as tensors, padded on the right.

    Returns:
        `input_ids`, int64 [sequences, length]; `starts`, where each response begins, int64 [sequences]; and
        `mask`, the real tokens of the responses, bool [sequences, tokens].
    """
    rows = [(*each.tokens, *response.tokens) for each, response in zip(asked, responses, strict=True)]
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
    counts = torch.tensor([len(each.tokens) for each in responses])
    return {
        "input_ids": ids,
        "starts": torch.tensor([len(each.tokens) for each in asked]),
        "mask": torch.arange(max(int(counts.max()), 1)) < counts[:, None],
    }


def _added(tensors: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(tensors)).sum(0)


def _sharing(batch: Batch, later: Tensor) -> list[list[int]]:
    """Return the chains that go on after answer 0, by number: those with the same prompt and answer 0."""
    found: dict[tuple[int, ...], list[int]] = {}
    for row in later.any(1).nonzero().flatten().tolist():
        opening = int((batch["mask"][row] & ~later[row]).sum())
        ids = batch["input_ids"][row, : int(batch["starts"][row]) + opening]
        found.setdefault(tuple(ids.tolist()), []).append(row)
    return list(found.values())


def _drawn(responses: Sequence[Response], mask: Tensor) -> Tensor:
    """Return the sampler's log-probabilities, [sequences, tokens]; NaN where it did not say."""
    said = [each.log_probs or (math.nan,) * len(each.tokens) for each in responses]
    flat = torch.tensor([each for row in said for each in row])
    return torch.full(mask.shape, math.nan).masked_scatter(mask, flat)


def _of_sampler(log_probs: Tensor, drawn: Tensor, mask: Tensor) -> dict[str, float]:
    """Return the KL of a token from the sampler to the trainer, in nats, if the sampler said anything."""
    if not (known := mask & ~drawn.isnan()).any():
        return {}
    return {"sampler_kl": float(algorithm.masked_mean(algorithm.kl_k3(drawn, log_probs, known), known))}


def _of_scores(scores: Tensor, ended: Tensor, mask: Tensor) -> dict[str, float]:
    """Return what a rollout batch says of the answers."""
    tokens = mask.sum(1)
    varies = all(float(algorithm.deviation(each)) for each in (scores, tokens))
    tied = torch.corrcoef(torch.stack([scores, tokens.double()]))[0, 1] if varies else torch.zeros(())
    return {
        "reward": float(scores.mean()),
        "reward_std": float(algorithm.deviation(scores)),
        "response_tokens": float(tokens.double().mean()),
        "reward_length_correlation": float(tied),
        "ended": float(ended.double().mean()),
    }


def _of_parts(scores: Sequence[Score]) -> dict[str, float]:
    """Return the mean of what each of several rewards adds."""
    forms = scores[0].parts
    return {f"reward/{form}": sum(each.parts[form] for each in scores) / len(scores) for form in forms}


def _of_chains(finals: Tensor, firsts: Tensor, openings: Tensor, mask: Tensor) -> dict[str, float]:
    """Return what revising changed: the mean reward of answer 0, and shares of responses."""
    found = {
        "first_reward": firsts,
        "with_feedback": openings < mask.sum(1),
        "improved": finals > firsts,
        "harmed": finals < firsts,
    }
    return {name: float(each.double().mean()) for name, each in found.items()}


def _of_policy(seen: Seen, ref: Tensor, mask: Tensor) -> dict[str, float]:
    """Return what a rollout batch says of the policy: KL of an answer and entropy of a token, in nats."""
    found = {
        "kl": algorithm.kl_k1(seen.log_probs, ref, mask).sum(1).mean(),
        "kl_k3": algorithm.kl_k3(seen.log_probs, ref, mask).sum(1).mean(),
        "rollout_entropy": algorithm.masked_mean(seen.entropy, mask),
    }
    return {name: float(each) for name, each in found.items()}
