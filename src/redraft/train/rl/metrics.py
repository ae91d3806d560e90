"""The numbers of a rollout batch, and the faults that they show: each is said once, until it has passed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from redraft.train.rl import algorithm

if TYPE_CHECKING:
    from redraft.train.rl.policy import Seen
    from redraft.train.rl.samples import Score

LATE = 3  # rollout batches in a row that have a fault before it is said: a single one may be chance

LONG = 10
"""Rollout batches in a row in which the value head foresees nothing: it needs the first ones to learn."""

RUNAWAY = 3.0
"""KL above this many times the target. Adaptive control keeps it within twice the target otherwise."""

FAR = 30.0
"""Nats of KL in an answer that are far without a target: its samples are e^30 times likelier than before."""

MOVED = 0.3  # nats of KL of a token, over the steps on a rollout batch, that are far: usual are 0.01 to 0.1
COLLAPSED = 0.2  # share of the first entropy under which a policy writes nearly the same again and again
TIED = 0.8  # correlation of reward and length from which the reward is mostly a matter of length

Numbers = Mapping[str, float]


def of_scores(scores: Sequence[Score], finals: Tensor, ended: Tensor, mask: Tensor) -> dict[str, float]:
    """Return how good and how long the answers are, and the mean of what each of several rewards adds."""
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
    """Return the KL of a token from the sampler to the trainer, in nats, if the sampler said anything."""
    if not (known := mask & ~drawn.isnan()).any():
        return {}
    return {"sampler_kl": float(algorithm.masked_mean(algorithm.kl_k3(drawn, log_probs, known), known))}


def of_groups(scores: Tensor, samples: int) -> dict[str, float]:
    """Return the share of prompts whose answers are all worth the same, if they are compared."""
    if samples == 1:
        return {}
    alike = algorithm.without_spread(scores.view(-1, samples))
    return {"groups_without_spread": float(alike.double().mean())}


@dataclass
class Faults:
    """The faults of a run."""

    target: float | None = None  # the KL that β is adapted to, or None
    cut_pays: bool = False  # whether an answer that is cut pays for it
    _first: dict[str, float] = field(default_factory=dict)
    _lasted: dict[str, int] = field(default_factory=dict)

    def add(self, numbers: Numbers) -> list[str]:
        """Add the numbers of a rollout batch. Return what is to be said."""
        for name, value in numbers.items():
            self._first.setdefault(name, value)
        said = [line for name, line in self._found(numbers) if self._lasts(name, there=bool(line))]
        return said + self._cut(numbers)

    def state(self) -> dict[str, dict[str, float]]:
        """Return what a checkpoint keeps."""
        return {"first": dict(self._first), "lasted": dict(self._lasted)}

    def restore(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Restore what `state` returned."""
        self._first = dict(state["first"])
        self._lasted = {name: int(count) for name, count in state["lasted"].items()}

    def _lasts(self, name: str, *, there: bool) -> bool:
        self._lasted[name] = self._lasted.get(name, 0) + 1 if there else 0
        return self._lasted[name] == (LONG if name == "blind" else LATE)

    def _found(self, now: Numbers) -> Iterator[tuple[str, str]]:
        """Yield each fault by name, with the line that says it: empty if it is not there."""
        first, same = self._first, now.get("reward_std", 1.0) == 0
        far = not now["kl"] <= (RUNAWAY * self.target if self.target else FAR)
        line = (
            f"the policy runs away from its reference: an answer has {now['kl']:.3g} nats of KL. "
            "Raise --init_kl_coef, or lower --learning_rate."
        )
        yield "kl", line if far else ""
        entropy = now["rollout_entropy"]
        line = (
            "the policy writes nearly the same each time: the entropy of a token fell from "
            f"{first['rollout_entropy']:.3g} to {entropy:.3g} nats. Raise --init_kl_coef, or lower "
            "--learning_rate."
        )
        yield "entropy", line if not entropy >= COLLAPSED * first["rollout_entropy"] else ""
        tied, tokens = now.get("reward_length_correlation", 0.0), now["response_tokens"]
        grew = tokens / max(first["response_tokens"], 1.0)
        line = (
            f"the reward follows the length: {'longer' if tied > 0 else 'shorter'} answers get more "
            f"(correlation {tied:.2f}), and answers have {tokens:.0f} tokens after "
            f"{first['response_tokens']:.0f}. Read some samples."
        )
        yield "length", line if abs(tied) >= TIED and not 2 / 3 < grew < 3 / 2 else ""
        yield "same", self._sameness(now, same=same)
        explained = now.get("explained_variance", 1.0)
        line = (
            f"the value head foresees nothing of the rewards: explained_variance is {explained:.2g}, and was "
            f"at most 0 for {LONG} rollout batches. Raise --vf_coef or --learning_rate, or try --algorithm "
            "rloo, which needs no value head."
        )
        yield "blind", line if not (explained > 0 or same) else ""
        moved = now.get("step_kl", 0.0)
        line = (
            f"the steps on a rollout batch move a token by {moved:.3g} nats of KL, which may break the "
            "policy. Lower --learning_rate, or --ppo_epochs."
        )
        yield "moved", line if not moved <= MOVED else ""

    def _sameness(self, now: Numbers, *, same: bool) -> str:
        if same:
            found = f"all answers of a rollout batch have the same reward, {now['reward']:.3g}"
        elif now.get("groups_without_spread") == 1:
            found = "all answers to a prompt have the same reward, whatever the prompt"
        else:
            return ""
        if same and self._first.get("reward_std", 0.0) > 0:
            return (
                f"{found}, after {self._first['reward']:.3g} on average at first, so nothing is left to "
                f"learn. An answer has {now['kl']:.3g} nats of KL. Read some samples: the policy has "
                "learned the task, or is broken."
            )
        return (
            f"{found}, so there is nothing to learn. Read some samples: the task may be too easy or too hard."
        )

    def _cut(self, now: Numbers) -> list[str]:
        cut = 1 - now.get("ended", 1.0)
        if not cut or self.cut_pays or self._lasted.get("cut"):
            return []
        self._lasted["cut"] = 1
        line = (
            f"{100 * cut:.3g}% of the answers are cut at the most tokens, and the reward judges them as they "
            "stand: raise --max_new_tokens, or let them pay with --missing_eos_penalty."
        )
        return [line]
