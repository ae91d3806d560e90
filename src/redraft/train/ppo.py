"""PPO, RLOO and GRPO from top to bottom: rollouts, rewards, advantages, updates.

`train.loop` reads batches from `Ppo`. Each epoch of the loop is a rollout batch:

1. Rollouts: the policy answers prompts, `--chunk_size` at once (`policy`).
2. Rewards: the answers of each chunk are judged (`rewards`) and written to `samples.jsonl`.
3. Advantages: after the last chunk, `Experience` makes tensors of all answers. `--algorithm` decides how
   scores become advantages (`algorithm`). β, the KL coefficient, is adapted after each rollout batch.
4. Updates: `--ppo_epochs` passes over the answers in minibatches. `Learner` computes a minibatch's loss.

A checkpoint contains the rollout batch, so a run can resume between the updates of a batch. An unfinished
rollout batch is sampled again. Several processes divide the chunks and, later, each minibatch.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor
from transformers import TrainingArguments
from transformers.modeling_outputs import CausalLMOutput

from redraft.chain import Chain
from redraft.chain.encoder import Example, PromptEncoder
from redraft.chain.read.records import raw_records
from redraft.engines.base import Sampling, Tokens
from redraft.errors import ModelError, UsageError
from redraft.jobs.machine import trim_heap
from redraft.jobs.signals import unless_stopped
from redraft.train.attention import use_segments
from redraft.train.batches import Batch, Data, Rows, SharedMeans, Source, one_a_row
from redraft.train.load import Tokenizer, load_trained
from redraft.train.options import PpoOptions, room, samples_each
from redraft.train.prepare import Ints
from redraft.train.processes import Say, gathered, place, shared_out
from redraft.train.rl import algorithm
from redraft.train.rl.policy import Policy, Response, Sampler, Samples, Seen, recorded, unwrapped
from redraft.train.rl.rewards import Rewards, parse_rewards
from redraft.train.verb import Made, Verb, bare_of

AT_ONCE = 16  # sequences per forward pass without gradients
_Score = dict[str, float]  # a response's weighted rewards, by the values of `--reward`
BETA = (1e-8, 1e8)  # bounds of β, because multiplication cannot change 0 or infinity


@dataclass(frozen=True)
class RolloutPrompt:
    """A prompt to train on: a record without answers, and the tokens of the prompt."""

    record: Chain
    tokens: Tokens


class PpoVerb(Verb[PpoOptions]):
    """The verb `redraft train ppo`."""

    row = "prompt"
    marked = ("", "a prompt, up to the start of the answer")

    def encoder(self, own: PpoOptions, tokenizer: Tokenizer) -> PromptEncoder:
        """Return the encoder of prompts."""
        return PromptEncoder(tokenizer, own.format, own.longest, own.least)

    def rows(self, lengths: Ints, own: PpoOptions) -> Rows:
        """Put one prompt into each row."""
        return one_a_row(lengths, own.longest)

    def model(self, own: PpoOptions, ref: str, tokenizer: Tokenizer, *, say: Say) -> Made:  # noqa: ARG002
        """Load a causal language model with an adapter."""
        made = load_trained(own, ref, tokenizer)
        bare = bare_of(made)
        if bare.config._attn_implementation == "sdpa":  # noqa: SLF001 - the only way to ask
            with suppress(ModelError):  # otherwise rows are padded
                use_segments(bare)
        return made, False

    def source(
        self, model: PeftModel, data: Data, own: PpoOptions, args: TrainingArguments, tokenizer: Tokenizer
    ) -> tuple[Ppo, Learner]:
        """Return the source of rollout batches, and the policy that answers the prompts."""
        longest = int(data.rows.lengths.max())
        trained = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        if trained and longest + (answer := room(own, longest)) > trained:
            both = f"a prompt of {longest:,} tokens and an answer of {answer:,} together exceed"
            hint = f"To leave out prompts that are too long: {own.longest_flag} {trained}"
            raise UsageError(f"{both} the {trained:,} tokens that the model was trained for.", hint=hint)
        policy = Learner(model, own)
        read = Ppo(
            policy,
            tokenizer,
            list(_prompts(own, self.encoder(own, tokenizer))),
            parse_rewards(own.reward),
            own,
            size=args.train_batch_size,
            seed=args.seed,
            bf16=bool(args.bf16),
            folder=Path(str(args.output_dir)),
        )
        if args.max_steps <= 0:
            batches = -(-args.num_train_epochs * len(data.rows) * samples_each(own) // own.num_rollouts)
            args.max_steps = int(batches * len(read) // args.gradient_accumulation_steps)
        if args.logging_steps <= 1:
            args.logging_steps = len(read) // args.gradient_accumulation_steps  # a line for a rollout batch
        return read, policy


VERB = PpoVerb()


def _prompts(own: PpoOptions, encoder: PromptEncoder) -> Iterator[RolloutPrompt]:
    raw = (each for path in own.data_path for each in raw_records(Path(path)))
    for chain in itertools.chain.from_iterable(map(encoder.chains, raw)):
        if isinstance(found := encoder.encode(chain), Example):
            bare = chain.model_copy(update={"steps": (), "drafts": (), "best": None})
            yield RolloutPrompt(bare, tuple(found.ids.tolist()))


class Ppo(Source):
    """A source of minibatches, which makes a rollout batch at the start of each epoch.

    `size` is the number of sequences in a minibatch of this process. `samples.jsonl` is written to `folder`.
    """

    def __init__(
        self,
        policy: Learner,
        tokenizer: Any,
        prompts: Sequence[RolloutPrompt],
        reward: Rewards,
        own: PpoOptions,
        *,
        size: int,
        seed: int,
        bf16: bool,
        folder: Path,
    ) -> None:
        self.policy, self.prompts, self.reward, self.own = policy, prompts, reward, own
        self._rank, self._ranks = place()
        self._tokenizer, self._size, self._seed = tokenizer, size * self._ranks, seed
        self._experience = Experience(policy, own, size=self._size, bf16=bf16)
        self._epoch = -1
        self._batch: Batch = {}
        self._samples = Samples(folder)

    def __len__(self) -> int:
        return self.own.ppo_epochs * self.own.num_rollouts // self._size

    def batches(
        self, epoch: int, first: int = 0, stops: Callable[[], bool] = lambda: False
    ) -> Iterator[Batch]:
        """Make a rollout batch if needed, then yield minibatches."""
        if self._epoch != epoch and not self._made(epoch, stops):
            return
        for number in range(first, len(self)):
            self.note(f"update {number + 1} of {len(self)} on these answers")
            rows = self._rows(epoch, number)[self._rank :: self._ranks]
            taken = {name: each[rows] for name, each in self._batch.items()}
            longest = max(int(taken["mask"].sum(1).max()), 1)
            length = int((taken["starts"] + taken["mask"].sum(1)).max())
            ids, starts = taken.pop("input_ids")[:, :length], taken.pop("starts")
            cut = {name: each[:, :longest] for name, each in taken.items()}
            yield {"input_ids": ids, "starts": starts, **cut}

    def _made(self, epoch: int, stops: Callable[[], bool]) -> bool:
        asked = self._asked(epoch)
        if not self._rank:
            self._samples.open(epoch)
        training = self.policy.training
        try:
            responses, scores = asyncio.run(self._respond(epoch, asked, stops))
            if len(responses) < len(asked):
                return False
            self.policy.eval()
            self._batch = self._experience.complete(asked, responses, scores)
        finally:
            self.policy.train(training)
            trim_heap()
        self._epoch = epoch
        return True

    # 1. Rollouts.

    def _asked(self, epoch: int) -> list[RolloutPrompt]:
        samples, count = samples_each(self.own), len(self.prompts)
        wanted = self.own.num_rollouts // samples
        found: list[RolloutPrompt] = []
        for a_pass in range(epoch * wanted // count, ((epoch + 1) * wanted - 1) // count + 1):
            order = np.random.default_rng((self._seed, a_pass)).permutation(count)
            start, end = epoch * wanted - a_pass * count, (epoch + 1) * wanted - a_pass * count
            found += [self.prompts[number] for number in order[max(start, 0) : end] for _ in range(samples)]
        return found

    async def _respond(
        self, epoch: int, asked: Sequence[RolloutPrompt], stops: Callable[[], bool]
    ) -> tuple[list[Response], list[_Score]]:
        responses: list[Response] = []
        scores: list[_Score] = []
        size = min(self.own.chunk_size, self.own.num_rollouts)
        longest = max(len(each.tokens) + room(self.own, len(each.tokens)) for each in asked)
        least, parallel = self.own.min_new_tokens, self.own.chunk_size
        with unwrapped(self.policy.model) as bare:
            made = Sampler(bare, self._tokenizer, ctx=longest, parallel=parallel, least=least)
            made.on_token = lambda: self.note(
                f"{made.ended * self._ranks} of {len(asked)} answers written, "
                f"{made.tokens * self._ranks:,} tokens"
            )
            rows, firsts = range(len(asked)), range(0, len(asked), size * self._ranks)
            chunks = [rows[first + size * self._rank :][:size] for first in firsts]
            async with aclosing(made) as sampler:
                own = itertools.chain.from_iterable(chunks)
                sampled = [(asked[row].tokens, self._sampling(epoch, row, asked[row])) for row in own]
                begun = iter(await sampler.begin(sampled))
                for chunk in chunks:
                    if stops():
                        break
                    parts = gathered(await self._judged([asked[row] for row in chunk], begun))
                    if None in parts:  # a signal came to one process; `stops` tells all
                        stops()
                        break
                    for written, judged in filter(None, parts):
                        done = rows[len(scores) :][: len(judged)]
                        records = [asked[row].record for row in done]
                        self._samples.add(epoch, done, records, written, judged)
                        responses += written
                        scores += judged
        return responses, scores

    def _sampling(self, epoch: int, row: int, asked: RolloutPrompt) -> Sampling:
        seed = int(np.random.SeedSequence((self._seed, epoch, row)).generate_state(1)[0])
        return Sampling(self.own.temperature, 1.0, room(self.own, len(asked.tokens)), seed)

    # 2. Rewards.

    async def _judged(
        self, asked: Sequence[RolloutPrompt], begun: Iterator[Awaitable[Response]]
    ) -> tuple[list[Response], list[_Score]] | None:
        written = await asyncio.gather(*itertools.islice(begun, len(asked)))
        records = [recorded(one.record, response) for one, response in zip(asked, written, strict=True)]
        judged = await unless_stopped(self.reward(records)) if records else []
        return None if judged is None else (written, judged)

    # 4. Updates. (3 is `Experience`, below.)

    def _rows(self, epoch: int, number: int) -> list[int]:
        of_pass, number = divmod(number, len(self) // self.own.ppo_epochs)
        order = np.random.default_rng((self._seed, epoch, of_pass)).permutation(self.own.num_rollouts)
        rows: list[int] = order[number * self._size : (number + 1) * self._size].tolist()
        return rows

    def tokens(self, batch: Batch) -> int:
        """Return the number of tokens in a minibatch, without padding."""
        return int((batch["starts"] + batch["mask"].sum(1)).sum())

    def counted(self, batch: Batch) -> int:
        """Return the number of response tokens in a minibatch, without padding."""
        return int(batch["mask"].sum())

    def names(self, epoch: int, number: int) -> list[str]:
        """Return the ids of the prompts in a minibatch."""
        asked = self._asked(epoch)
        return [asked[row].record.id for row in self._rows(epoch, number)[self._rank :: self._ranks]]

    def metrics(self) -> dict[str, float]:
        """Return the metrics of all updates since the last call, and of the rollout batch if it is new."""
        taken, self._experience.metrics = {**self._experience.metrics, **self.policy.sums.take()}, {}
        return taken

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint: the rollout batch and β."""
        return {"epoch": self._epoch, "batch": self._batch, "experience": self._experience.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._epoch, self._batch = state["epoch"], state["batch"]
        self._experience.load_state_dict(state["experience"])


class Experience:
    """Converts rollout batches to tensors, and adapts β (the KL coefficient) after each batch."""

    def __init__(self, policy: Learner, own: PpoOptions, *, size: int, bf16: bool) -> None:
        self._policy, self._own, self._size, self._bf16 = policy, own, size, bf16
        self.beta = own.init_kl_coef  # β, for the next rollout batch
        self.metrics: dict[str, float] = {}  # the numbers of the last rollout batch
        self._begins = True  # whether no rollout batch is complete yet

    def state_dict(self) -> dict[str, Any]:
        """Return the state to save in a checkpoint, including β."""
        return {"beta": self.beta, "kl_coef": self._policy.kl_coef, "begins": self._begins}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.beta, self._policy.kl_coef = state["beta"], state["kl_coef"]
        self._begins = state["begins"]

    def complete(
        self, asked: Sequence[RolloutPrompt], responses: Sequence[Response], scores: Sequence[_Score]
    ) -> Batch:
        """Return a rollout batch as the arguments of `Learner.forward`, except `num_items_in_batch`."""
        own, batch = self._own, padded(asked, responses)
        mask = batch["mask"]
        ended = torch.tensor([each.ended for each in responses])
        finals = torch.tensor([sum(each.values()) for each in scores], dtype=torch.float64)
        seen, ref = self._seen(batch["input_ids"], batch["starts"], mask)
        in_loss = own.algorithm == "grpo"
        # TRL has this penalty; others give cut answers a fixed score. trlX clips here, TRL after scaling.
        most = own.cliprange_reward or math.inf
        shaped = torch.where(ended, finals, finals - own.missing_eos_penalty).clamp(-most, most)
        # A token's reward is its KL penalty; the last one also gets the score.
        rewards = algorithm.token_rewards(shaped, seen.log_probs, ref, mask, 0.0 if in_loss else self.beta)
        if self._begins and own.algorithm == "ppo":
            seen = seen._replace(values=self._lifted(rewards, seen.values, mask))
        self._begins = False
        if samples_each(own) > 1:
            of = algorithm.rloo_advantages if own.algorithm == "rloo" else algorithm.grpo_advantages
            compared = (rewards * mask).sum(1).view(-1, samples_each(own))  # scores minus the KL penalty
            advantages = returns = of(compared).flatten()[:, None] * mask
        else:
            advantages, returns = self._of_each(rewards, seen.values, mask, lam=own.lam)
            advantages = algorithm.whiten(advantages, mask)
        reported = [each.log_probs or (math.nan,) * len(each.tokens) for each in responses]
        flat = torch.tensor(list(itertools.chain.from_iterable(reported)))
        drawn = torch.full(mask.shape, math.nan).masked_scatter(mask, flat)  # NaN: not reported
        weights = mask.float()  # importance weights, because the sampler drew the tokens
        if most := own.importance_sampling_clip_max:
            weights = algorithm.importance_weights(seen.log_probs, drawn, mask & ~drawn.isnan(), most)
        self.metrics = {
            **of_scores(scores, finals, ended, mask),
            "beta": self.beta,
            **of_policy(seen, ref, mask),
            **of_sampler(seen.log_probs, drawn, mask),
            **of_groups(shaped, samples_each(own)),
        }
        if own.algorithm == "ppo":
            explained = algorithm.explained_variance(seen.values, returns, mask)
            self.metrics["explained_variance"] = float(explained)
        self._policy.kl_coef = self.beta if in_loss else 0.0
        if own.target is not None:
            kl, count = self.metrics["kl"], len(scores)
            beta = algorithm.adaptive_beta(self.beta, kl, target=own.target, n=count, horizon=own.horizon)
            self.beta = min(max(beta, BETA[0]), BETA[1]) if self.beta else 0.0
        found = {"log_probs": seen.log_probs, "ref_log_probs": ref, "values": seen.values}
        return {**batch, **found, "advantages": (advantages * weights).float(), "returns": returns.float()}

    def _seen(self, input_ids: Tensor, starts: Tensor, mask: Tensor) -> tuple[Seen, Tensor]:
        device = self._policy.value_head.weight.device
        lengths = starts + mask.sum(1)
        # Keep sequences of similar length together or, with `branches`, those of one prompt.
        order = torch.arange(len(lengths)) if self._policy.branches else torch.argsort(lengths)

        def see(rows: Tensor) -> list[Tensor]:
            longest = int(lengths[rows].max())
            part = [each.to(device) for each in (input_ids[rows, :longest], starts[rows], mask[rows])]
            return [each.cpu() for each in (*self._policy.see(*part), self._policy.see_reference(*part))]

        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=self._bf16):
            parts = shared_out(torch.split(order, AT_ONCE), see)
        back = torch.argsort(order)
        *seen, ref = (torch.cat(each)[back] for each in zip(*parts, strict=True))
        return Seen(*seen), ref

    def _lifted(self, rewards: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        # From 0, values take thousands of steps to reach rewards around 10. Until then all advantages have
        # the same sign, and grow with the distance from the end. So values begin at the mean return.
        made, _ = self._of_each(rewards, torch.zeros_like(values), mask, lam=1.0)
        bias = algorithm.masked_mean(made - values, mask).float()
        with torch.no_grad():
            self._policy.value_head.bias.add_(bias.to(self._policy.value_head.bias.device))
        return values + bias * mask

    def _of_each(self, rewards: Tensor, values: Tensor, mask: Tensor, *, lam: float) -> tuple[Tensor, Tensor]:
        given = rewards.float().double()  # rounded like values, so that equal rewards and values cancel
        return algorithm.gae(given, values.double(), mask, self._own.gamma, lam)


def padded(asked: Sequence[RolloutPrompt], responses: Sequence[Response]) -> Batch:
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


# The numbers of a rollout batch, for the log. docs/rlhf.md says which of them show a failing run.


def of_scores(scores: Sequence[_Score], finals: Tensor, ended: Tensor, mask: Tensor) -> dict[str, float]:
    """Return metrics of rewards and lengths, including the mean of each reward if there are several."""
    tokens = mask.sum(1)
    varies = all(float(algorithm.deviation(each)) for each in (finals, tokens))
    tied = torch.corrcoef(torch.stack([finals, tokens.double()]))[0, 1] if varies else torch.zeros(())
    forms = scores[0] if len(scores[0]) > 1 else ()
    return {
        "reward": float(finals.mean()),
        "reward_std": float(algorithm.deviation(finals)),
        "response_tokens": float(tokens.double().mean()),
        "reward_length_correlation": float(tied),
        "ended": float(ended.double().mean()),
        **{f"reward/{form}": sum(each[form] for each in scores) / len(scores) for form in forms},
    }


def of_policy(seen: Seen, ref: Tensor, mask: Tensor) -> dict[str, float]:
    """Return the mean KL of an answer and the mean entropy of a token, in nats."""
    found = {
        "kl": algorithm.kl_k1(seen.log_probs, ref, mask).sum(1).mean(),
        "kl_k3": algorithm.kl_k3(seen.log_probs, ref, mask).sum(1).mean(),
        "rollout_entropy": algorithm.masked_mean(seen.entropy, mask),
    }
    return {name: float(each) for name, each in found.items()}


def of_sampler(log_probs: Tensor, drawn: Tensor, mask: Tensor) -> dict[str, float]:
    """Return a metric: mean KL(sampler ‖ trainer) per token, in nats; {} if the sampler gave no log-probs."""
    if not (known := mask & ~drawn.isnan()).any():
        return {}
    return {"sampler_kl": float(algorithm.masked_mean(algorithm.kl_k3(drawn, log_probs, known), known))}


def of_groups(scores: Tensor, samples: int) -> dict[str, float]:
    """Return a metric: the share of prompts with equal scores for all answers; {} if each has one answer."""
    if samples == 1:
        return {}
    alike = [not algorithm.deviation(each) for each in scores.view(-1, samples)]
    return {"groups_without_spread": sum(alike) / len(alike)}


class Learner(Policy):
    """The policy as a module whose `forward` returns the loss of a minibatch."""

    def __init__(self, model: PeftModel, own: PpoOptions) -> None:
        super().__init__(model, own)
        self.kl_coef = 0.0  # β if KL is part of the loss; 0 if KL is part of the reward
        self.sums = SharedMeans()  # the numbers of the steps since the last line of the log

    def forward(
        self,
        input_ids: Tensor,
        starts: Tensor,
        mask: Tensor,
        log_probs: Tensor,
        ref_log_probs: Tensor,
        values: Tensor,
        advantages: Tensor,
        returns: Tensor,
        num_items_in_batch: Any,
    ) -> CausalLMOutput:
        """Return the loss, summed over response tokens and divided by `num_items_in_batch`."""
        own, count = self.own, max(int(num_items_in_batch), 1)
        now = self.see(input_ids, starts, mask)
        loss, clipped = algorithm.policy_loss(now.log_probs, log_probs, advantages, mask, own.cliprange)
        self.sums.add("count", mask.sum() / count)
        self.sums.add("policy_loss", loss / count)
        self.sums.add("clip_fraction", clipped / count)
        self.sums.add("entropy", now.entropy.sum() / count)
        # KL(π_old ‖ π), because the tokens are samples from π_old, the policy before the steps.
        self.sums.add("step_kl", algorithm.kl_k3(log_probs, now.log_probs, mask).sum() / count)
        if own.algorithm == "ppo":
            of_values, clipped = algorithm.value_loss(now.values, values, returns, mask, own.cliprange_value)
            self.sums.add("value_loss", of_values / count)
            self.sums.add("value_clip_fraction", clipped / count)
            loss = loss + own.vf_coef * of_values
        if self.kl_coef:
            loss = loss + self.kl_coef * algorithm.kl_k3(now.log_probs, ref_log_probs, mask).sum()
        return CausalLMOutput(loss=loss / count)
