"""The test of a model that revises: held-out exercises, task by task, and single answers with as many tokens.

A chain is judged by its task's check, never by what the model says of it. The control is the adapter that
answers, without criticism: it answers each prompt as often as fits into the tokens of the chains, and the
answer that it gives most often is its vote. Whatever stops a test, the same call goes on.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from redraft.chain import Chain, read_jsonl, write_jsonl
from redraft.evaluation import stats
from redraft.evaluation.diagnosis.figures import Changes
from redraft.evaluation.stats import Estimate, Judged
from redraft.revision.runs.answers import answer_file
from redraft.train.self import lessons
from redraft.train.self.lessons import passes
from redraft.train.self.tasks.task import Task, plain

HEAD = [
    "task",
    "answer 0",
    "final",
    "gain",
    "wrong → right",
    "right → wrong",
    "verdicts",
    "unknown",
    "tokens",
]
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
        right: Whether the most frequent one is right.
        tokens: Of all answers.
    """

    samples: int
    right: tuple[bool, ...]
    tokens: tuple[int, ...]

    @classmethod
    def of(cls, task: Task, answers: Sequence[Chain]) -> Votes:
        """Count answers of a task. Those with the same id before `#` answer the same prompt."""
        grouped: dict[str, list[Chain]] = {}
        for chain in sorted(answers, key=_place):
            grouped.setdefault(_place(chain)[0], []).append(chain)
        tokens = (sum(chain.usage.completion_tokens for chain in chains) for chains in grouped.values())
        right = tuple(_votes_right(task, chains) for chains in grouped.values())
        return cls(len(answers) // len(grouped), right, tuple(tokens))


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
    rows = (
        (
            name,
            share(each.first),
            share(each.final),
            shown(each.gain),
            f"{each.changes.fixed} of {each.changes.wrong}",
            f"{each.changes.broken} of {each.changes.right}",
            shown(each.verdicts, " %"),
            str(each.unknown),
            mean(each.tokens),
        )
        for name, each in found
    )
    return table(HEAD, rows)


def votes(found: Iterable[tuple[str, Outcome, Votes]]) -> str:
    """Return a table of chains beside votes of single answers."""
    rows = (
        (
            name,
            share(outcome.final),
            mean(outcome.tokens),
            f"{share(votes.right)}, of {votes.samples}",
            mean(votes.tokens),
            shown(stats.difference(votes.right, outcome.final).times(100)),
            f"{stats.paired(votes.right, outcome.final):.2g}",
        )
        for name, outcome, votes in found
    )
    return table(VOTED, rows)


LONGEST_ANSWER = 64
"""Tokens of an answer to an exercise; the longest right one has about 40."""
LONGEST_CHAIN = 512
"""Tokens of a chain; the longest feedback has about 200."""
REVISIONS = 1
"""As learnt: a second criticism would repeat the work of the first."""


@dataclass(frozen=True)
class Asking:
    """Files of exercises and answers in one folder. Each is written once."""

    folder: Path
    seed: int = 1
    parallel: int = 32

    def path(self, name: str) -> Path:
        """Return a file of the folder."""
        return self.folder / name

    def write(self, name: str, chains: Iterable[Chain]) -> None:
        """Write chains, unless the file is there."""
        if not self.path(name).exists():
            write_jsonl(self.path(name), list(chains))

    def answer(
        self,
        asked: str,
        to: str,
        model: str,
        *,
        most: int = LONGEST_ANSWER,
        temperature: float = 0.7,
        max_revisions: int = 0,
        mode: Any = "native",
    ) -> None:
        """Let a model answer a file of prompts, as `redraft answer` does."""
        answer_file(
            self.path(asked),
            self.path(to),
            model=model,
            mode=mode,
            seed=self.seed,
            parallel=self.parallel,
            temperature=temperature,
            max_revisions=max_revisions,
            max_tokens=most,
        )


@dataclass(frozen=True)
class Trial:
    """A test.

    Attributes:
        files: Where its files are, its seed, and how many texts are made at once.
        tasks: What is tested.
        answering: The reference of the model that answers: the control.
        revising: That of the model that answers and revises.
        count: Exercises a task.
        drawn: The seed of the exercises.
        temperature: That of the chains.
    """

    files: Asking
    tasks: Sequence[Task]
    answering: str
    revising: str
    count: int = 300
    drawn: int = 1
    temperature: float = 0.0

    def held_out(self) -> list[Chain]:
        """Return the exercises to test on."""
        return [chain for task in self.tasks for chain in lessons.held_out(task, self.count, self.drawn)]

    def run(self) -> None:
        """Answer and revise the held-out exercises, and answer them again for as many tokens."""
        self.revise()
        self.files.answer("held-out.jsonl", "answered.jsonl", self.answering)
        self.files.write("ballots.jsonl", self._ballots())
        self.files.answer("ballots.jsonl", "voted.jsonl", self.answering)

    def revise(self) -> None:
        """Answer and revise what is held out."""
        self.files.write("held-out.jsonl", self.held_out())
        self.files.answer(
            "held-out.jsonl",
            "revised.jsonl",
            self.revising,
            most=LONGEST_CHAIN,
            temperature=self.temperature,
            max_revisions=REVISIONS,
        )

    def outcomes(self) -> Iterator[tuple[str, Outcome]]:
        """Yield each task's name, and the results of revising."""
        revised = self._by_task("revised")
        for task in self.tasks:
            yield task.name, Outcome.of(task, revised[task.name])

    def votes(self) -> Iterator[Votes]:
        """Yield the results of the votes on each task."""
        voted = self._by_task("voted")
        for task in self.tasks:
            yield Votes.of(task, voted[task.name])

    def report(self) -> str:
        """Return it as Markdown."""
        outcomes = list(self.outcomes())
        found = [(*of, votes) for of, votes in zip(outcomes, self.votes(), strict=True)]
        return f"{changes(outcomes)}\n\n{votes(found)}"

    def _ballots(self) -> Iterator[Chain]:
        revised, answered = self._by_task("revised"), self._by_task("answered")
        for task in self.tasks:
            yield from ballots(revised[task.name], answered[task.name])

    def _by_task(self, name: str) -> Mapping[str, list[Chain]]:
        return by_task(read_jsonl(self.files.path(f"{name}.jsonl")))
