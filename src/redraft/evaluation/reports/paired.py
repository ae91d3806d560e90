"""Compare two runs, paired by the records that both have: which is better, by how much, in which records.

A run is the scores of its records: 1 and 0 for right and wrong answers (then the test of signs is McNemar's),
or grades.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from redraft.evaluation.judging.reviews import Key
from redraft.evaluation.records import listed
from redraft.evaluation.stats import SHARE, Bounds, Estimate, clustered, difference, holm, sign_test
from redraft.evaluation.tables import Line, Part, claimed, plain
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
    """How much better a run is than another, in the records that both have."""

    name: str
    other: str  # what it is compared with
    about: str  # their task or judge
    count: int  # number of records in both
    gain: Estimate  # by how much the mean score is higher
    better: tuple[str, ...]  # records with a better score, `ID` or `ID, turn 2`
    worse: tuple[str, ...]  # records with a worse one
    moved: tuple[int, int]  # how many questions are better and worse, over all turns and runs of each
    p: float  # the exact p of so uneven a split of questions, if both were equally probable
    holm: float  # the same, corrected for the number of comparisons by Holm's procedure
    of: int = 1  # that number


def paired(run: Scores, other: Scores) -> Paired | None:
    """Return the comparison of two runs; None without common records."""
    keys = [key for key in run.values if key in other.values]
    if not keys:
        return None
    before, after = ([each.values[key] for key in keys] for each in (other, run))
    items = [run.items.get(record, record) for record, _ in keys]
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
    """Compare each two runs of a task or judge: later minus earlier, p corrected for the number of pairs."""
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
            of = f", of {each.moved[0]:,} better and {each.moved[1]:,} worse over all turns"
            of *= each.moved != (len(each.better), len(each.worse))
            several = f"; {each.holm:.2g} corrected for {each.of}" * (each.of > 1)
            lines.append(Line("  p", f"{each.p:.2g}", "", f"exact test of signs{of}{several}"))
        claim = claimed(each.name, each.other, each.gain, 0, f"{figures[0]} points ({figures[1]})")
        yield Part(f"{each.name} minus {each.other}", each.about, lines=lines, claim=claim)
