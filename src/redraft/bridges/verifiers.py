"""Checks as a reward of a task of verifiers (its stack `verifiers.v1`).

class Poem(vf.Task):
    short = reward("words<=50")
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from redraft.bridges.judged import Given, checks_of, judged, missing

try:
    import verifiers.v1 as vf
except ModuleNotFoundError:
    raise missing("verifiers") from None


def reward(*checks: Given) -> Callable[[vf.Task, vf.Trace], Coroutine[Any, Any, float]]:
    """Return a reward for a class of tasks: the score of the last reply, 0 to 1."""
    parsed = checks_of(checks)

    async def redraft_checks(self: vf.Task, trace: vf.Trace) -> float:
        return (await judged(parsed, trace.last_reply, self.data.prompt_text)).score

    vf.reward(redraft_checks)  # marks it
    return redraft_checks
