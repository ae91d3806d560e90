"""Notice when a run goes wrong, and say so in words: each fault once, until it has passed.

What is watched are the numbers of rollout batches. A rule that the user set (`--stop_kl`, `--stop_entropy`)
ends the run instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from redraft.errors import ModelError
from redraft.train.run.checkpoints import SavedCheckpoint

LATE = 3
"""Rollout batches in a row that a fault lasts before it is said: a single one may be chance."""

LONG = 10
"""Rollout batches in a row in which the value head foresees nothing: it needs the first ones to learn."""

RUNAWAY = 3.0
"""KL above this many times the target. Adaptive control keeps it within twice the target otherwise."""

FAR = 30.0
"""Nats of KL in an answer that are far without a target: its samples are e^30 times likelier than before."""

MOVED = 0.3
"""Nats of KL of a token, over the steps on a rollout batch, that are far: usual are 0.01 to 0.1."""

COLLAPSED = 0.2
"""Share of the first entropy under which a policy writes nearly the same again and again."""

TIED = 0.8
"""Correlation of reward and length from which the reward is mostly a matter of length."""

APART = 0.05
"""Nats of KL in a token between sampler and trainer that are more than rounding: bf16 has 0.002 with 135M
parameters, and a server that draws with another adapter has whole nats."""

EXPLODED = 10.0
"""Times the value loss of the first rollout batches."""

Numbers = Mapping[str, float]


@dataclass
class Watch:
    """The faults of a run.

    Attributes:
        target: The KL that β is adapted to, or None.
        stop_kl: Nats of KL in an answer at which the run ends, or None.
        stop_entropy: Nats of entropy of a token under which the run ends, or None.
        stop_step_kl: Nats of KL of a token, over the steps on a rollout batch, that end the run, or None.
        cut_pays: Whether an answer that is cut pays for it.
        saved: Returns the checkpoints, newest first.
    """

    target: float | None = None
    stop_kl: float | None = None
    stop_entropy: float | None = None
    stop_step_kl: float | None = None
    cut_pays: bool = False
    saved: Callable[[], Sequence[SavedCheckpoint]] = tuple
    _first: dict[str, float] = field(default_factory=dict)
    _lasted: dict[str, int] = field(default_factory=dict)
    _last: dict[str, float] = field(default_factory=dict)
    _moved: dict[str, float] = field(default_factory=dict)  # of the steps that went far

    def add(self, numbers: Numbers, rollout: int = 0) -> list[str]:
        """Add the numbers of a rollout batch. Return what is to be said.

        Raises:
            ModelError: A rule of the user ends the run, or an update broke the policy.
        """
        self._check_rules(numbers)
        self._check_moved(numbers, rollout)
        for name, value in numbers.items():
            self._first.setdefault(name, value)
        faults = {
            "kl": self._of_kl(numbers),
            "entropy": self._of_entropy(numbers),
            "length": self._of_length(numbers),
            "values": self._of_values(numbers),
            "same": self._of_same(numbers),
            "blind": self._of_foresight(numbers),
            "sampler": self._of_sampler(numbers),
        }
        said = [line for name, line in faults.items() if self._lasts(name, there=bool(line))]
        return said + self._of_cut(numbers)

    def add_step(self, kl: float, rollout: int) -> list[str]:
        """Add how far the steps on a rollout batch took the policy. Return what is to be said.

        Args:
            kl: Of a token, in nats, from the policy that wrote the answers.
            rollout: The number of the rollout batch.

        Raises:
            ModelError: A rule of the user ends the run.
        """
        moved = f"the steps on a rollout batch moved a token by {kl:.3g} nats of KL"
        if self.stop_step_kl is not None and not kl <= self.stop_step_kl:
            raise ModelError(f"{moved}, above --stop_step_kl {self.stop_step_kl:g}.", hint=self._slower())
        if kl <= MOVED or self._moved:
            return []
        self._moved = {**self._last, "rollout": rollout, "step_kl": kl}
        return [f"{moved}: that may have broken the policy. Lower --learning_rate, or --ppo_epochs."]

    def _check_moved(self, numbers: Numbers, rollout: int) -> None:
        """Raise `ModelError` if rewards fell with a step that went far, and stay there."""
        self._last = {name: numbers.get(name, 1.0) for name in ("reward", "reward_std")}
        if not self._moved:
            return
        if rollout <= self._moved["rollout"]:
            self._moved |= self._last  # from before the step
            return
        before = self._moved.get("reward", numbers["reward"])
        least = before - self._moved.get("reward_std", 0.0) / 2
        now, same = numbers["reward"], not self._last["reward_std"]
        if not self._lasts("moved", there=now < least or (same and now < before)):
            self._moved = self._moved if self._lasted["moved"] else {}
            return
        raise ModelError(
            f"an update broke the policy: the steps on rollout batch {self._moved['rollout'] + 1:g} moved a "
            f"token by {self._moved['step_kl']:.3g} nats of KL. The mean reward was {before:.3g}, and after "
            f"{LATE} more batches it is {numbers['reward']:.3g}.",
            hint=self._slower(),
        )

    def _slower(self) -> str:
        return f"Start again with a lower --learning_rate or --ppo_epochs.{self._where()}"

    def _where(self) -> str:
        """Return where the checkpoints are, if there are any."""
        whole = [each for each in self.saved() if each.complete]
        if not whole:
            return " There is no checkpoint yet."
        return f" The newest checkpoint, from before or after the fault, is {whole[0].folder}."

    def state(self) -> dict[str, dict[str, float]]:
        """Return what a checkpoint keeps."""
        return {
            "first": dict(self._first),
            "lasted": dict(self._lasted),
            "last": dict(self._last),
            "moved": dict(self._moved),
        }

    def restore(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Restore what `state` returned."""
        self._first = dict(state["first"])
        self._lasted = {name: int(count) for name, count in state["lasted"].items()}
        self._last, self._moved = dict(state.get("last", {})), dict(state.get("moved", {}))

    def _lasts(self, name: str, *, there: bool) -> bool:
        self._lasted[name] = self._lasted.get(name, 0) + 1 if there else 0
        return self._lasted[name] == (LONG if name == "blind" else LATE)

    def _check_rules(self, numbers: Numbers) -> None:
        kl, entropy = numbers.get("kl", 0.0), numbers.get("rollout_entropy", float("inf"))
        if self.stop_kl is not None and kl > self.stop_kl:
            raise ModelError(
                f"the KL of an answer is {kl:.3g} nats, above --stop_kl {self.stop_kl:g}.",
                hint=f"Try a higher --init_kl_coef or a lower --learning_rate.{self._where()}",
            )
        if self.stop_entropy is not None and entropy < self.stop_entropy:
            raise ModelError(
                f"the entropy of a token is {entropy:.3g} nats, below --stop_entropy {self.stop_entropy:g}.",
                hint=f"Try a higher --init_kl_coef or a lower --learning_rate.{self._where()}",
            )

    def _of_kl(self, numbers: Numbers) -> str:
        limit = RUNAWAY * self.target if self.target else FAR
        if numbers["kl"] <= limit:
            return ""
        return (
            f"the policy runs away from its reference: an answer has {numbers['kl']:.3g} nats of KL. "
            "Raise --init_kl_coef, or lower --learning_rate."
        )

    def _of_entropy(self, numbers: Numbers) -> str:
        first = self._first["rollout_entropy"]
        if numbers["rollout_entropy"] >= COLLAPSED * first:
            return ""
        return (
            f"the policy writes nearly the same each time: the entropy of a token fell from {first:.3g} to "
            f"{numbers['rollout_entropy']:.3g} nats. Raise --init_kl_coef, or lower --learning_rate."
        )

    def _of_length(self, numbers: Numbers) -> str:
        tied, tokens = numbers.get("reward_length_correlation", 0.0), numbers["response_tokens"]
        grew = tokens / max(self._first["response_tokens"], 1.0)
        if abs(tied) < TIED or 2 / 3 < grew < 3 / 2:
            return ""
        way = "longer" if tied > 0 else "shorter"
        return (
            f"the reward follows the length: {way} answers get more (correlation {tied:.2f}), and answers "
            f"have {tokens:.0f} tokens after {self._first['response_tokens']:.0f}. Read some samples."
        )

    def _of_same(self, numbers: Numbers) -> str:
        same = numbers.get("reward_std", 1.0) == 0
        if same:
            found = f"all answers of a rollout batch have the same reward, {numbers['reward']:.3g}"
        elif numbers.get("groups_without_spread") == 1:
            found = "all answers to a prompt have the same reward, whatever the prompt"
        else:
            return ""
        if same and self._first.get("reward_std", 0.0) > 0:
            return (
                f"{found}, after {self._first['reward']:.3g} on average at first, so nothing is left to "
                f"learn. An answer has {numbers['kl']:.3g} nats of KL. Read some samples: the policy has "
                "learned the task, or is broken."
            )
        return (
            f"{found}, so there is nothing to learn. Read some samples: the task may be too easy or too hard."
        )

    def _of_sampler(self, numbers: Numbers) -> str:
        if (apart := numbers.get("sampler_kl", 0.0)) <= APART:
            return ""
        return (
            f"the policy that writes is not the one that is trained: a token has {apart:.2g} nats of KL "
            "between them. A server (--rollout_url) needs the same weights and number format as here."
        )

    def _of_foresight(self, numbers: Numbers) -> str:
        if numbers.get("explained_variance", 1.0) > 0 or numbers.get("reward_std", 1.0) == 0:
            return ""
        return (
            f"the value head foresees nothing of the rewards: explained_variance is "
            f"{numbers['explained_variance']:.2g}, and was at most 0 for {LONG} rollout batches. Raise "
            "--vf_coef or --learning_rate, or try --algorithm rloo, which needs no value head."
        )

    def _of_cut(self, numbers: Numbers) -> list[str]:
        """Return, once, that answers are cut and judged all the same."""
        cut = 1 - numbers.get("ended", 1.0)
        if not cut or self.cut_pays or self._lasted.get("cut"):
            return []
        self._lasted["cut"] = 1
        line = (
            f"{100 * cut:.3g}% of the answers are cut at the most tokens, and the reward judges them as they "
            "stand: raise --max_new_tokens, or let them pay with --missing_eos_penalty."
        )
        return [line]

    def _of_values(self, numbers: Numbers) -> str:
        first, now = self._first.get("value_loss", 0.0), numbers.get("value_loss", 0.0)
        if not first or now <= EXPLODED * first:
            return ""
        return (
            f"the value loss exploded: {now:.3g} after {first:.3g}. Lower --vf_coef or --learning_rate, or "
            "try --scale_reward running."
        )
