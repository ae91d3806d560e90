"""Say what changed since an earlier report, of which its JSON is read.

Questions stay pairs, so that a small change can be told from chance. A comparison belongs to the earlier one
of the same models. If both reports have a single comparison with the same opponent, these belong together,
because a new version of a model often has a new name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ValidationError

from redraft.chain import describe
from redraft.errors import RecordError
from redraft.evaluation.reports.compare import Comparison, JudgedQuestion, extremes
from redraft.formats.read.files import open_input, reading
from redraft.stats import CHANGE, Bootstrap, Estimate, Numbers, ratio_of

_HINT = "Keep the JSON of a run for the next one: redraft report REVIEWS --json > last.json"


class _Past(BaseModel):
    """What is read of a comparison."""

    model: str
    opponent: str
    by_question: list[JudgedQuestion]


class _Report(BaseModel):
    """What is read of a report."""

    comparisons: list[_Past]


@dataclass(frozen=True)
class Change:
    """How a comparison changed, in the questions that both reports have.

    Attributes:
        model: The name of the model now.
        before: Its name before.
        questions: Number of common questions.
        ratio: By how much the ratio of scores is higher; None without scores.
        win_rate: By how much the win rate is higher.
        better: Questions with a better outcome than before.
        worse: Questions with a worse one.
    """

    model: str
    before: str
    opponent: str
    questions: int
    ratio: Estimate | None
    win_rate: Estimate
    better: tuple[str, ...]
    worse: tuple[str, ...]


def changes(comparisons: Sequence[Comparison], past: Path) -> tuple[Change, ...]:
    """Return how comparisons changed since an earlier report.

    Raises:
        RecordError: The file is no report, or has none of the comparisons or questions.
    """
    reports = _read(past)
    found = tuple(_changes(comparisons, reports))
    if not found:
        models = "; ".join(f"{each.model} against {each.opponent}" for each in reports)
        raise RecordError(
            f"{past}: has no comparison of these models in these questions. It has: {models or 'none'}.",
            hint=_HINT,
        )
    return found


def _read(path: Path) -> list[_Past]:
    with reading(path), open_input(path) as file:
        data = file.read()
    try:
        return _Report.model_validate_json(data).comparisons
    except ValidationError as error:
        raise RecordError(f"{path}: is not a report: {describe(error)}.", hint=_HINT) from None


def _changes(comparisons: Sequence[Comparison], reports: Sequence[_Past]) -> Iterator[Change]:
    single = len(comparisons) == len(reports) == 1
    for comparison in comparisons:
        for past in reports:
            same = past.opponent == comparison.opponent and (single or past.model == comparison.model)
            if same:
                earlier = {each.id: each for each in past.by_question}
                pairs = [(earlier[now.id], now) for now in comparison.by_question() if now.id in earlier]
                if pairs:
                    yield _change(comparison, past.model, pairs)


def _change(
    comparison: Comparison, before: str, pairs: Sequence[tuple[JudgedQuestion, JudgedQuestion]]
) -> Change:
    rows = [
        [value for each in (now, then) for value in (*(each.scores or (0, 0)), each.wins, 1)]
        for then, now in pairs
    ]
    sample = Bootstrap(rows, draws=comparison.draws, seed=comparison.seed)
    scored = all(each.scores for pair in pairs for each in pair)
    return Change(
        model=comparison.model,
        before=before,
        opponent=comparison.opponent,
        questions=len(pairs),
        ratio=sample.estimate(lambda sums: _gain(sums, 0), extremes=extremes(sample.sums, {0: 1, 4: -1}))
        if scored
        else None,
        win_rate=sample.estimate(lambda sums: _gain(sums, 2), CHANGE),
        better=tuple(now.id for then, now in pairs if now.outcome > then.outcome),
        worse=tuple(now.id for then, now in pairs if now.outcome < then.outcome),
    )


def _gain(sums: Numbers, column: int) -> Numbers:
    """Return by how much a ratio of neighbouring columns is higher in the first four than in the last."""
    now, then = (sums[..., start + column : start + column + 2] for start in (0, 4))
    return np.asarray(ratio_of(now) - ratio_of(then))
