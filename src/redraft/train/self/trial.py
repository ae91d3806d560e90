"""A test of a model that revises: held-out exercises, and as many single answers as take the same tokens.

The control is the adapter that answers, without criticism. Whatever stops a test, the same call goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redraft.chain import Chain, read_jsonl, write_jsonl
from redraft.revision.runs.answers import answer_file
from redraft.train.self import lessons, measure
from redraft.train.self.measure import Outcome, Votes
from redraft.train.self.tasks.task import Task

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
        trained_wordings: Ask in the words of training, not in those that are kept for tests.
    """

    files: Asking
    tasks: Sequence[Task]
    answering: str
    revising: str
    count: int = 300
    drawn: int = 1
    temperature: float = 0.0
    trained_wordings: bool = False

    def held_out(self) -> list[Chain]:
        """Return the exercises to test on."""
        return [
            chain
            for task in self.tasks
            for chain in lessons.held_out(
                task, self.count, self.drawn, trained_wordings=self.trained_wordings
            )
        ]

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
        curve = f"Right answers, at so many new tokens a prompt:\n\n{measure.curve(found)}"
        return f"{measure.changes(outcomes)}\n\n{measure.votes(found)}\n\n{curve}"

    def _ballots(self) -> Iterator[Chain]:
        revised, answered = self._by_task("revised"), self._by_task("answered")
        for task in self.tasks:
            yield from measure.ballots(revised[task.name], answered[task.name])

    def _by_task(self, name: str) -> Mapping[str, list[Chain]]:
        return measure.by_task(read_jsonl(self.files.path(f"{name}.jsonl")))
