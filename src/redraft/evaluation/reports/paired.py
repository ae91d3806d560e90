"""Compare two runs by the records that both have, paired: by how much one is better, and in which records.

A run is the scores of its records: 1 and 0 for right and wrong answers, or grades. The same comparison serves
files side by side, and what changed since an earlier report. For right and wrong answers, the test of signs
is McNemar's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations

import numpy as np

from redraft.counting import counted
from redraft.errors import RecordError
from redraft.evaluation.judging.grades import Key
from redraft.evaluation.records import listed
from redraft.evaluation.reports.sides import Given
from redraft.evaluation.tables import Line, Section, plain
from redraft.stats import SHARE, Bootstrap, Bounds, Estimate, clustered, holm, ratio_of, sign_test

HINT = "Keep the JSON of a report for the next one: redraft report FILE --json > last.json"


@dataclass(frozen=True)
class Scores:
    """The scores of a run.

    Attributes:
        name: Whose they are: a file or a model.
        about: What they are of: a task or a judge. Others are never compared.
        values: By record and turn.
        items: The item of each record that has another one, such as its question.
        bounds: The least and the greatest score.
    """

    name: str
    about: str
    values: Mapping[Key, float]
    items: Mapping[str, str] = field(default_factory=dict)
    bounds: Bounds = SHARE


@dataclass(frozen=True)
class Paired:
    """By how much a run is better than another in the records that both have.

    Attributes:
        name: The run.
        other: What it is compared with; the same name for an earlier run.
        about: Their task or judge.
        count: Number of records in both.
        gain: By how much the mean score is higher.
        better: Records with a better score, `ID` or `ID, turn 2`.
        worse: Records with a worse one.
        moved: How many questions are better and worse, over all turns and runs of each.
        p: The exact p of so uneven a split of questions, if both were equally probable.
        holm: The same, corrected for the number of comparisons by Holm's procedure.
        of: That number.
    """

    name: str
    other: str
    about: str
    count: int
    gain: Estimate
    better: tuple[str, ...]
    worse: tuple[str, ...]
    moved: tuple[int, int]
    p: float
    holm: float
    of: int = 1


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
    better, worse = (
        tuple(_named(key) for key in keys if (run.values[key] - other.values[key]) * sign > 0)
        for sign in (1, -1)
    )
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


def _named(key: Key) -> str:
    record, turn = key
    return record if turn == 1 else f"{record}, turn {turn}"


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
    """Return what changed since an earlier report.

    A run belongs to the earlier one of the same name and task or judge. Single runs belong together whatever
    their names.

    Raises:
        RecordError: The report has none of the runs or records.
    """
    single = len(runs) == len(past) == 1
    pairs = [
        (run, then)
        for run in runs
        for then in past
        if run.about == then.about and (single or run.name == then.name)
    ]
    found = _corrected(paired(*pair, given.draws, given.seed) for pair in pairs)
    if not found:
        names = "; ".join(f"{each.name}{f', {each.about}' * bool(each.about)}" for each in past)
        raise RecordError(
            f"{given.against}: has none of these runs with one of these records. It has: {names or 'none'}.",
            hint=HINT,
        )
    return found


def sections(
    differences: Sequence[Paired], changes: Sequence[Paired], noun: str, *, as_percent: bool
) -> Iterator[Section]:
    """Yield a section for each comparison.

    Args:
        differences: Of files side by side.
        changes: Of runs with earlier ones.
        noun: What a record is, such as `question`.
        as_percent: Scores are shares.
    """
    lines = partial(_lines, noun, 100 if as_percent else 1)
    for each in changes:
        yield Section(f"{each.name} since {_before(each)}", "", tuple(lines(each)))
    for each in differences:
        yield Section(f"{each.name} less {each.other}", each.about, tuple(lines(each)))


def _before(each: Paired) -> str:
    return each.other if each.other != each.name else "the last report"


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
