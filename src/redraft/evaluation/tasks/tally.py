"""Compute the score of a run: the share of right answers with an interval, overall and by group.

An answer is right if it passes every check of the task, no matter which checks guided revising. Without a
task, only checked chains are counted, and an answer is right if it passed the chain's checks. Intervals are
over items.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import BaseModel, ValidationError, model_validator

from redraft.chain import Chain, Step, describe
from redraft.errors import RecordError
from redraft.evaluation.records import item_of
from redraft.evaluation.stats import NOTHING, SHARE, Estimate, mean, proportions, without_nan
from redraft.evaluation.tables import Line, Part, as_text, percent
from redraft.evaluation.tasks.tasks import KEY, all_pass, is_answer
from redraft.jobs.counting import counted
from redraft.revision.words import Summary


@dataclass
class Share:
    """The share of trials that succeed, with the counts of each item."""

    by_item: dict[str, tuple[int, int]] = field(default_factory=dict)  # hits and trials

    def add(self, item: str, *, hit: bool) -> None:
        """Count one trial of an item."""
        hits, count = self.by_item.get(item, (0, 0))
        self.by_item[item] = hits + hit, count + 1

    @property
    def hits(self) -> int:
        """The number of hits over all items."""
        return sum(hits for hits, _ in self.by_item.values())

    @property
    def count(self) -> int:
        """The number of trials over all items."""
        return sum(count for _, count in self.by_item.values())

    @property
    def rate(self) -> Estimate:
        """The share, 0 to 1, with a 95 % interval over items."""
        return proportions(*zip(*self.by_item.values(), strict=True)) if self.by_item else NOTHING

    def record(self) -> dict[str, Any]:
        """Return the rate and the counts as JSON values."""
        return {**vars(self.rate), "hits": self.hits, "count": self.count}


def _shares() -> dict[str, Share]:
    return defaultdict(Share)


FIRST, LOOSE, SINGLE = "first answers", "loose", "constraints"
"""The names of further shares: right first answers, IFEval's loose score, and constraints met."""

_COUNTS = ("chains", "revisions", "unrevised", "stops", "usage", "failed", "costs", "unpriced")


@dataclass
class Tally(Summary):
    """The counts of `Summary`, and how many best answers are right (`outcome_of`)."""

    task: str = ""  # the chains' task; empty if they have none
    outcomes: dict[str, bool] = field(default_factory=dict)  # by chain id: whether the best answer is right
    items: dict[str, str] = field(default_factory=dict)  # items (`item_of`) by chain id, if they differ
    beside: dict[str, Share] = field(default_factory=_shares)  # other scores over all records, by name
    groups: dict[str, Share] = field(default_factory=_shares)  # scores by group (IFEval: constraint type)
    cut: int = 0  # chains whose best answer reached the token limit
    failed: dict[str, int] = field(default_factory=dict)  # records without an answer, by cause; not counted

    @property
    def score(self) -> Share:
        """The score of the best answers."""
        share = Share()
        for name, right in self.outcomes.items():
            share.add(self.items.get(name, name), hit=right)
        return share

    @property
    def passes(self) -> dict[int, Estimate]:
        """The estimates of pass@k by k; empty unless a task's records were answered several times."""
        counts = self.score.by_item if self.task else {}
        most = max((count for _, count in counts.values()), default=1)
        return {k: pass_at(counts, k) for k in steps_to(most)[1:]} if most > 1 else {}

    @property
    def wrong(self) -> list[str]:
        """The ids of the chains whose best answer is wrong."""
        return [name for name, right in self.outcomes.items() if not right]

    def add(self, chain: Chain, groups: Iterable[str] = (), name: str = "") -> None:
        """Count a chain. `groups` are used if the task has no groups. `name` replaces a repeated id."""
        super().add(chain)
        self.cut += chain.best is not None and chain.steps[chain.best].finish == "max_tokens"
        name, item = name or chain.id, item_of(chain)
        if item != name:
            self.items[name] = item
        if not self.task:
            if (right := outcome_of(chain)) is not None:
                self._add(name, groups, right=right, first=chain.steps[0].passed is True)
            return
        truth, final = truth_of(chain) or Truth(), results_of(chain)
        first = next(rights_of(chain), None) is True
        self._add(name, truth.groups or groups, right=all_pass(final), first=first)
        if self.task == "ifeval" and truth.steps:
            # A text that is no answer meets no constraint, not even loosely.
            loose = zip(final, truth.loose[chain.best or 0], strict=True)
            met = [also and result.answered for result, also in loose]
            self.beside[LOOSE].add(item, hit=bool(met) and all(met))
            for result, also in zip(final, met, strict=True):
                name = result.name.removeprefix("ifeval:").split(" ")[0]
                self.beside[SINGLE].add(item, hit=result.passed)
                self.beside[f"{SINGLE}, {LOOSE}"].add(item, hit=also)
                self.groups[name].add(item, hit=result.passed)

    def _add(self, name: str, groups: Iterable[str], *, right: bool, first: bool) -> None:
        self.outcomes[name] = right
        item = self.items.get(name, name)
        self.beside[FIRST].add(item, hit=first)
        for group in groups:
            self.groups[group].add(item, hit=right)

    def _with(self, k: int) -> int:
        return sum(count >= k for _, count in self.score.by_item.values())

    def lines(self) -> Iterator[Line]:
        """Yield the score as table rows."""
        yield _line("score" if self.task else "passed", self.score)
        if self.task and self.cut:
            yield Line("  cut off", f"{self.cut:,}", note="at the token limit, and scored as they are")
        for k, rate in self.passes.items():
            fewer = len(self.score.by_item) - self._with(k)
            without = f"; leaves out {counted(fewer, 'record')} with fewer answers" if fewer else ""
            yield Line(f"  pass@{k}", *percent(rate, 1), f"at least one of {k} answers is right{without}")
        for name, share in self.beside.items():
            if name != FIRST or self.revisions:
                yield _line(f"  {name}", share)
        for name in sorted(self.groups):
            yield _line(name, self.groups[name])

    def table(self) -> list[str]:
        """Return the score as lines of text."""
        return [*as_text([Part(self.task, counted(self.score.count, "answer"), lines=[*self.lines()])])]

    def record(self) -> dict[str, Any]:
        """Return all scores and counts as JSON values."""
        return without_nan(
            {
                "task": self.task,
                "score": self.score.record(),
                **{f"pass@{k}": vars(rate) | {"records": self._with(k)} for k, rate in self.passes.items()},
                **{
                    name.replace(" ", "_").replace(",", ""): share.record()
                    for name, share in self.beside.items()
                },
                "groups": {name: share.record() for name, share in sorted(self.groups.items())},
                "right": [name for name, right in self.outcomes.items() if right],
                "wrong": self.wrong,
                **{name: getattr(self, name) for name in _COUNTS},
            }
        )


