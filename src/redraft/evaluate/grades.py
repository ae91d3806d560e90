"""The mean of grades of single answers, with its interval over questions, by judge and turn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from redraft.evaluate import stats
from redraft.evaluate.stats import Bootstrap, Estimate


@dataclass(frozen=True)
class Grades:
    """Grades of a model's answers by one judge, in one turn.

    Attributes:
        judge: The name of the judge's model.
        questions: How many questions have a grade.
        mean: Of the grades, 1 to 10.
    """

    model: str
    judge: str
    turn: int
    questions: int
    mean: Estimate


def grades_of(records: Iterable[Mapping[str, Any]]) -> Iterator[Grades]:
    """Yield the mean grade of each model, judge and turn. Grades that could not be read do not count."""
    groups: defaultdict[tuple[str, str, int], list[tuple[str, float]]] = defaultdict(list)
    for record in records:
        if record["score"] is not None:
            key = (record["model"], record["judge"][0], record["turn"])
            groups[key].append((str(record["question_id"]), record["score"]))
    for key, found in sorted(groups.items()):
        rows = stats.clustered([[score, 1] for _, score in found], [question for question, _ in found])
        mean = Bootstrap(rows).estimate(lambda sums: np.asarray(sums[..., 0] / sums[..., 1]))
        yield Grades(*key, len(rows), mean)
