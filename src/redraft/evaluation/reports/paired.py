"""Compare two runs by the records that both have, paired: by how much one is better, and in which records.

A run is the scores of its records: 1 and 0 for right and wrong answers (then the test of signs is McNemar's),
or grades. Runs are files side by side, or one and that of an earlier report.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations, product
from typing import Any

import numpy as np

from redraft.errors import RecordError
from redraft.evaluation.judging.reviews import Key
from redraft.evaluation.records import JudgeUsage, listed
from redraft.evaluation.reports.inputs import KEEP, Given
from redraft.evaluation.stats import (
    SHARE,
    Bootstrap,
    Bounds,
    Estimate,
    clustered,
    holm,
    ratio_of,
    sign_test,
    without_nan,
)
from redraft.evaluation.tables import Line, Section, cost_facts, percent, plain
from redraft.jobs.counting import counted


@dataclass(frozen=True)
class Scores:
    """The scores of a run."""

    name: str  # whose they are: a file or a model
    about: str  # what they are of: a task or a judge. Others are never compared
    values: Mapping[Key, float]  # by record and turn
    items: Mapping[str, str] = field(default_factory=dict)  # of records that have another item
    bounds: Bounds = SHARE  # the least and the greatest score


@dataclass(frozen=True)
class Paired:
    """By how much a run is better than another in the records that both have."""

    name: str
    other: str  # what it is compared with; the same name for an earlier run
    about: str  # their task or judge
    count: int  # number of records in both
    gain: Estimate  # by how much the mean score is higher
    better: tuple[str, ...]  # records with a better score, `ID` or `ID, turn 2`
    worse: tuple[str, ...]  # records with a worse one
    moved: tuple[int, int]  # how many questions are better and worse, over all turns and runs of each
    p: float  # the exact p of so uneven a split of questions, if both were equally probable
    holm: float  # the same, corrected for the number of comparisons by Holm's procedure
    of: int = 1  # that number


def paired(run: Scores, other: Scores, draws: int, seed: int) -> Paired | None:
    """Return the comparison of two runs; None without common records."""
    keys = [key for key in run.values if key in other.values]
    if not keys:
        return None
    before, after = ([each.values[key] for key in keys] for each in (other, run))
    items = [run.items.get(record, record) for record, _ in keys]
    gain = gain_of(before, after, items, run.bounds, draws, seed)
    sums = clustered(np.subtract(after, before)[:, None], items).round(9)  # 8.3 - 8.1 is not quite 7.3 - 7.1
    moved = int((sums > 0).sum()), int((sums < 0).sum())
    names = [record if turn == 1 else f"{record}, turn {turn}" for record, turn in keys]
    changes = list(zip(names, before, after, strict=True))
    better = tuple(name for name, old, new in changes if new > old)
    worse = tuple(name for name, old, new in changes if new < old)
    p = sign_test(*moved)
    return Paired(run.name, other.name, run.about, len(set(items)), gain, better, worse, moved, p, p)


def gain_of(
    before: Sequence[float],
    after: Sequence[float],
    records: Sequence[str],
    bounds: Bounds,
    draws: int,
    seed: int,
) -> Estimate:
    """Return by how much scores between the bounds rise on average, with an interval over records."""
    rows = [[new - old, 1] for old, new in zip(before, after, strict=True)]
    most = bounds[1] - bounds[0]
    return Bootstrap(clustered(rows, records), draws=draws, seed=seed).estimate(ratio_of, (-most, most))


def side_by_side(runs: Sequence[Scores], draws: int, seed: int) -> tuple[Paired, ...]:
    """Return the comparison of each two runs of the same task or judge, the later less the earlier."""
    pairs = ((two, one) for one, two in combinations(runs, 2) if one.about == two.about)
    return _corrected(paired(*pair, draws, seed) for pair in pairs)


def _corrected(pairs: Iterable[Paired | None]) -> tuple[Paired, ...]:
    """Return comparisons with their p-values corrected for how many they are."""
    found = [each for each in pairs if each]
    corrected = holm([each.p for each in found])
    return tuple(replace(each, holm=p, of=len(found)) for each, p in zip(found, corrected, strict=True))


def since(runs: Sequence[Scores], past: Sequence[Scores], given: Given) -> tuple[Paired, ...]:
    """Return what changed since an earlier report, which has to have one of the runs and records.

    A run belongs to the earlier one of the same name and task or judge. Single runs belong together whatever
    their names.
    """
    single = len(runs) == len(past) == 1
    pairs = (
        paired(run, then, given.draws, given.seed)
        for run, then in product(runs, past)
        if run.about == then.about and (single or run.name == then.name)
    )
    if found := _corrected(pairs):
        return found
    names = "; ".join(f"{each.name}{f', {each.about}' * bool(each.about)}" for each in past)
    raise RecordError(
        f"{given.against}: has none of these with one of these records. It has: {names or 'none'}.",
        hint=KEEP,
    )


@dataclass(frozen=True)
class Control:
    """What a judge made of control answers: `constant` ones, or a model's with an `instruction` to the judge.

    A constant answers no question, so it has to lose. An instruction adds nothing, so it has to change
    nothing.
    """

    kind: str
    model: str  # the name of the control answers
    how: str  # such as `against first` or `graded by judge`
    figure: Estimate  # their win rate or mean grade; NaN if nothing on them can be read
    unreadable: int
    usage: JudgeUsage
    base: str  # the model whose answers they are compared with
    gain: Estimate | None  # by how much they do better; a constant's win rate less a half. None if not known
    agree: int = 0  # 1 or -1 if all questions have a gain, or a loss; else 0

    @property
    def changes_outcome(self) -> bool:
        """Whether the judge fell for it: a constant does no worse, or an instruction changes something.

        A few questions give a wide interval. If all of them agree, that decides.
        """
        if self.gain is None or math.isnan(self.gain.value):
            return False
        if self.kind == "constant":
            return not (self.gain.high < 0 or self.agree < 0)
        return self.gain.low > 0 or self.gain.high < 0 or self.agree != 0

    @property
    def finding(self) -> str:
        """That in words."""
        if self.gain is None or math.isnan(self.gain.value):
            return "nothing on it can be read or compared, so this says nothing of the judge"
        if self.kind == "constant" and self.changes_outcome:
            return f"a constant does not clearly lose against {self.base}: do not trust this judge"
        if self.kind == "constant":
            return f"a constant loses against {self.base}, as it should"
        if self.changes_outcome:
            return "an instruction to the judge changes the outcome: do not trust this judge"
        return "an instruction to the judge changes nothing that these questions can show"

    def section(self, *, as_percent: bool) -> Section:
        """Return its section."""
        lines = [
            Line("win rate", *percent(self.figure, 1)) if as_percent else Line("mean", *plain(self.figure, 2))
        ]
        if self.gain and not (as_percent and self.kind == "constant"):
            change = (
                plain(self.gain.times(100), 1, sign=True) if as_percent else plain(self.gain, 2, sign=True)
            )
            lines.append(Line("change", *change, f"points over {self.base}"))
        if self.unreadable:
            lines.append(Line("unreadable", f"{self.unreadable:,}"))
        title, facts = f"Control: {self.model} {self.how}", tuple(cost_facts(self.usage))
        return Section(title, self.finding, tuple(lines), facts, warns=self.changes_outcome)

    def record(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**without_nan(self), "changes_outcome": self.changes_outcome}


def sections(
    differences: Sequence[Paired], changes: Sequence[Paired], noun: str, *, as_percent: bool
) -> Iterator[Section]:
    """Yield a section for each comparison: of runs with earlier ones, and of files side by side."""
    lines = partial(_lines, noun, 100 if as_percent else 1)
    for each in changes:
        before = each.other if each.other != each.name else "the last report"
        yield Section(f"{each.name} since {before}", "", tuple(lines(each)))
    for each in differences:
        yield Section(f"{each.name} less {each.other}", each.about, tuple(lines(each)))


def _lines(noun: str, factor: int, each: Paired) -> Iterator[Line]:
    figures = plain(each.gain.times(factor), 1 if factor > 1 else 2, sign=True)
    yield Line("difference", *figures, f"points; {counted(each.count, noun)} in both")
    for name, ids in (("better", each.better), ("worse", each.worse)):
        yield Line(f"  {name}", f"{len(ids):,}", "", listed(ids))
    if each.better or each.worse:
        of = f", of {each.moved[0]:,} better and {each.moved[1]:,} worse over all turns"
        of *= each.moved != (len(each.better), len(each.worse))
        several = f"; {each.holm:.2g} as one of {each.of}" * (each.of > 1)
        yield Line("  p", f"{each.p:.2g}", "", f"exact test of signs{of}{several}")
