"""The figures of tiny_selfee as a part of RESULTS.md: what was promised, what came out, and the control."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from measure import Goal
from redraft.evaluation.diagnosis.figures import Changes
from redraft.stats import Estimate, balanced, difference, mcnemar, proportion
from report import circumstances, number
from tiny_selfee_eval import Outcome, Votes

WELL_FORMED = Goal("≥", 95.0)
GAIN = Goal("≥", 10.0)
VERDICTS = Goal("≥", 85.0)
TASKS_THAT_GAIN = 2
MINUTES = Goal("≤", 60.0)
MAKING = ("exercises", "answers", "drafts", "feedback", "chains")
"""The stages that make the model. The others are for the comparison."""

HOW = (
    "The default model learns chains: LoRA of rank 16, first on right answers, then on chains whose first "
    "drafts are wrong in half of the cases (its own faults, and spoiled answers where it made too few); the "
    "feedback is that of an exact check, and rejected drafts carry no loss. The control has the same first "
    "run, and then as many steps on right answers to the prompts of the chains. Held-out prompts share no "
    "exercise with training. Chains are greedy, by `redraft answer` in native mode with at most three "
    "revisions. The control answers once, greedily; and by majority vote of so many answers, at temperature "
    "0.7, as take the tokens of the chains if they are as long as its greedy one. Intervals are 95 %: "
    "Wilson's for shares, the others by bootstrap over prompts; p is McNemar's exact test. A chain is "
    "well-formed if its sections come in order, every feedback has a verdict, and it ends by a verdict, "
    "at the limit of revisions, or with a revision that changes nothing. Verdicts are given as balanced "
    "accuracy: accepting everything is 50 %."
)
FIRST = (
    "| task | answer 0 | after revising | gain, points | p | wrong → right, right → wrong | well-formed "
    "| verdicts on answer 0 | on all answers | echoes |\n|---|---|---|---|---|---|---|---|---|---|"
)
SECOND = (
    "| task | chain | tokens | control, once | tokens | control, vote | tokens | chain − vote, points | p |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Task:
    """All that was found of one task."""

    name: str
    chains: Outcome
    once: Votes
    vote: Votes

    @cached_property
    def changes(self) -> Changes:
        """From answer 0 to the answer after revising, by prompt."""
        pairs = zip(self.chains.first, self.chains.final, strict=True)
        return Changes(tuple((*pair, prompt) for prompt, pair in enumerate(pairs)))

    @property
    def gain(self) -> Estimate:
        """Points that revising adds to answer 0."""
        return self.changes.decision.gain.times(100)

    @property
    def gained(self) -> bool:
        """Whether revising pays as promised: enough, beyond chance, and by verdicts that are right."""
        verdicts = balanced(self.chains.judged).times(100)
        return GAIN.reached(self.gain.value) and self.gain.low > 0 and VERDICTS.reached(verdicts.value)


def formed(tasks: Sequence[Task]) -> Estimate:
    """Chains of all tasks that keep to the format."""
    return share([each for task in tasks for each in task.chains.well_formed]).times(100)


def making(minutes: Mapping[str, float]) -> float:
    """Minutes from exercises to the model."""
    return sum(minutes.get(stage, 0.0) for stage in MAKING)


def reached(tasks: Sequence[Task], minutes: Mapping[str, float]) -> bool:
    """Whether what was promised came out."""
    gained = sum(task.gained for task in tasks) >= TASKS_THAT_GAIN
    return gained and WELL_FORMED.reached(formed(tasks).value) and MINUTES.reached(making(minutes))


def part(tasks: Sequence[Task], script: str, minutes: Mapping[str, float]) -> str:
    """The whole part of the page."""
    lines = circumstances(f"python {script} --work DIR", sum(minutes.values()))
    prompts = ", ".join(f"{task.name} {len(task.chains.first)}" for task in tasks)
    return (
        "\n\n".join(
            [
                f"## {script}",
                "\n".join(f"- {line}" for line in lines),
                HOW,
                f"Minutes: {', '.join(f'{name} {spent:.1f}' for name, spent in minutes.items())}.",
                f"Held-out prompts: {prompts}.",
                promises(tasks, minutes),
                "\n".join([FIRST, *map(_first, tasks)]),
                "At equal generated tokens (a prompt, on average):",
                "\n".join([SECOND, *map(_second, tasks)]),
            ]
        )
        + "\n"
    )


def promises(tasks: Sequence[Task], minutes: Mapping[str, float]) -> str:
    """The goals, with what came out."""
    gained = [task.name for task in tasks if task.gained]
    rows = (
        (
            "native chains well-formed",
            shown(formed(tasks), "%"),
            "≥ 95 %",
            WELL_FORMED.reached(formed(tasks).value),
        ),
        (
            "tasks that gain ≥ 10 points (interval above 0) with verdicts ≥ 85 %",
            f"{len(gained)} ({', '.join(gained) or 'none'})",
            f"≥ {TASKS_THAT_GAIN}",
            len(gained) >= TASKS_THAT_GAIN,
        ),
        (
            "minutes from exercises to the model",
            f"{making(minutes):.0f}",
            "≤ 60",
            MINUTES.reached(making(minutes)),
        ),
    )
    lines = (
        f"| {what} | {found} | {goal} | {'yes' if good else '**no**'} |" for what, found, goal, good in rows
    )
    return "\n".join(["| measure | found | must reach | reached |\n|---|---|---|---|", *lines])


def _first(task: Task) -> str:
    chains = task.chains
    changes = task.changes
    cells = (
        task.name,
        percent(share(chains.first)),
        percent(share(chains.final)),
        shown(task.gain),
        number(changes.decision.p),
        f"{changes.fixed} of {changes.wrong}, {changes.broken} of {changes.right}",
        percent(share(chains.well_formed)),
        percent(balanced(chains.judged)),
        percent(balanced(chains.judged_all)),
        str(chains.echoes),
    )
    return f"| {' | '.join(cells)} |"


def _second(task: Task) -> str:
    chains, once, vote = task.chains, task.once, task.vote
    cells = (
        task.name,
        percent(share(chains.final)),
        _mean(chains.tokens),
        percent(share(once.right)),
        _mean(once.tokens),
        f"{percent(share(vote.right))}, of {vote.samples}",
        _mean(vote.tokens),
        shown(difference(vote.right, chains.final).times(100)),
        number(mcnemar(vote.right, chains.final)),
    )
    return f"| {' | '.join(cells)} |"


def _mean(tokens: Sequence[int]) -> str:
    return number(sum(tokens) / len(tokens))


def share(hits: Sequence[bool]) -> Estimate:
    """The share of hits."""
    return proportion(sum(hits), len(hits))


def percent(estimate: Estimate) -> str:
    """A share with its interval, in per cent."""
    return shown(estimate.times(100), "%")


def shown(estimate: Estimate, unit: str = "") -> str:
    """A figure with its interval; that nothing could be counted is said."""
    if math.isnan(estimate.value):
        return "none to count"
    value = f"{estimate.value:.1f}{' ' if unit else ''}{unit}"
    if math.isnan(estimate.low):
        return value
    return f"{value} ({estimate.low:.1f} to {estimate.high:.1f})"
