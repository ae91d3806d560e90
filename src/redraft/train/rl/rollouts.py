"""Rollout batches: the policy answers prompts, a reward judges the answers, and minibatches are made of them.

An epoch of the loop is a rollout batch: `--ppo_epochs` passes over its responses. What a batch needs of the
policy that wrote it (log-probabilities, values, advantages) is computed once, when it is complete. It is part
of a checkpoint, so a run resumes in the middle of a batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from redraft.chain import Prompt
from redraft.engines.base import Sampling, Tokens
from redraft.train.data.batches import Batch
from redraft.train.processes import Say
from redraft.train.rl import algorithm
from redraft.train.rl.algorithm import RunningMoments
from redraft.train.rl.options import PpoOptions
from redraft.train.rl.policy import Policy, Seen, merged, watched
from redraft.train.rl.rewards import Reward
from redraft.train.rl.sampler import Response, Sampler
from redraft.train.rl.samples import Samples
from redraft.train.rl.watch import Watch

_AT_ONCE = 16
"""Sequences of a forward pass without gradients."""


@dataclass(frozen=True)
class Asked:
    """A prompt to train on: its record's id, the prompt, and its tokens up to where the model writes."""

    name: str
    prompt: Prompt
    tokens: Tokens


class Rollouts:
    """A source of minibatches, which writes a rollout batch at the start of each epoch.

    Args:
        policy: The policy.
        tokenizer: Its tokenizer.
        prompts: The prompts, asked in an order set by the seed.
        reward: Judges the answers.
        own: The settings.
        size: Sequences of a minibatch.
        seed: Of the order of prompts and minibatches, and of sampling.
        bf16: Whether layers compute in bf16.
        folder: Where `samples.jsonl` is written.
        say: Called when the run goes wrong.
    """

    def __init__(
        self,
        policy: Policy,
        tokenizer: Any,
        prompts: Sequence[Asked],
        reward: Reward,
        own: PpoOptions,
        *,
        size: int,
        seed: int,
        bf16: bool,
        folder: Path,
        say: Say = lambda _: None,
    ) -> None:
        self.policy, self.prompts, self.reward, self.own = policy, prompts, reward, own
        self._tokenizer, self._size, self._seed, self._bf16 = tokenizer, size, seed, bf16
        self._groups = own.num_generations if own.algorithm in ("rloo", "grpo") else 1
        self.beta = own.init_kl_coef
        self._moments = RunningMoments()
        self._first_std: float | None = None
        self._epoch = -1
        self._batch: Batch = {}
        self._metrics: dict[str, float] = {}
        self._samples, self._say = Samples(folder), say
        self._watch = Watch(own.target, own.stop_kl, own.stop_entropy)

    def __len__(self) -> int:
        return self.own.ppo_epochs * self.own.num_rollouts // self._size

    def tokens(self, batch: Batch) -> int:
        """Return the tokens of a minibatch, without padding."""
        return int((batch["starts"] + batch["mask"].sum(1)).sum())

    def counted(self, batch: Batch) -> int:
        """Return the real response tokens of a minibatch."""
        return int(batch["mask"].sum())

    def names(self, epoch: int, number: int) -> list[str]:
        """Return the ids of the prompts of a minibatch."""
        asked = self._asked(epoch)
        return [asked[row].name for row in self._rows(epoch, number)]

    def batches(
        self, epoch: int, first: int = 0, stops: Callable[[], bool] = lambda: False
    ) -> Iterator[Batch]:
        """Yield the minibatches of a rollout batch, which is written first if it is not there.

        Args:
            epoch: The rollout batch.
            first: The first minibatch.
            stops: Asked between chunks of responses: whether to end without a minibatch.
        """
        if self._epoch != epoch and not self._write(epoch, stops):
            return
        for number in range(first, len(self)):
            yield self._minibatch(self._rows(epoch, number))

    def metrics(self) -> dict[str, float]:
        """Return the numbers of the policy's steps, and of a rollout batch that is new."""
        taken, self._metrics = {**self._metrics, **self.policy.take()}, {}
        if "reward" in taken:
            for line in self._watch.add(taken):
                self._say(line)
        return taken

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: the rollout batch, β and the moments of rewards."""
        return {
            "epoch": self._epoch,
            "batch": self._batch,
            "beta": self.beta,
            "moments": asdict(self._moments),
            "first_std": self._first_std,
            "metrics": self._metrics,
            "watch": self._watch.state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._epoch, self._batch, self.beta = state["epoch"], state["batch"], state["beta"]
        self._moments, self._first_std = RunningMoments(**state["moments"]), state["first_std"]
        self._metrics = state["metrics"]
        self._watch.restore(state["watch"])

    # Minibatches.

    def _rows(self, epoch: int, number: int) -> list[int]:
        """Return the responses of a minibatch. Each pass over a rollout batch has an order of its own."""
        a_pass = len(self) // self.own.ppo_epochs
        of_pass, number = divmod(number, a_pass)
        order = np.random.default_rng((self._seed, epoch, of_pass)).permutation(self.own.num_rollouts)
        rows: list[int] = order[number * self._size : (number + 1) * self._size].tolist()
        return rows

    def _minibatch(self, rows: list[int]) -> Batch:
        taken = {name: each[rows] for name, each in self._batch.items()}
        longest = max(int(taken["mask"].sum(1).max()), 1)
        length = int((taken["starts"] + taken["mask"].sum(1)).max())
        ids, starts = taken.pop("input_ids")[:, :length], taken.pop("starts")
        return {
            "input_ids": ids,
            "starts": starts,
            **{name: each[:, :longest] for name, each in taken.items()},
        }

    # A rollout batch.

    def _asked(self, epoch: int) -> list[Asked]:
        """Return the prompts of a rollout batch. Each pass over the data has an order of its own."""
        wanted, count = self.own.num_rollouts // self._groups, len(self.prompts)
        found = []
        for place in range(epoch * wanted, (epoch + 1) * wanted):
            a_pass, number = divmod(place, count)
            order = np.random.default_rng((self._seed, a_pass)).permutation(count)
            found += [self.prompts[order[number]]] * self._groups
        return found

    def _write(self, epoch: int, stops: Callable[[], bool]) -> bool:
        """Write a rollout batch. Return False if it is to stop before all responses are there."""
        asked = self._asked(epoch)
        self._samples.open(epoch)
        training = self.policy.training
        try:
            responses, scores = asyncio.run(self._respond(epoch, asked, stops))
            if len(responses) < len(asked):
                return False
            self.policy.eval()
            self._batch = self._complete(asked, responses, scores)
        finally:
            self.policy.train(training)
        self._epoch = epoch
        return True

    async def _respond(
        self, epoch: int, asked: Sequence[Asked], stops: Callable[[], bool]
    ) -> tuple[list[Response], list[float]]:
        """Write and judge the responses of a rollout batch, a chunk at a time."""
        responses: list[Response] = []
        scores: list[float] = []
        own, size = self.own, self.own.chunk_size
        longest = max(len(each.tokens) for each in asked)
        with merged(self.policy.model) as bare:
            sampler = Sampler(bare, self._tokenizer, ctx=longest + own.max_new_tokens, parallel=size)
            try:
                for start in range(0, len(asked), size):
                    if stops():
                        break
                    written, judged = await self._chunk(sampler, epoch, start, asked[start : start + size])
                    responses += written
                    scores += judged
            finally:
                await sampler.aclose()
        return responses, scores

    async def _chunk(
        self, sampler: Sampler, epoch: int, start: int, asked: Sequence[Asked]
    ) -> tuple[list[Response], list[float]]:
        rows = range(start, start + len(asked))
        if kept := self._samples.kept(epoch, rows, [each.name for each in asked]):
            return kept
        written = await sampler.chunk(
            [each.tokens for each in asked], [self._sampling(epoch, row) for row in rows]
        )
        judged = list(await self.reward([each.prompt for each in asked], [each.text for each in written]))
        texts = [(each.name, each.prompt.said) for each in asked]
        self._samples.add(epoch, rows, texts, written, judged)
        return written, judged

    def _sampling(self, epoch: int, row: int) -> Sampling:
        seed = int(np.random.SeedSequence((self._seed, epoch, row)).generate_state(1)[0])
        own = self.own
        return Sampling(own.temperature, own.top_p, own.max_new_tokens, seed)

    def _complete(
        self, asked: Sequence[Asked], responses: Sequence[Response], scores: Sequence[float]
    ) -> Batch:
        """Return the tensors of a rollout batch."""
        batch = _padded(asked, responses)
        ended = torch.tensor([each.ended for each in responses])
        judged = torch.tensor(scores, dtype=torch.float64)
        shaped = self._shaped(judged, ended)
        seen, ref = self._seen(batch)
        mask = batch["mask"]
        rewards = algorithm.token_rewards(shaped, seen.log_probs, ref, mask, self._reward_beta)
        advantages, returns = self._advantages(rewards, seen.values, mask)
        self._note(judged, ended, seen, ref, returns, mask)
        return {
            **batch,
            "log_probs": seen.log_probs,
            "ref_log_probs": ref,
            "values": seen.values,
            "advantages": advantages,
            "returns": returns,
        }

    @property
    def _reward_beta(self) -> float:
        """β of the KL in the rewards. GRPO has its KL in the loss."""
        return 0.0 if self.own.algorithm == "grpo" else self.beta

    def _shaped(self, scores: Tensor, ended: Tensor) -> Tensor:
        """Return scores after the penalty, clipping and scaling."""
        own = self.own
        penalised = algorithm.penalise_missing_eos(scores, ended, own.missing_eos_penalty)
        clipped = algorithm.clip_scores(penalised, own.cliprange_reward)
        self._moments = self._moments.updated(clipped)
        self._first_std = self._first_std or self._moments.std
        scale = {"none": 1.0, "running": self._moments.std, "ref": self._first_std}[own.scale_reward]
        return (clipped / scale).float()

    def _seen(self, batch: Batch) -> tuple[Seen, Tensor]:
        """Return what the policy and its reference say of all responses."""
        parts: list[Seen] = []
        refs: list[Tensor] = []
        device = self.policy.value_head.weight.device
        order = torch.argsort(batch["starts"] + batch["mask"].sum(1))
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=self._bf16):
            for rows in torch.split(order, _AT_ONCE):
                length = int((batch["starts"][rows] + batch["mask"][rows].sum(1)).max())
                part = (batch["input_ids"][rows, :length], batch["starts"][rows], batch["mask"][rows])
                on_device = [each.to(device) for each in part]
                parts.append(Seen(*(each.cpu() for each in self.policy.see(*on_device))))
                refs.append(self.policy.see_reference(*on_device).cpu())
        back = torch.argsort(order)
        seen = Seen(*(torch.cat(each)[back] for each in zip(*parts, strict=True)))
        return seen, torch.cat(refs)[back]

    def _advantages(self, rewards: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return advantages, whitened over the rollout batch, and returns."""
        own = self.own
        if own.algorithm in ("rloo", "grpo"):
            whole = rewards.sum(1).view(-1, self._groups)  # the score, and what KL costs
            of = algorithm.rloo_advantages if own.algorithm == "rloo" else algorithm.grpo_advantages
            advantages = of(whole).view(-1, 1) * mask
            return advantages, advantages
        advantages, returns = algorithm.gae(rewards, values, mask, own.gamma, own.lam)
        return algorithm.whiten(advantages, mask), returns

    def _note(
        self, scores: Tensor, ended: Tensor, seen: Seen, ref: Tensor, returns: Tensor, mask: Tensor
    ) -> None:
        """Keep the numbers of a rollout batch, and adapt β for the next."""
        own = self.own
        self._metrics = {
            "reward": float(scores.mean()),
            "reward_std": float(scores.std()),
            "response_tokens": float(mask.sum(1).float().mean()),
            "reward_length_correlation": _correlation(scores, mask.sum(1)),
            "ended": float(ended.float().mean()),
            "beta": self.beta,
            **watched(seen, ref, returns, mask),
        }
        self.policy.kl_coef = self.beta if own.algorithm == "grpo" else 0.0
        if own.target is not None:
            self.beta = algorithm.adaptive_beta(
                self.beta, self._metrics["kl"], target=own.target, n=len(scores), horizon=own.horizon
            )


def _correlation(one: Tensor, other: Tensor) -> float:
    """Return Pearson's correlation, or 0 if one of them does not vary."""
    found = torch.corrcoef(torch.stack([one.double(), other.double()]))[0, 1]
    return float(found.nan_to_num())


def _padded(asked: Sequence[Asked], responses: Sequence[Response]) -> Batch:
    """Return prompts and responses, padded on the right: what `Policy.see` takes."""
    rows = [(*each.tokens, *response.tokens) for each, response in zip(asked, responses, strict=True)]
    length, longest = max(map(len, rows)), max(len(each.tokens) for each in responses)
    ids = torch.zeros(len(rows), length, dtype=torch.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
    counts = torch.tensor([len(each.tokens) for each in responses])
    return {
        "input_ids": ids,
        "starts": torch.tensor([len(each.tokens) for each in asked]),
        "mask": torch.arange(max(longest, 1)) < counts[:, None],
    }