class Judged(BaseModel):
    """The result of a scoring check on a text. `answered`: whether the text is an answer (`is_answer`)."""

    name: str = ""
    passed: bool
    message: str = ""
    answered: bool = True


class Truth(BaseModel):
    """The check results and groups that `tasks.scored` stored in a chain."""

    task: str = ""
    model: str = ""  # the model's name, in logs that may contain several models
    groups: list[str] = []
    steps: list[list[Judged]] = []  # for each answer, the results of the task's checks
    loose: list[list[bool]] = []  # IFEval only: for each answer, whether each constraint is met loosely

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.task == "ifeval" and list(map(len, self.steps)) != list(map(len, self.loose)):
            raise ValueError("`loose` should have a value for each result in `steps`")
        return self


def truth_of(chain: Chain) -> Truth | None:
    """Return the check results that `tasks.scored` stored in a chain; None if the chain has no task."""
    found = chain.meta.get(KEY)
    try:
        return None if found is None else Truth.model_validate(found)
    except ValidationError as error:
        raise RecordError(f"{chain.id}: `meta.{KEY}` cannot be read: {describe(error)}.") from None


def results_of(chain: Chain) -> Sequence[Judged]:
    """Return the best answer's results on the task's checks or, without a task, on the chain's checks.

    All results fail for a text that is no answer (`is_answer`), and for a task's chain without a best answer.
    """
    place = chain.best or 0
    if truth := truth_of(chain):
        found: Sequence[Judged] = truth.steps[place] if place < len(truth.steps) else []
    elif chain.best is None:
        return []
    else:
        found = [Judged.model_validate(each.model_dump()) for each in chain.steps[place].checks]
    return _met(found, chain.steps[place] if chain.best is not None else None)


def _met(found: Sequence[Judged], step: Step | None) -> Sequence[Judged]:
    if step is not None and is_answer(step):
        return found
    return [each.model_copy(update={"passed": False, "answered": False}) for each in found]


def outcome_of(chain: Chain) -> bool | None:
    """Return whether a chain's best answer is right or, without a task, passed all checks; None if unknown.

    With a task but no best answer, return False. Without a task, return None if all answers are blank. With
    neither a task nor a best answer, return False if an answer is an echo (`Step.echo`), otherwise None.
    """
    if truth_of(chain):
        return all_pass(results_of(chain))
    if not any(step.answer.strip() for step in chain.steps):
        return None
    if chain.best is None:
        return False if any(step.echo for step in chain.steps) else None
    return chain.passed and is_answer(chain.steps[chain.best])


def rights_of(chain: Chain) -> Iterator[bool | None]:
    """For each answer, yield whether it is right or, without a task, passed all checks; None if unknown."""
    if truth := truth_of(chain):
        yield from (all_pass(_met(*each)) for each in zip(truth.steps, chain.steps, strict=False))
    else:
        yield from (step.passed for step in chain.steps)


def _line(name: str, share: Share) -> Line:
    return Line(name, *percent(share.rate, 1), f"{share.hits:,} of {share.count:,}")


def pass_at(counts: Mapping[str, tuple[int, int]], k: int) -> Estimate:
    """Estimate pass@k: the probability that at least one of `k` answers to an item is right.

    If c of n answers are right, the unbiased estimate is 1 - C(n-c, k) / C(n, k). The result is the mean over
    the items with at least `k` answers, with an interval over items.

    Source: Chen et al., Evaluating Large Language Models Trained on Code (2021, arXiv 2107.03374), eq. 1.

    Args:
        counts: The numbers of right answers and of all answers to each item.
        k: The number of answers drawn.
    """
    chances = [1 - math.comb(n - c, k) / math.comb(n, k) for c, n in counts.values() if n >= k]
    return mean(chances, bounds=SHARE) if chances else NOTHING


def steps_to(most: int) -> list[int]:
    """Return the values of k to show: 1, 2, 5, 10, 20 … below `most`, then `most`."""
    found = (digit * 10**zeros for zeros in range(len(str(most))) for digit in (1, 2, 5))
    return [*(k for k in found if k < most), most]
