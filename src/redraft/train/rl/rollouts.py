"""Rollout batches: the policy answers prompts, a reward judges the answers, and minibatches are made of them.

An epoch of the loop is a rollout batch: `--ppo_epochs` passes over its responses. `experience` makes
tensors of them once all are there. They are part of a checkpoint, so a run resumes in the middle of a batch.

Several processes write and judge chunks in turns. All have the same rollout batch then, and each takes its
share of every minibatch. A chunk is computed in the same batches as with one process.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from redraft.counting import counted
from redraft.engines.base import Sampling
from redraft.jobs.signals import unless_stopped
from redraft.machine import trim_heap
from redraft.train.data.batches import Batch
from redraft.train.processes import Say, gathered, place
from redraft.train.rl.algorithm import whiten_trlx
from redraft.train.rl.chains import Score, recorded, scored
from redraft.train.rl.experience import Asked, Experience
from redraft.train.rl.policy import Policy, bare_of, unwrapped
from redraft.train.rl.rewards import Rewards
from redraft.train.rl.sampler import Response, Sampler, ends_of_model
from redraft.train.rl.samples import Samples
from redraft.train.rl.server import Server
from redraft.train.rl.watch import Watch
from redraft.train.run.checkpoints import checkpoints
from redraft.train.settings.ppo import PpoOptions, room, samples_each


class Rollouts:
    """A source of minibatches, which writes a rollout batch at the start of each epoch.

    Args:
        policy: The policy.
        tokenizer: Its tokenizer.
        prompts: The prompts, asked in an order set by the seed.
        reward: Judges the answers.
        own: The settings.
        size: Sequences of a minibatch, of this process.
        seed: Of the order of prompts and minibatches, and of sampling.
        bf16: Whether layers compute in bf16.
        folder: Where `samples.jsonl` is written, and adapters for a server.
        say: Called when the run goes wrong.
    """

    def __init__(
        self,
        policy: Policy,
        tokenizer: Any,
        prompts: Sequence[Asked],
        reward: Rewards,
        own: PpoOptions,
        *,
        size: int,
        seed: int,
        bf16: bool,
        folder: Path,
        say: Say = lambda _: None,
    ) -> None:
        self.policy, self.prompts, self.reward, self.own = policy, prompts, reward, own
        self._rank, self._ranks = place()
        self._tokenizer, self._size, self._seed, self._bf16 = tokenizer, size * self._ranks, seed, bf16
        self._experience = Experience(policy, own, size=self._size, bf16=bf16)
        self._epoch = -1
        self._batch: Batch = {}
        self._is_unchecked = False  # whether the last step of that batch is taken
        self._before: dict[str, Any] = {}  # what `experience` kept before that batch
        leads = not self._rank
        self._samples = Samples(
            folder,
            afresh=own.overwrite_output_dir,
            settings=_settings(own, seed),
            judge=reward.fingerprint,
            leads=leads,
        )
        self._server = None
        if own.rollout_url:
            self._server = Server(own.rollout_url, folder, least=own.min_new_tokens, ends=self._ends)
        self._say = say
        self._watch = Watch(
            own.target,
            own.stop_kl,
            own.stop_entropy,
            own.stop_step_kl,
            cut_pays=bool(own.missing_eos_penalty),
            saved=partial(checkpoints, folder),
        )

    def _ends(self) -> frozenset[int]:
        return ends_of_model(bare_of(self.policy.model), self._tokenizer)

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
        return [asked[row].record.id for row in self._mine(self._rows(epoch, number))]

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
            self._is_unchecked = number == len(self) - 1
            yield self._minibatch(self._rows(epoch, number))
            self._add_step(float(self.policy.step_kl))  # of the steps before this one
        self._check_last_step()

    def metrics(self) -> dict[str, float]:
        """Return the numbers of the policy's steps, and of a rollout batch that is new."""
        taken, self._experience.metrics = {**self._experience.metrics, **self.policy.sums.take()}, {}
        self._check_last_step()
        if "reward" in taken:
            self._tell(self._watch.add(taken, self._epoch))
        return taken

    def _tell(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._say(line)

    def _add_step(self, kl: float) -> None:
        """Add how far the steps took the policy, over all processes: they go on or end together."""
        self._tell(self._watch.add_step(fmean(gathered(kl)), self._epoch))

    def _check_last_step(self) -> None:
        """Measure how far the last step of a rollout batch went. Other steps are measured by the next."""
        if self._is_unchecked:
            self._is_unchecked = False
            training = self.policy.training
            self.policy.eval()
            self._add_step(self._experience.step_kl(self._batch))
            self.policy.train(training)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: the rollout batch, β and the moments of rewards."""
        return {
            "epoch": self._epoch,
            "batch": self._batch,
            "judge": self.reward.fingerprint,
            "before": self._before,
            "metrics": self._experience.metrics,
            "experience": self._experience.state_dict(),
            "sums": self.policy.sums.parts(),
            "watch": self._watch.state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._epoch, self._batch, self._before = state["epoch"], state["batch"], state.get("before", {})
        self._experience.metrics = state["metrics"]
        self._experience.load_state_dict(state["experience"])
        if self._before and state["judge"] != self.reward.fingerprint:  # its answers are judged again
            self._epoch, self._batch, self._experience.metrics = -1, {}, {}
            self._experience.load_state_dict(self._before)
        self.policy.sums.restore(state["sums"])
        self._watch.restore(state["watch"])

    # Minibatches.

    def _rows(self, epoch: int, number: int) -> list[int]:
        """Return the responses of a minibatch, over all processes. Each pass has an order of its own."""
        a_pass = len(self) // self.own.ppo_epochs
        of_pass, number = divmod(number, a_pass)
        order = np.random.default_rng((self._seed, epoch, of_pass)).permutation(self.own.num_rollouts)
        rows: list[int] = order[number * self._size : (number + 1) * self._size].tolist()
        return rows

    def _mine(self, rows: list[int]) -> list[int]:
        """Return this process's share of a minibatch."""
        return rows[self._rank :: self._ranks]

    def _minibatch(self, rows: list[int]) -> Batch:
        taken = {name: each[self._mine(rows)] for name, each in self._batch.items()}
        if self.own.algorithm == "ppo-trlx":  # all processes' rows, which trlX whitens together too
            longest = max(int(self._batch["mask"][rows].sum(1).max()), 1)
            whole = whiten_trlx(self._batch["advantages"][rows, :longest])
            taken["advantages"] = whole[self._rank :: self._ranks]
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
        samples, count = samples_each(self.own), len(self.prompts)
        wanted = self.own.num_rollouts // samples
        found: list[Asked] = []
        for a_pass in range(epoch * wanted // count, ((epoch + 1) * wanted - 1) // count + 1):
            order = np.random.default_rng((self._seed, a_pass)).permutation(count)
            start, end = epoch * wanted - a_pass * count, (epoch + 1) * wanted - a_pass * count
            found += [self.prompts[number] for number in order[max(start, 0) : end] for _ in range(samples)]
        return found

    def _write(self, epoch: int, stops: Callable[[], bool]) -> bool:
        """Write a rollout batch. Return False if it is to stop before all responses are there."""
        asked = self._asked(epoch)
        if stale := self._samples.open(epoch):
            known = counted(stale, "answer")
            self._say(f"the reward has changed since {known} got theirs: they are judged again.")
        training = self.policy.training
        try:
            responses, scores = asyncio.run(self._respond(epoch, asked, stops))
            if len(responses) < len(asked):
                return False
            self.policy.eval()
            self._before = self._experience.state_dict()
            self._batch = self._experience.complete(asked, responses, scores)
        finally:
            self.policy.train(training)
            trim_heap()
        self._epoch = epoch
        return True

    async def _respond(
        self, epoch: int, asked: Sequence[Asked], stops: Callable[[], bool]
    ) -> tuple[list[Response], list[Score]]:
        """Write and judge the responses of a rollout batch, a chunk at a time in each process."""
        responses: list[Response] = []
        scores: list[Score] = []
        own, size = self.own, min(self.own.chunk_size, self.own.num_rollouts)
        longest = max(len(each.tokens) + room(own, len(each.tokens)) for each in asked)
        async with self._sampler(longest) as sampler:
            for first in range(0, len(asked), size * self._ranks):
                if stops():
                    break
                start = first + size * self._rank
                mine = await self._chunk(sampler, epoch, start, asked[start : start + size])
                parts = gathered(mine)
                if not all(parts):  # a signal came to a process, which `stops` tells to all
                    stops()
                    break
                for written, judged in filter(None, parts):
                    self._keep(epoch, len(scores), asked, written, judged)
                    responses += written
                    scores += judged
        return responses, scores

    @asynccontextmanager
    async def _sampler(self, ctx: int) -> AsyncIterator[Sampler | Server]:
        """Yield what writes responses with the policy as it is now."""
        if self._server is not None:
            await self._server.load(self.policy.model)
            yield self._server
            return
        own = self.own
        with unwrapped(self.policy.model) as bare:
            sampler = Sampler(
                bare, self._tokenizer, ctx=ctx, parallel=own.chunk_size, least=own.min_new_tokens
            )
            try:
                yield sampler
            finally:
                await sampler.aclose()

    async def _chunk(
        self, sampler: Sampler | Server, epoch: int, start: int, asked: Sequence[Asked]
    ) -> tuple[list[Response], list[Score]] | None:
        """Write and judge a chunk, as far as it is not there. Return None if a signal came while it waited.

        Judges and servers are waited for; what this process writes itself is finished.
        """
        rows = range(start, start + len(asked))
        written, scores = self._samples.kept(epoch, rows, _said(asked))
        if written and scores:
            return written, scores
        if not written:
            writing = sampler.chunk(
                [each.tokens for each in asked],
                [self._sampling(epoch, row, each) for row, each in zip(rows, asked, strict=True)],
            )
            written = await (unless_stopped(writing) if isinstance(sampler, Server) else writing) or []
        if not written:
            return None
        pairs = zip(asked, written, strict=True)
        records = [recorded(each.record, response, chains=self.own.chains) for each, response in pairs]
        judged = await unless_stopped(scored(self.reward, records, written, self._tokenizer))
        return (written, judged) if judged else None

    def _keep(
        self, epoch: int, start: int, asked: Sequence[Asked], written: list[Response], judged: list[Score]
    ) -> None:
        rows = range(start, start + len(judged))
        self._samples.add(epoch, rows, _said([asked[row] for row in rows]), written, judged)

    def _sampling(self, epoch: int, row: int, asked: Asked) -> Sampling:
        seed = int(np.random.SeedSequence((self._seed, epoch, row)).generate_state(1)[0])
        own = self.own
        return Sampling(own.temperature, 1.0, room(own, len(asked.tokens)), seed)


def _said(asked: Sequence[Asked]) -> list[tuple[str, str]]:
    """Return the id and the text of each prompt."""
    return [(each.record.id, each.record.prompt.said) for each in asked]


_DECIDING = (
    *("model_name_or_path", "format", "algorithm", "num_generations", "num_rollouts", "chunk_size"),
    *("chains", "max_length", "max_new_tokens", "min_new_tokens", "temperature"),
)
"""Settings that decide the first rollout batch. A run that has steps keeps all of its settings."""


def _settings(own: PpoOptions, seed: int) -> str:
    """Return a short hash of what decides responses, next to the prompts."""
    deciding = [seed, *(getattr(own, name) for name in _DECIDING)]
    return hashlib.sha256(repr(deciding).encode()).hexdigest()[:8]
