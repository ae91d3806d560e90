"""Checks as a scorer, and revising as a solver, of inspect_ai.

`Task(dataset=…, solver=revise("words<=50"), scorer=checked("words<=50"))`
"""

from __future__ import annotations

from redraft.bridges.judged import Given, checks_of, judged, missing

try:
    from inspect_ai.model import ChatMessageUser
    from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
    from inspect_ai.solver import Generate, Solver, TaskState, solver
except ModuleNotFoundError:
    raise missing("inspect-ai") from None


@scorer(metrics=[mean(), stderr()])
def checked(*checks: Given) -> Scorer:
    """Score the last answer, 0 to 1. The explanation has what is wrong, the metadata each check's score."""
    parsed = checks_of(checks)

    async def score(state: TaskState, target: Target) -> Score:  # noqa: ARG001  (of every scorer)
        found = await judged(parsed, state.output.completion, state.input_text)
        each = {result.name: result.score for result in found.results}
        return Score(
            value=found.score, answer=state.output.completion, explanation=found.feedback, metadata=each
        )

    return score


@solver
def revise(*checks: Given, max_revisions: int = 2) -> Solver:
    """Generate, and as long as a check fails, say what is wrong and generate again.

    The last answer counts, and may be worse than an earlier one: `redraft.revise` keeps the best.
    """
    parsed = checks_of(checks)

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        state = await generate(state)
        for _ in range(max_revisions):
            found = await judged(parsed, state.output.completion, state.input_text)
            if found.passed:
                break
            state.messages.append(ChatMessageUser(content=found.feedback))
            state = await generate(state)
        return state

    return solve
