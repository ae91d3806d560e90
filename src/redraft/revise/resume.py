"""Resume a chain that was cut: which steps are kept, and which chains are refused.

A text that was cut is generated again. Everything before it is kept, and so is the usage of all of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from redraft.chain import Chain, Prompt, Step
from redraft.errors import UsageError

CUT = (None, "budget", "cancelled", "error")
"""The stops of chains that can be resumed. Any other stop is final."""


def insist_on_cut(chain: Chain, prompt: Prompt) -> None:
    """Check that a chain can be resumed for a prompt.

    Raises:
        UsageError: Its stop is final, or it answers another prompt.
    """
    if chain.stop not in CUT:
        raise UsageError(
            f"the chain to resume is finished: its stop is {chain.stop!r}.",
            hint="Resume chains whose stop is None, budget, cancelled or error.",
        )
    if chain.prompt != prompt:
        raise UsageError(
            f"the chain to resume answers another prompt: {chain.prompt.text!r:.80}.",
            hint="Give the same prompt: revise(chain.prompt, resume=chain, …)",
        )


def complete_steps(chain: Chain) -> tuple[Step, ...]:
    """Return the steps to resume from. The last one keeps its feedback only if that asks for a revision."""
    if not chain.steps:
        return ()
    *before, last = chain.steps
    cut = last.finish in ("cancelled", "error") or (last.finish == "max_tokens" and chain.stop == "budget")
    if cut and not last.complete:
        return tuple(before)
    if last.feedback is not None and last.feedback.verdict == "revise" and not cut:
        return chain.steps
    finish = "stop" if cut else last.finish
    return (*before, last.model_copy(update={"feedback": None, "finish": finish}))


def calls_of(steps: Sequence[Step]) -> int:
    """Return how many calls the steps took, one a text, so that seeds continue from there."""
    return sum(1 + (step.feedback is not None and step.feedback.by != "checks") for step in steps)
