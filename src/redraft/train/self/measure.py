"""The results of held-out chains, task by task, and of single answers with as many tokens.

A chain is judged by its task's check, never by what the model says of it. The control is the adapter that
answers, without criticism: it answers each prompt as often as fits into the tokens of the chains, and the
answer that it gives most often is its vote.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from redraft.chain import Chain
from redraft.evaluation import stats
from redraft.evaluation.diagnosis.figures import Changes
from redraft.evaluation.stats import Estimate, Judged
from redraft.train.self.lessons import passes
from redraft.train.self.tasks.task import Task, plain

HEAD = (
    "task",
    "answer 0",
    "final",
    "gain",
    "wrong → right",
    "right → wrong",
    "verdicts",
    "unknown",
    "tokens",
)
SIZES = (1, 2, 4, 8, 16)
"""Answers to vote with, on the way to as many as the tokens of the chains allow."""
CURVE = ("task", "final", *(f"vote of {size}" for size in SIZES), "of all")
VOTED = ("task", "final", "tokens", "vote", "tokens", "final − vote", "p")


@dataclass(frozen=True)
class Outcome:
    """The results of the chains of a task, one entry a prompt, in the order of their ids.

    Attributes:
        first: Whether answer 0 is right.
        final: Whether the answer of the chain is right.
        judged: The verdicts on answer 0.
        unknown: Verdicts on answer 0 that said neither.
        tokens: Generated tokens.
    """

    first: tuple[bool, ...]
    final: tuple[bool, ...]
    judged: tuple[Judged, ...]
    unknown: int
    tokens: tuple[int, ...]

    @classmethod
    def of(cls, task: Task, chains: Sequence[Chain]) -> Outcome:
        """Judge the chains of a task."""
        first = [passes(task, chain, chain.steps[0].answer) for chain in chains]
        verdicts = [chain.steps[0].verdict for chain in chains]
        return cls(
            tuple(first),
            tuple(passes(task, chain, chain.answer) for chain in chains),
            tuple(stats.judged([each]) for each in zip(verdicts, first, strict=True)),
            verdicts.count("unknown"),
            tuple(chain.usage.completion_tokens for chain in chains),
        )

    @cached_property
    def changes(self) -> Changes:
        """From answer 0 to the final answer, by prompt."""
        pairs = zip(self.first, self.final, strict=True)
        return Changes(tuple((*pair, prompt) for prompt, pair in enumerate(pairs)))

    @cached_property
    def gain(self) -> Estimate:
        """Points that revising adds to answer 0."""
        return self.changes.decision.gain.times(100)

    @cached_property
    def verdicts(self) -> Estimate:
        """Balanced accuracy of the verdicts on answer 0, in per cent: accepting everything is 50."""
        return stats.balanced(self.judged).times(100)


@dataclass(frozen=True)
class Votes:
    """The results of several answers to each prompt, one entry a prompt, in the order of their ids.

    Attributes:
        samples: Answers to each prompt.
        by_size: Whether the most frequent of so many answers is right.
        tokens: Of all answers.
    """

    samples: int
    by_size: Mapping[int, tuple[bool, ...]]
    tokens: tuple[int, ...]

    @classmethod
    def of(cls, task: Task, answers: Sequence[Chain]) -> Votes:
        """Count answers of a task. Those with the same id before `#` answer the same prompt."""
        grouped: dict[str, list[Chain]] = {}
        for chain in sorted(answers, key=_place):
            grouped.setdefault(_place(chain)[0], []).append(chain)
        samples = len(answers) // len(grouped)
        by_size = {
            size: tuple(_votes_right(task, chains[:size]) for chains in grouped.values())
            for size in (*SIZES, samples)
            if size <= samples
        }
        tokens = (sum(chain.usage.completion_tokens for chain in chains) for chains in grouped.values())
        return cls(samples, by_size, tuple(tokens))

    @property
    def right(self) -> tuple[bool, ...]:
        """Whether the most frequent of all answers is right."""
        return self.by_size[self.samples]


def _votes_right(task: Task, chains: Sequence[Chain]) -> bool:
    [(voted, _)] = Counter(plain(chain.answer) for chain in chains).most_common(1)
    return passes(task, chains[0], voted)


def _place(chain: Chain) -> tuple[str, int]:
    name, _, number = chain.id.rpartition("#")
    return name, int(number)


def by_task(chains: Iterable[Chain]) -> Mapping[str, list[Chain]]:
    """Return the chains of each task, in the order of their ids."""
    found: dict[str, list[Chain]] = {}
    for chain in sorted(chains, key=lambda chain: chain.id):
        found.setdefault(chain.meta["task"], []).append(chain)
    return found


def ballots(revised: Sequence[Chain], answered: Sequence[Chain]) -> Iterator[Chain]:
    """Yield each prompt of a task as often as the control may answer it for the tokens of the chains.

    Args:
        revised: The chains.
        answered: The control's single answers to the same prompts.
    """
    of_one, total = (sum(each.usage.completion_tokens for each in part) for part in (answered, revised))
    for chain in revised:
        for number in range(max(1, math.ceil(total / max(of_one, 1)))):
            yield Chain(id=f"{chain.id}#{number}", prompt=chain.prompt, meta=chain.meta)


def row(name: str, found: Outcome) -> tuple[str, ...]:
    """Return the cells of `HEAD`."""
    changes = found.changes
    return (
        name,
        share(found.first),
        share(found.final),
        shown(found.gain),
        f"{changes.fixed} of {changes.wrong}",
        f"{changes.broken} of {changes.right}",
        shown(found.verdicts, " %"),
        str(found.unknown),
        mean(found.tokens),
    )


def voted_row(name: str, found: Outcome, votes: Votes) -> tuple[str, ...]:
    """Return the cells of `VOTED`."""
    return (
        name,
        share(found.final),
        mean(found.tokens),
        f"{share(votes.right)}, of {votes.samples}",
        mean(votes.tokens),
        shown(stats.difference(votes.right, found.final).times(100)),
        f"{stats.mcnemar(votes.right, found.final):.2g}",
    )


def share(hits: Sequence[bool]) -> str:
    """Return a share in per cent with its interval."""
    return shown(stats.proportion(sum(hits), len(hits)).times(100), " %")


def shown(found: Estimate, unit: str = "") -> str:
    """Return an estimate with its interval, where it has one."""
    if math.isnan(found.value):
        return "none to count"
    interval = "" if math.isnan(found.low) else f" ({found.low:.1f} to {found.high:.1f})"
    return f"{found.value:.1f}{unit}{interval}"


def mean(tokens: Sequence[int]) -> str:
    """Return the mean of counts."""
    return f"{sum(tokens) / len(tokens):.0f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def changes(found: Iterable[tuple[str, Outcome]]) -> str:
    """Return a table of the results of revising."""
    return table(HEAD, (row(*each) for each in found))


def votes(found: Iterable[tuple[str, Outcome, Votes]]) -> str:
    """Return a table of chains beside votes of single answers."""
    return table(VOTED, (voted_row(*each) for each in found))


def curve(found: Iterable[tuple[str, Outcome, Votes]]) -> str:
    """Return a table of votes with more and more answers, each with the tokens that they take."""

    def at(size: int, votes: Votes) -> str:
        tokens = fmean(votes.tokens) * size / votes.samples
        return f"{fmean(votes.by_size[size]):.0%} at {tokens:.0f}" if size in votes.by_size else ""

    def cells(name: str, outcome: Outcome, votes: Votes) -> list[str]:
        final = f"{fmean(outcome.final):.0%} at {mean(outcome.tokens)}"
        return [name, final, *(at(size, votes) for size in (*SIZES, votes.samples))]

    return table(CURVE, (cells(*each) for each in found))
