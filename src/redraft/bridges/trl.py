"""Checks as a reward function of TRL: `GRPOTrainer(…, reward_funcs=reward("words<=50"))`.

It imports nothing of TRL, whose trainers call it with lists: prompts, completions, and columns of the data.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from redraft.bridges.judged import Given, checks_of, judged, text_of, wait


def reward(*checks: Given, column: str = "checks") -> Callable[..., list[float | None]]:
    """Return a reward function: the score of each completion, 0 to 1.

    Args:
        *checks: They judge every completion.
        column: A column of the data may hold more checks for its row, as a list of short forms. A row without
            any check has no reward (None), which TRL leaves out.
    """
    always = checks_of(checks) if checks else ()

    async def score(prompt: object, completion: object, own: Sequence[str] | None) -> float | None:
        everything = (*always, *(checks_of(own) if own else ()))
        return (await judged(everything, text_of(completion), prompt)).score if everything else None

    async def scores(prompts: Sequence[object], completions: Sequence[object], rows: Sequence[Any]) -> Any:
        return await asyncio.gather(*map(score, prompts, completions, rows))

    def redraft_reward(
        prompts: Sequence[object], completions: Sequence[object], **columns: Any
    ) -> list[float | None]:
        rows = columns.get(column) or [None] * len(completions)
        return list(wait(scores(prompts, completions, rows)))

    return redraft_reward
