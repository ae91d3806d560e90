"""Test a revising model on held-out exercises, task by task.

The task's check decides whether an answer is right. The model's verdict does not. The same call resumes a
stopped test.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from redraft.chain import Chain, write_jsonl
from redraft.evaluation import stats
from redraft.evaluation.diagnosis.figures import Changes
from redraft.evaluation.stats import Estimate, Judged
from redraft.revision.runs.answers import answer_file
from redraft.train.self.lessons import passes
from redraft.train.self.tasks.task import Task

_CHANGES = ("wrong → right", "right → wrong")
HEAD = ["task", "answer 0", "final", "gain", *_CHANGES, "verdicts", "unknown", "tokens"]


@dataclass(frozen=True)
class Outcome:
    """The results of a task's chains. Each tuple has one entry per chain, in order of chain id.

    Attributes:
        first: Whether answer 0 is right.
        final: Whether the chain's final answer is right.
        judged: `Judged` of answer 0 alone, so every count is 0 or 1.
        unknown: The number of verdicts on answer 0 that neither accept nor reject.
        tokens: The number of generated tokens.
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
        """The changes from answer 0 to the final answer, by prompt."""
        pairs = zip(self.first, self.final, strict=True)
        return Changes(tuple((*pair, prompt) for prompt, pair in enumerate(pairs)))

    @cached_property
    def gain(self) -> Estimate:
        """The percentage points that revising adds to the accuracy of answer 0."""
        return self.changes.decision.gain.times(100)

    @cached_property
    def verdicts(self) -> Estimate:
        """Balanced accuracy of the verdicts on answer 0, in per cent: accepting everything gives 50."""
        return stats.balanced(self.judged).times(100)


def by_task(chains: Iterable[Chain]) -> Mapping[str, list[Chain]]:
    """Return the chains of each task, in order of chain id."""
    found: dict[str, list[Chain]] = {}
    for chain in sorted(chains, key=lambda chain: chain.id):
        found.setdefault(chain.meta["task"], []).append(chain)
    return found


def share(hits: Sequence[bool]) -> str:
    """Return the share of hits in per cent, with a confidence interval."""
    return shown(stats.proportion(sum(hits), len(hits)).times(100), " %")


def shown(found: Estimate, unit: str = "") -> str:
    """Return an estimate as text, with the confidence interval if known."""
    if math.isnan(found.value):
        return "none to count"
    interval = "" if math.isnan(found.low) else f" ({found.low:.1f} to {found.high:.1f})"
    return f"{found.value:.1f}{unit}{interval}"


def changes(found: Iterable[tuple[str, Outcome]]) -> str:
    """Return a Markdown table of what revising changed, with a row for each task."""
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
            f"{sum(each.tokens) / len(each.tokens):.0f}",
        )
        for name, each in found
    )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (HEAD, ["---"] * len(HEAD), *rows))


LONGEST_ANSWER = 64  # tokens of an answer to an exercise; the longest right one has about 40


@dataclass(frozen=True)
class Asking:
    """Writes files of exercises and answers into a folder. Existing files are not written again."""

    folder: Path
    seed: int = 1
    parallel: int = 32

    def write(self, name: str, chains: Iterable[Chain]) -> None:
        """Write chains to a file, unless the file exists."""
        if not (self.folder / name).exists():
            write_jsonl(self.folder / name, list(chains))

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
            self.folder / asked,
            self.folder / to,
            model=model,
            mode=mode,
            seed=self.seed,
            parallel=self.parallel,
            temperature=temperature,
            max_revisions=max_revisions,
            max_tokens=most,
        )
