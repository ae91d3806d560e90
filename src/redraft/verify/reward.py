"""Checks by a reward model: the probability that an answer is a good one.

The score is the logistic function of the reward. A reward model is trained on differences, so its zero has no
meaning of its own: the score orders answers to the same prompt, and a bar suits one model and kind of prompt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Self

from redraft.chain import Prompt
from redraft.errors import CheckSyntaxError, MissingExtra
from redraft.verify.base import Outcome, failed, passed

if TYPE_CHECKING:
    from redraft.engines.hf.reward import RewardModel

BAR = 0.5
"""The default score that passes: a reward of 0."""


@dataclass(frozen=True)
class Reward:
    """`reward:PATH`: a reward model gives the answer a score of at least 0.5.

    Attributes:
        source: The model, as the user wrote it.
        model: The loaded model.
        bar: The lowest score that passes, between 0 and 1.
    """

    source: str
    model: RewardModel = field(repr=False, compare=False)
    bar: float = BAR

    @classmethod
    def of(cls, source: str, bar: float = BAR) -> Self:
        """Load a reward model.

        Raises:
            CheckSyntaxError: The bar is not between 0 and 1.
            MissingExtra: torch or peft is not installed.
            UsageError: There is no such model.
            ModelError: It is damaged, or no reward model.
        """
        if not 0 < bar < 1:
            raise CheckSyntaxError(f"reward[{bar:g}]: a score is between 0 and 1.", hint="reward[0.7]:PATH")
        if not (find_spec("torch") and find_spec("peft")):
            raise MissingExtra("the check 'reward'", "train")
        from redraft.engines.hf.reward import RewardModel

        return cls(source, RewardModel.load(source), bar)

    @property
    def name(self) -> str:
        """The short form."""
        return f"reward{'' if self.bar == BAR else f'[{self.bar:g}]'}:{self.source}"

    def check(self, answer: str, prompt: Prompt) -> Outcome:
        """Score the answer. Answers that are checked at the same time share a pass of the model.

        Raises:
            RecordError: The reward model's template refuses the prompt, or it leaves no room.
        """
        reward = self.model.reward(prompt, answer)
        score = logistic(reward)
        message = f"The reward model gives the answer {score:.2f} of 1 (reward {reward:+.2f})"
        if score >= self.bar:
            return passed(f"{message}.", score=score)
        return failed(f"{message}, and {self.bar:g} is needed. Write a better answer.", score=score)


def logistic(reward: float) -> float:
    """Return 1 / (1 + exp(-reward)), also for large numbers."""
    return 1 / (1 + math.exp(-reward)) if reward >= 0 else math.exp(reward) / (1 + math.exp(reward))
