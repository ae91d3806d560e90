"""Compare two runs over shared records: which run is better, by how much, and on which records.

A run is a set of scores by record: grades, or 1 and 0 for right and wrong answers. For scores of 1 and 0, the
sign test is McNemar's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from redraft.evaluation.judging.reviews import Key
from redraft.evaluation.records import listed
from redraft.evaluation.stats import SHARE, Bounds, Estimate, change, clustered, difference, holm, sign_test
from redraft.evaluation.tables import Line, Part, claimed, plain
from redraft.jobs.counting import counted


@dataclass(frozen=True)
class Scores:
    """The scores of a run."""

    name: str  # the name of the file or model
    about: str  # the name of the task or judge. Only runs with the same name here are compared
    values: Mapping[Key, float]  # scores by record and turn
    items: Mapping[str, str] = field(default_factory=dict)  # items by record, if they differ
    bounds: Bounds = SHARE  # the lowest and highest possible score


@dataclass(frozen=True)
class Paired:
    """The comparison of two runs on shared records."""

    name: str
    other: str  # the name of the other run
    about: str  # their task or judge
    count: int  # number of shared records
    gain: Estimate  # mean score minus the other run's
    better: tuple[str, ...]  # records with a higher score, `ID` or `ID, turn 2`
    worse: tuple[str, ...]  # records with a lower score
    moved: tuple[int, int]  # numbers of questions with a higher and a lower sum over their turns and runs
    p: float  # the p-value of an exact sign test on `moved`
    holm: float  # the same p, corrected for the number of comparisons by Holm's procedure
    of: int = 1  # the number of comparisons


def paired(run: Scores, other: Scores) -> Paired | None:
    """Return the comparison of two runs; None without shared records."""
    if not (keys := [key for key in run.values if key in other.values]):
        return None
    before, after = ([each.values[key] for key in keys] for each in (other, run))
    items = [run.items.get(record, record) for record, _ in keys]
    gain = change(before, after, items)
    if run.bounds != SHARE:
        most = run.bounds[1] - run.bounds[0]
        gain = difference(before, after, items, (-most, most))
    sums = clustered(np.subtract(after, before)[:, None], items).round(9)  # 8.3 - 8.1 is not quite 7.3 - 7.1
    moved = int((sums > 0).sum()), int((sums < 0).sum())
    names = [record if turn == 1 else f"{record}, turn {turn}" for record, turn in keys]
    changes = list(zip(names, before, after, strict=True))
    better = tuple(name for name, old, new in changes if new > old)
    worse = tuple(name for name, old, new in changes if new < old)
    p = sign_test(*moved)
    return Paired(run.name, other.name, run.about, len(set(items)), gain, better, worse, moved, p, p)


def side_by_side(runs: Sequence[Scores]) -> tuple[Paired, ...]:
    """Compare each run with earlier runs of the same task or judge. Holm's procedure corrects p-values."""
    pairs = ((two, one) for one, two in combinations(runs, 2) if one.about == two.about)
    found = [each for pair in pairs if (each := paired(*pair))]
    corrected = holm([each.p for each in found])
    return tuple(replace(each, holm=p, of=len(found)) for each, p in zip(found, corrected, strict=True))


def sections(differences: Sequence[Paired], noun: str, *, as_percent: bool) -> Iterator[Part]:
    """Yield a section for each comparison."""
    factor, digits = (100, 1) if as_percent else (1, 2)
    for each in differences:
        figures = plain(each.gain.times(factor), digits, sign=True)
        lines = [Line("difference", *figures, f"points; {counted(each.count, noun)} in both")]
        for name, ids in (("better", each.better), ("worse", each.worse)):
            lines.append(Line(f"  {name}", f"{len(ids):,}", "", listed(ids)))
        if each.better or each.worse:
            of = f" on each question's sum: {each.moved[0]:,} better and {each.moved[1]:,} worse"
            of *= each.moved != (len(each.better), len(each.worse))
            several = f"; {each.holm:.2g} corrected for {each.of} comparisons" * (each.of > 1)
            lines.append(Line("  p", f"{each.p:.2g}", "", f"exact sign test{of}{several}"))
        claim = claimed(each.name, each.other, each.gain, 0, f"{figures[0]} points ({figures[1]})")
        yield Part(f"{each.name} minus {each.other}", each.about, lines=lines, claim=claim)
