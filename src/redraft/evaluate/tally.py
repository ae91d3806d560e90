"""The score of a task: the share of right answers with its interval, in all and by group.

An answer is right if it passes every check of the task. The intervals are Wilson's, over records. What
guided revising is not looked at here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from redraft.chain import Chain
from redraft.counting import counted
from redraft.evaluate.stats import Estimate, proportion
from redraft.evaluate.tasks import KEY
from redraft.revision.summary import Summary


@dataclass
class Share:
    """Hits among trials."""

    hits: int = 0
    count: int = 0

    def add(self, *, hit: bool) -> None:
        """Count a trial."""
        self.hits += hit
        self.count += 1

    @property
    def rate(self) -> Estimate:
        """The share, 0 to 1, with its 95 % interval."""
        return proportion(self.hits, self.count)

    def record(self) -> dict[str, Any]:
        """Return the share for JSON."""
        rate = self.rate
        return {
            "value": rate.value,
            "low": rate.low,
            "high": rate.high,
            "hits": self.hits,
            "count": self.count,
        }


FIRST, LOOSE, SINGLE = "first answers", "loose", "constraints"
"""Names of shares beside the score: of first answers, of IFEval's loose score, of single constraints."""


@dataclass
class Tally(Summary):
    """The score of chains that `tasks.scored` made, beside the usual counts.

    Attributes:
        task: Their task.
        score: Of the best answers.
        beside: Other scores over all records.
        groups: Of best answers, by group. IFEval's are the types of constraints, each on its own.
        wrong: Ids of the chains whose best answer is wrong.
    """

    task: str = ""
    score: Share = field(default_factory=Share)
    beside: dict[str, Share] = field(default_factory=dict)
    groups: dict[str, Share] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def add(self, chain: Chain) -> None:
        """Count a chain."""
        super().add(chain)
        truth = chain.meta.get(KEY) or {}
        steps, best = truth.get("steps") or [], chain.best
        final = steps[best] if best is not None and best < len(steps) else []
        right = _right(final)
        self.score.add(hit=right)
        if not right:
            self.wrong.append(chain.id)
        _count(self.beside, FIRST, hit=bool(steps) and _right(steps[0]))
        for group in truth.get("groups", ()):
            _count(self.groups, group, hit=right)
        if self.task == "ifeval" and best is not None:
            self._add_constraints(final, truth["loose"][best])

    def _add_constraints(self, final: list[Mapping[str, Any]], loose: list[bool]) -> None:
        _count(self.beside, LOOSE, hit=all(loose))
        for result, also in zip(final, loose, strict=True):
            _count(self.beside, SINGLE, hit=result["passed"])
            _count(self.beside, f"{SINGLE}, {LOOSE}", hit=also)
            _count(self.groups, result["name"].removeprefix("ifeval:").split(" ")[0], hit=result["passed"])

    def table(self) -> list[str]:
        """Return the score as lines of a table: name, per cent, interval, and what was counted."""
        beside = {name: share for name, share in self.beside.items() if name != FIRST or self.revisions}
        rows = [("score", self.score), *(("  " + name, share) for name, share in beside.items())]
        rows += [(name, self.groups[name]) for name in sorted(self.groups)]
        width = max(len(name) for name, _ in rows)
        return [
            f"{self.task}: {counted(self.score.count, 'answer')}",
            *(_row(name.ljust(width), share) for name, share in rows),
        ]

    def record(self) -> dict[str, Any]:
        """Return everything for JSON."""
        groups = {name: share.record() for name, share in sorted(self.groups.items())}
        found = {"task": self.task, "score": self.score.record()}
        found |= {
            name.replace(" ", "_").replace(",", ""): share.record() for name, share in self.beside.items()
        }
        return {**found, "groups": groups, "wrong": self.wrong, "usage": self.usage.model_dump()}


def _right(results: list[Mapping[str, Any]]) -> bool:
    return bool(results) and all(result["passed"] for result in results)


def _count(shares: dict[str, Share], name: str, *, hit: bool) -> None:
    shares.setdefault(name, Share()).add(hit=hit)


def _row(name: str, share: Share) -> str:
    rate = share.rate.times(100)
    interval = f"{rate.low:.1f} to {rate.high:.1f}"
    return f"{name}  {rate.value:>5.1f} %  {interval:>13}  {share.hits:,} of {share.count:,}"
