"""Describe files for `redraft report`: what the records are decides which report it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from redraft.errors import UsageError
from redraft.evaluation.reports.grades import GradeReport, describe_grades
from redraft.evaluation.reports.inputs import Material, kind_of, opened
from redraft.evaluation.reports.reviews import Report, describe_reviews
from redraft.evaluation.reports.runs import RunReport, describe_runs

AnyReport = Report | GradeReport | RunReport


def describe(
    files: Sequence[Path],
    *,
    answers: Sequence[Path] = (),
    questions: Path | None = None,
) -> AnyReport:
    """Describe files of reviews, of grades, or of chains: all of one kind.

    `answers` are those that were judged, a file for each model; `questions` what was asked.
    """
    inputs = list(map(opened, files))
    kind = kind_of(inputs)
    if answers and kind == "chains":
        raise UsageError("--answers goes with reviews and grades.", hint="Chains have their answers.")
    material = Material.read(answers, questions)
    if kind == "reviews":
        return describe_reviews(inputs, material)
    return describe_grades(inputs, material) if kind == "grades" else describe_runs(inputs, material)
