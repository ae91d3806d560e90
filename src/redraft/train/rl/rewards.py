"""Rewards: what judges an answer, and a weighted sum of several.

A reward is a check, whose score is from 0 to 1, or a function `python:module.function` of the answer or of the
answer and its `Prompt`, which may return any number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from redraft.chain import Prompt
from redraft.errors import CheckError
from redraft.verify.base import run_checks
from redraft.verify.parse import parse_checks


class Checks:
    """The weighted sum of the scores of checks.

    Args:
        forms: Their short forms, such as `2*words<=50`.
    """

    def __init__(self, forms: Sequence[str]) -> None:
        self._checks = parse_checks(forms)

    async def __call__(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        """Return the reward of each answer.

        Raises:
            CheckError: A check crashed, or returned what is no number.
        """
        return [await self._one(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]

    async def _one(self, prompt: Prompt, answer: str) -> float:
        results = await run_checks(self._checks, answer, prompt)
        total = sum(each.weight * each.score for each in results)
        if not math.isfinite(total):
            raise CheckError(f"the reward of an answer is {total}.", hint="A reward is a finite number.")
        return total
