"""Decide when a chain ends.

The loop calls each rule at one point. Most rules return why the chain ends there, or None if the chain
continues. The rules for all modes come first, then the rules for `prompted`, then the rules for
`native`. `chain.best_step` chooses the best answer at the end.
"""

from __future__ import annotations

from collections.abc import Sequence

from redraft.chain import Finish, Role, Step, Stop, Verdict
from redraft.chain.selfee import SectionKind
from redraft.revision.state import State

STOP_OF_FINISH: dict[Finish, Stop] = {"max_tokens": "max_tokens", "context": "context"}
STOP_OF_FINISH |= {"cancelled": "cancelled", "filtered": "ended", "error": "error"}
"""Maps the finish of a chain's last text, if it was cut, to the chain's stop."""


def spent(state: State, role: Role = "writer") -> bool:
    """Return whether the budget is too small for another call to a role's model."""
    price, seconds = state.plan.models[role].price, state.seconds + state.plan.waited
    return state.plan.options.budget.spent(state.usage, price, seconds)


def of_finish(state: State, finish: Finish, role: Role = "writer") -> Stop | None:
    """Return why the chain ends after a role's text with this finish, or None if the chain may continue."""
    if finish in ("max_tokens", "cancelled") and spent(state, role):
        return "budget"
    return STOP_OF_FINISH.get(finish)


def no_room(state: State, role: Role = "writer") -> Stop | None:
    """Return "budget" if no other call to a role's model is possible, otherwise None."""
    return "budget" if spent(state, role) else None


def repeated(state: State) -> Step | None:
    """Return the previous step if the last answer repeats that step's answer, otherwise None."""
    *before, after = state.steps or [Step(answer="")]
    if state.revisions <= state.plan.options.min_revisions or state.revisions == 0:
        return None
    said = [(step.answer.strip(), step.tool_calls) for step in (before[-1], after)]
    return before[-1] if said[0] == said[1] and before[-1].verdict == "revise" else None


# prompted: by messages


def followed(state: State) -> bool:
    """Return whether a draft or revision may follow the next text, if that text fails."""
    plan, drafting = state.plan, not state.steps
    another = drafting and len(state.drafts) + 1 < plan.options.most_drafts
    return (another or len(state.steps) < plan.max_revisions) and not plan.wording.scores


def another(state: State) -> bool:
    """Return whether another text may be written after the last text."""
    drafting = state.drafting and len(state.drafts) + 1 < state.plan.options.most_drafts
    return drafting or state.revisions < state.plan.max_revisions


def when_resumed(state: State) -> Stop | None:
    """Return why a resumed chain ends before its next answer."""
    return "max_revisions" if state.revisions >= state.plan.max_revisions else no_room(state)


def after_draft(state: State, *, good: bool) -> Stop | None:
    """Return why the chain ends after a draft. A draft filtered or cut at `max_tokens` does not end it."""
    if good:
        return "passed"
    cut = of_finish(state, state.steps[-1].finish)
    return "budget" if spent(state) else None if cut in ("ended", "max_tokens") else cut


def after_answer(state: State, cut: Stop | None, *, blank: bool) -> Stop | None:
    """Return why the chain ends after an answer. `cut` is the reason if the answer was cut."""
    plan = state.plan
    # At temperature 0 a fresh draft would be the same text again. A teacher's chain is training data for
    # corrections, and a fresh draft is not a correction.
    afresh = plan.sampling.temperature != 0 and not plan.wording.scores
    if repeated(state) and not (afresh and state.revisions < plan.max_revisions):
        return cut or "unchanged"
    if blank and plan.told is None:
        return cut or "ended"
    return None if plan.checks or (cut == "max_tokens" and state.forced(state.revisions)) else cut


def before_criticism(state: State, *, good: bool) -> Stop | None:
    """Return why the chain ends after the checks, before a criticism. Set `good` if the answer passes."""
    cut = of_finish(state, state.steps[-1].finish)
    if cut not in (None, "max_tokens") and not (cut == "ended" and state.plan.told is not None):
        return cut
    if good and not state.forced(state.revisions):
        return "passed"
    if state.revisions >= state.plan.max_revisions:
        return cut or "max_revisions"
    return no_room(state, state.plan.critic_role)


def after_criticism(state: State, verdict: Verdict, cut: Stop | None) -> Stop | None:
    """Return why the chain ends after a criticism. `cut` is the reason if the criticism was cut."""
    if cut not in (None, "max_tokens"):
        return cut
    if verdict == "revise":
        return no_room(state)
    return "accepted" if verdict == "accept" else (cut or "ended")


# native: in one text


def in_text(
    state: State, kind: SectionKind, index: int, steps: Sequence[Step], *, unsure: bool
) -> Stop | None:
    """Return why the chain ends at the start of a section, or None if the chain continues.

    The section contains or judges answer `index`. `steps` are the steps so far. Set `unsure` if the model's
    feedback on the previous answer is uncertain.
    """
    before = steps[index - 1] if index else None
    if before is None or state.forced(index - 1):
        return None
    if unsure:
        return "ended"
    if kind == "answer":
        return "accepted" if before.verdict == "accept" else None
    return "unchanged" if before.answer == steps[-1].answer else None


def after_own_answer(state: State, index: int) -> Stop | None:
    """Return why the chain ends, or None if feedback must follow. The model stopped after answer `index`."""
    if index >= state.plan.max_revisions:
        return "max_revisions"
    return None if state.forced(index) else "ended"


def after_own_feedback(state: State, index: int, verdict: Verdict) -> Stop | None:
    """Return why the chain ends after the model has judged its own answer."""
    if state.forced(index):
        return None
    return "accepted" if verdict == "accept" else "ended"


def before_request(state: State, room: int) -> Stop | None:
    """Return why the chain ends before a request for at most `room` more tokens."""
    return "budget" if spent(state) else "max_tokens" if room <= 0 else None
